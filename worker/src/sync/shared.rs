//! What the sync's task and its handles share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::state::State;
use crate::{config::SyncSettings, telemetry::Status};

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Something was told that may call for work.
    pub(super) told: Notify,
    pub(super) epoch: Instant,
    pub(super) settings: SyncSettings,
    pub(super) status: Arc<Status>,
}

impl Shared {
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.lock())
    }

    /// As [`Shared::look`], and lets the work go on.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = self.look(change);
        self.told.notify_one();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
