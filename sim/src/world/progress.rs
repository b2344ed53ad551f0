//! What a run lets others see while it runs. It flows one way: the run never waits for it or depends on it, except that
//! it ends early when asked to.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The state of a run, shared between its thread and the one that shows it.
#[derive(Debug, Default)]
pub struct Progress {
    simulated_ms: AtomicU64,
    turns_sent: AtomicU64,
    turns_ended: AtomicU64,
    workers_up: AtomicU64,
    interrupted: AtomicBool,
}

/// One look at a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Simulated time.
    pub simulated: Duration,
    /// Turns sent.
    pub turns_sent: u64,
    /// Turns that have ended.
    pub turns_ended: u64,
    /// Workers that are up.
    pub workers_up: u64,
}

impl Progress {
    /// The state now. The numbers may be of two moments close to each other.
    #[must_use]
    pub fn look(&self) -> Look {
        Look {
            simulated: Duration::from_millis(self.simulated_ms.load(Relaxed)),
            turns_sent: self.turns_sent.load(Relaxed),
            turns_ended: self.turns_ended.load(Relaxed),
            workers_up: self.workers_up.load(Relaxed),
        }
    }

    /// Asks the run to end at its next step.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Relaxed);
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }

    pub(crate) fn show(&self, look: Look) {
        let millis = u64::try_from(look.simulated.as_millis()).unwrap_or(u64::MAX);
        self.simulated_ms.store(millis, Relaxed);
        self.turns_sent.store(look.turns_sent, Relaxed);
        self.turns_ended.store(look.turns_ended, Relaxed);
        self.workers_up.store(look.workers_up, Relaxed);
    }
}
