//! What a worker's life asks of the backend: registration, approval, stale turns, the window, heartbeats.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep, timeout_at};

use super::worker::{Call, Pulse, Worker};
use crate::{
    convex::{
        Backend,
        api::{Approval, ApprovalWatch},
    },
    env::Env,
    error::CallError,
    lifecycle::{
        heartbeat::{Pace, next_pause},
        state::{LifecycleAction, LifecycleEvent},
    },
    session::creator::Gate,
    turns::driver::TurnContext,
};

/// A subscription to the approval that says nothing for this long is opened anew: that asks, whatever became of it.
pub(super) const APPROVAL_POLL: Duration = Duration::from_secs(30);

impl<E: Env> Worker<E> {
    /// Starts a call; its failure is an event too.
    pub(super) fn call<F>(&self, call: impl FnOnce(Backend) -> F)
    where
        F: Future<Output = Result<LifecycleEvent, CallError>> + Send + 'static,
    {
        let call = call(self.backend.clone());
        self.calls.push(Box::pin(async move { Some(call.await.unwrap_or_else(LifecycleEvent::Failed)) }));
    }

    pub(super) fn register(&self) {
        let within = self.config.settings.turns.accept_unclaimed_within;
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).min(1 << 50);
        let (digest, retention) = (self.models_digest.clone(), self.config.settings.retention.days);
        self.call(move |backend| async move {
            let registration = backend.register(within, retention).await?;
            *digest.lock().unwrap_or_else(PoisonError::into_inner) = registration.models_digest;
            Ok(LifecycleEvent::Registered { epoch: registration.epoch, approval: registration.approval })
        });
    }

    pub(super) fn adopt(&mut self, epoch: f64) {
        self.backend = self.backend.with_epoch(epoch);
        let settings = self.config.settings.clone();
        let sessions = &settings.sessions;
        self.shared = Some(Arc::new(TurnContext {
            env: self.env.clone(),
            backend: self.backend.clone(),
            server: self.server.clone(),
            gate: Gate::new(sessions.creates_in_flight.max(1), sessions.creates_per_second.max(1)),
            cache: TurnContext::<E>::new_cache(&settings),
            sync: self.sync.clone(),
            status: self.status.clone(),
            settings,
        }));
    }

    pub(super) fn watch_approval(&mut self) {
        if self.approval.is_none() {
            let fingerprint = self.config.token.fingerprint();
            tracing::info!(
                fingerprint,
                "waits for its owner's approval; `workers:list` must show the same fingerprint"
            );
        }
        self.approval = Some((self.backend.watch_approval(), Instant::now() + APPROVAL_POLL));
    }

    pub(super) fn expire_page(&self) {
        let limit = self.config.settings.turns.expire_page;
        let status = self.status.clone();
        let running = self.turns.values().map(|running| running.turn.clone()).collect();
        self.call(move |backend| async move {
            let page = backend.expire_stale(limit, running).await?;
            status.add_expired(page.expired);
            Ok(LifecycleEvent::PageExpired { is_done: page.is_done })
        });
    }

    pub(super) fn open_window(&mut self) {
        self.window = Some(self.backend.watch_window(self.config.settings.turns.window));
        self.heart = Some(self.rest());
        self.sync_with.send_replace(Some(self.backend.clone()));
    }

    /// Waits until the next beat is due.
    fn rest(&self) -> BoxFuture<'static, Pulse> {
        let mut random = [0; 4];
        self.env.random(&mut random);
        let interval = self.pace.interval(&self.config.settings.heartbeat);
        let pause = next_pause(interval, u32::from_le_bytes(random));
        Box::pin(async move {
            sleep(pause).await;
            Pulse::Due
        })
    }

    /// One beat. One that waits for a connection delays the next instead of piling up.
    fn beat(&mut self) -> BoxFuture<'static, Pulse> {
        let (interval, backend) = (self.announced(), self.backend.clone());
        Box::pin(async move { Pulse::Answered(backend.heartbeat(interval).await) })
    }

    /// The pace of now, and its interval, which the backend is about to be told.
    fn announced(&mut self) -> Duration {
        self.pace = self.pace_of_now();
        self.pace.interval(&self.config.settings.heartbeat)
    }

    fn pace_of_now(&self) -> Pace {
        Pace::of(self.turns.len(), self.asked_to_connect.map(|at| at.elapsed()))
    }

    pub(super) fn mark_connected(&mut self) {
        let interval = self.announced();
        self.call(move |backend| async move {
            backend.mark_connected(interval).await.map(|()| LifecycleEvent::Connected)
        });
    }

    /// Somebody waits for the worker from now on: it does not wait for its next beat to say that it beats faster.
    pub(super) fn quicken(&mut self) {
        if self.heart.is_some() && self.pace == Pace::Idle && self.pace_of_now() == Pace::Busy {
            self.heart = Some(self.beat());
        }
    }

    pub(super) fn pulse(&mut self, pulse: Pulse) -> Vec<LifecycleAction> {
        match pulse {
            Pulse::Due => {
                self.heart = Some(self.beat());
                Vec::new()
            }
            Pulse::Answered(result) => {
                self.heart = result.is_ok().then(|| self.rest());
                self.apply(result.map_or_else(LifecycleEvent::Failed, |()| LifecycleEvent::Beat))
            }
        }
    }
}

/// Waits for what the approval is, or `None` when its subscription is to be opened anew.
pub(super) async fn next_approval(
    (watch, until): &mut (ApprovalWatch, Instant),
) -> Option<Result<Approval, CallError>> {
    timeout_at(*until, watch.next()).await.ok()
}

/// The next event among the calls; `None` (which a select ignores) if there are no calls or one ended without.
pub(super) async fn next_event(calls: &mut FuturesUnordered<Call>) -> Option<LifecycleEvent> {
    loop {
        match calls.next().await {
            Some(Some(event)) => return Some(event),
            Some(None) => {}
            None => return None,
        }
    }
}
