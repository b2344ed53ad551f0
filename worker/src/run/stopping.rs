//! The end: turns get time to end, the backend is told, OpenCode is stopped.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::worker::{Patience, Worker};
use crate::{
    env::Env,
    lifecycle::state::{LifecycleAction, LifecycleEvent},
};

/// How long turns may take to end after their grace period: an abort, and the last writes.
const LAST_WRITES: Duration = Duration::from_secs(10);
/// How long each of the last calls to the backend may take.
const OFFLINE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long OpenCode may take to end by itself.
const SERVER_GRACE: Duration = Duration::from_secs(5);

impl<E: Env> Worker<E> {
    pub(super) fn drain(&mut self, patiently: bool) {
        self.inbox.close();
        let until = Instant::now() + self.config.settings.lifecycle.stop_grace;
        self.patience = Patience::Grace { until };
        if !patiently {
            // Nothing that they write would be accepted.
            self.turns.clear();
        }
        if self.turns.is_empty() {
            self.calls.push(Box::pin(std::future::ready(Some(LifecycleEvent::Drained))));
        }
    }

    pub(super) fn drained(&mut self) -> Vec<LifecycleAction> {
        let is_drained = self.inbox.is_closed() && self.turns.is_empty();
        if is_drained { self.apply(LifecycleEvent::Drained) } else { Vec::new() }
    }

    pub(super) fn lose_patience(&mut self) -> Vec<LifecycleAction> {
        match self.patience {
            Patience::Unlimited => Vec::new(),
            Patience::Grace { .. } => {
                self.stop_turns.cancel();
                self.patience = Patience::LastWrites { until: Instant::now() + LAST_WRITES };
                Vec::new()
            }
            Patience::LastWrites { .. } => {
                tracing::warn!(
                    turns = self.turns.len(),
                    "turns did not end in time; the next start expires them"
                );
                self.patience = Patience::Unlimited;
                self.turns.clear();
                self.drained()
            }
        }
    }

    pub(super) fn close(&mut self, set_offline: bool) {
        self.patience = Patience::Unlimited;
        let (server, backend) = (self.server.clone(), self.backend.clone());
        let synced_until = self.sync.unsaved();
        self.calls.push(Box::pin(async move {
            if set_offline {
                if let Some(moment) = synced_until {
                    let saved = timeout(OFFLINE_TIMEOUT, backend.update_last_sync_timestamp(moment)).await;
                    tracing::debug!(?saved, "saved up to when Convex is synced");
                }
                match timeout(OFFLINE_TIMEOUT, backend.set_offline()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "cannot set the worker offline"),
                    Err(_) => tracing::warn!("setting the worker offline took too long"),
                }
            }
            server.shutdown(SERVER_GRACE).await;
            Some(LifecycleEvent::Closed)
        }));
    }
}

pub(super) async fn patience_over(patience: Patience) {
    match patience {
        Patience::Unlimited => std::future::pending().await,
        Patience::Grace { until } | Patience::LastWrites { until } => sleep_until(until).await,
    }
}
