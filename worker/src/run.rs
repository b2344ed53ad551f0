//! One worker, wired: the only place where its parts meet. The same function runs in production and in simulation.

mod calls;
mod models;
mod publishing;
mod recovery;
mod stopping;
mod turns;
mod worker;

use std::{panic::resume_unwind, sync::Arc};

use futures_util::StreamExt;
use tokio::time::timeout;

pub use self::worker::Stop;
use self::{
    calls::{next_approval, next_event},
    stopping::patience_over,
    worker::{Patience, Pulse, TurnEnd, Worker},
};
use crate::{
    config::Config,
    convex::{
        Backend, ConvexClient, Window,
        api::{SessionId, TurnId},
    },
    env::Env,
    lifecycle::state::{Exit, LifecycleAction, LifecycleEvent},
    telemetry::{PULSE, Status},
};

/// Runs one worker until it is asked to stop or may not work any more.
pub async fn run<E: Env>(env: E, config: Config, stop: Stop, status: Arc<Status>) -> Exit {
    let (client, mut connection) = ConvexClient::start(&env, config.convex_url.clone());
    let backend = Backend::new(client, config.token.clone());
    let mut worker = Worker::new(env, config, backend, stop, status);
    let mut actions = worker.apply(LifecycleEvent::Start);
    loop {
        for action in actions {
            if let LifecycleAction::Exit(exit) = action {
                return exit;
            }
            worker.perform(action);
        }
        worker.status.beat();
        // Nothing is lost when the wait is cut short: it is one select, and all that it waits for may be dropped.
        let input = tokio::select! {
            biased;
            // It lives as long as its client, so only a panic ends it, and nobody can go on without it.
            Err(panic) = &mut connection => resume_unwind(panic.into_panic()),
            input = timeout(PULSE, worker.next_input()) => input,
        };
        actions = input.map_or_else(|_| Vec::new(), |input| worker.handle(input));
    }
}

/// Everything that can happen to a worker.
enum Input {
    Lifecycle(LifecycleEvent),
    Window(Window),
    /// The subscription to the approval has said nothing for long.
    ApprovalSilent,
    TurnEnded(SessionId, TurnEnd),
    /// A turn that could not be claimed has waited long enough.
    ClaimAgain(TurnId),
    Pulse(Pulse),
    /// The turns that still run have used up their grace period, or the time after it.
    PatienceOver,
}

impl<E: Env> Worker<E> {
    /// Waits for whatever comes next.
    async fn next_input(&mut self) -> Input {
        let stopping = self.inbox.is_closed();
        tokio::select! {
            () = self.stop.gracefully.cancelled(), if !stopping => Input::Lifecycle(LifecycleEvent::StopRequested),
            () = self.stop.now.cancelled(), if matches!(self.patience, Patience::Grace { .. }) => Input::PatienceOver,
            () = patience_over(self.patience) => Input::PatienceOver,
            Some(event) = next_event(&mut self.calls) => Input::Lifecycle(event),
            Some((session, result)) = self.ended.recv() => Input::TurnEnded(session, result),
            Some(turn) = self.claims.next() => Input::ClaimAgain(turn),
            pulse = or_pending(self.heart.as_mut()) => Input::Pulse(pulse),
            window = async { or_pending(self.window.as_mut().map(|w| Box::pin(w.next()))).await } => match window {
                Ok(window) => Input::Window(window),
                Err(error) => Input::Lifecycle(LifecycleEvent::Failed(error)),
            },
            approval = async { or_pending(self.approval.as_mut().map(|a| Box::pin(next_approval(a)))).await } => {
                match approval {
                    Some(approval) => Input::Lifecycle(approval.map_or_else(LifecycleEvent::Failed, LifecycleEvent::ApprovalSeen)),
                    None => Input::ApprovalSilent,
                }
            }
        }
    }

    fn handle(&mut self, input: Input) -> Vec<LifecycleAction> {
        match input {
            Input::Lifecycle(event) => self.apply(event),
            Input::ApprovalSilent => {
                self.watch_approval();
                Vec::new()
            }
            Input::Window(window) => {
                self.connect(window.connect_requested_at);
                let actions = self.inbox.window_changed(window);
                self.perform_all(actions);
                Vec::new()
            }
            Input::TurnEnded(session, Ok(result)) => self.turn_ended(&session, result),
            Input::ClaimAgain(turn) => {
                self.claim_again(&turn);
                Vec::new()
            }
            Input::TurnEnded(_, Err(panic)) => resume_unwind(panic),
            Input::Pulse(pulse) => self.pulse(pulse),
            Input::PatienceOver => self.lose_patience(),
        }
    }

    fn apply(&mut self, event: LifecycleEvent) -> Vec<LifecycleAction> {
        if let LifecycleEvent::Failed(error) = &event {
            tracing::warn!(%error, phase = ?self.lifecycle.phase(), "a call failed");
        }
        let before = self.lifecycle.phase();
        let actions = self.lifecycle.apply(event);
        let after = self.lifecycle.phase();
        if before != after {
            tracing::info!(from = ?before, to = ?after, "phase");
            self.status.set_phase(after);
        }
        actions
    }

    fn perform(&mut self, action: LifecycleAction) {
        match action {
            LifecycleAction::Register => self.register(),
            LifecycleAction::Adopt { epoch } => self.adopt(epoch),
            LifecycleAction::WatchApproval => self.watch_approval(),
            LifecycleAction::ExpirePage => self.expire_page(),
            LifecycleAction::MarkConnected => {
                self.approval = None;
                self.mark_connected();
            }
            LifecycleAction::OpenWindow => self.open_window(),
            LifecycleAction::CloseWindow => {
                self.window = None;
                self.sync_with.send_replace(None);
                self.heart = None;
                // The next window shows them anew.
                self.claims.clear();
                self.inbox.window_closed();
            }
            LifecycleAction::Pause { attempt } => self.pause(attempt),
            LifecycleAction::Drain { patiently } => self.drain(patiently),
            LifecycleAction::Close { set_offline } => self.close(set_offline),
            LifecycleAction::Exit(_) => unreachable!("an exit ends the loop before it is performed"),
        }
    }
}

/// The future's output, or never.
async fn or_pending<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
