//! The turns that run: each is a task that the worker owns.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::worker::{RunningTurn, Worker};
use crate::{
    convex::{
        ReadySession,
        api::{CLAIM, TurnId},
    },
    env::Env,
    error::CallError,
    lifecycle::state::{LifecycleAction, LifecycleEvent},
    turns::{
        driver::{self, Control},
        inbox::InboxAction,
    },
};

/// The first pause before a turn that could not be claimed is tried again; doubles up to [`CLAIM_MAX`].
const CLAIM_MIN: Duration = Duration::from_secs(1);
const CLAIM_MAX: Duration = Duration::from_secs(60);

impl<E: Env> Worker<E> {
    pub(super) fn perform_all(&mut self, actions: Vec<InboxAction>) {
        for action in actions {
            match action {
                InboxAction::Start(row) => self.start_turn(row),
                InboxAction::Cancel(turn) => {
                    self.turns
                        .values()
                        .filter(|running| running.turn == turn)
                        .for_each(|r| r.cancel.cancel());
                }
            }
        }
        self.status.set_turns_running(self.inbox.running());
        self.quicken();
    }

    fn start_turn(&mut self, row: ReadySession) {
        let shared = self.shared.clone().expect("the window opens after registration");
        let report = self.report_end.clone();
        let control = Control { cancel: CancellationToken::new(), stop: self.stop_turns.clone() };
        let cancel = control.cancel.clone();
        let (session, turn) = (row.session.clone(), row.turn.clone());
        let task = self.env.spawn(async move {
            let result = AssertUnwindSafe(driver::run(&*shared, &row, &control)).catch_unwind().await;
            // The receiver lives as long as the worker.
            let _ = report.send((row.session, result)).await;
        });
        self.turns.insert(session, RunningTurn { turn, cancel, _task: AbortOnDropHandle::new(task) });
    }

    pub(super) fn turn_ended(
        &mut self,
        session: &str,
        result: Result<(), CallError>,
    ) -> Vec<LifecycleAction> {
        let Some(running) = self.turns.remove(session) else { return Vec::new() };
        let result = match result {
            // So many wait at most; more than that are no matter of single turns.
            Err(error)
                if is_of_one_claim(&error) && self.claims.len() < self.config.settings.turns.window =>
            {
                self.claim_later(running.turn, &error);
                Ok(())
            }
            result => result,
        };
        let actions = self.inbox.ended(session);
        self.perform_all(actions);
        self.publish_models();
        let mut actions = match result {
            Ok(()) => Vec::new(),
            Err(error) => self.apply(LifecycleEvent::Failed(error)),
        };
        actions.extend(self.drained());
        actions
    }

    /// A turn that cannot be claimed waits by itself, and nobody waits for it. There is no last try: the reason may be
    /// a mistake that was deployed and is taken back, and somebody waits for an answer.
    fn claim_later(&mut self, turn: TurnId, error: &CallError) {
        let failures = self.inbox.claim_failed(&turn);
        let pause = CLAIM_MIN.saturating_mul(1 << failures.min(10)).min(CLAIM_MAX);
        tracing::warn!(%turn, %error, pause_ms = pause.as_millis() as u64, "a turn cannot be claimed; others go on");
        self.claims.push(Box::pin(async move {
            sleep(pause).await;
            turn
        }));
    }

    pub(super) fn claim_again(&mut self, turn: &str) {
        let actions = self.inbox.try_again(turn);
        self.perform_all(actions);
    }
}

/// Returns true if a claim threw: it changed nothing then, and says nothing about the worker or about other turns.
fn is_of_one_claim(error: &CallError) -> bool {
    error.path() == CLAIM && error.was_thrown() && !error.concerns_worker()
}
