//! The end: turns get time to end, the backend is told, OpenCode is stopped.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::Worker;
use crate::{
    env::Env,
    lifecycle::state::{Action, Event},
};

/// How long turns may take to end after their grace period: an abort, and the last writes.
const LAST_WRITES: Duration = Duration::from_secs(10);
/// How long the goodbye to the backend may take.
const GOODBYE: Duration = Duration::from_secs(3);
/// How long OpenCode may take to end by itself.
const SERVER_GRACE: Duration = Duration::from_secs(5);

/// How long the turns that run may still take.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    Unlimited,
    Grace { until: Instant },
    LastWrites { until: Instant },
}

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
            self.calls.push(Box::pin(std::future::ready(Some(Event::Drained))));
        }
    }

    pub(super) fn drained(&mut self) -> Vec<Action> {
        let is_drained = self.inbox.is_closed() && self.turns.is_empty();
        if is_drained { self.apply(Event::Drained) } else { Vec::new() }
    }

    pub(super) fn lose_patience(&mut self) -> Vec<Action> {
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
                    let noted = timeout(GOODBYE, backend.update_last_sync_timestamp(moment)).await;
                    tracing::debug!(?noted, "noted up to when Convex is synced");
                }
                match timeout(GOODBYE, backend.set_offline()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "cannot say goodbye"),
                    Err(_) => tracing::warn!("the goodbye took too long"),
                }
            }
            server.shutdown(SERVER_GRACE).await;
            Some(Event::Closed)
        }));
    }
}

pub(super) async fn patience_over(patience: Patience) {
    match patience {
        Patience::Unlimited => std::future::pending().await,
        Patience::Grace { until } | Patience::LastWrites { until } => sleep_until(until).await,
    }
}
