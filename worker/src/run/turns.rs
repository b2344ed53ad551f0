//! The turns that run: each is a task that the worker owns.

use std::{any::Any, panic::AssertUnwindSafe};

use futures_util::FutureExt;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::Worker;
use crate::{
    convex::{ReadySession, api::TurnId},
    env::Env,
    error::CallError,
    lifecycle::state::{Action, Event},
    turns::{
        driver::{self, Control},
        inbox,
    },
};

/// What a turn came to, or the panic that ended its task: a runtime keeps that to itself, and a turn that nobody
/// ends would keep its place for ever.
pub(super) type TurnEnd = Result<Result<(), CallError>, Box<dyn Any + Send>>;

/// A turn that runs.
pub(super) struct Running {
    pub(super) turn: TurnId,
    cancel: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl<E: Env> Worker<E> {
    pub(super) fn perform_all(&mut self, actions: Vec<inbox::Action>) {
        for action in actions {
            match action {
                inbox::Action::Start(row) => self.start_turn(row),
                inbox::Action::Cancel(turn) => {
                    self.turns
                        .values()
                        .filter(|running| running.turn == turn)
                        .for_each(|r| r.cancel.cancel());
                }
            }
        }
        self.status.set_turns_running(self.inbox.running());
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
        self.turns.insert(session, Running { turn, cancel, _task: AbortOnDropHandle::new(task) });
    }

    pub(super) fn turn_ended(&mut self, session: &str, result: Result<(), CallError>) -> Vec<Action> {
        if self.turns.remove(session).is_none() {
            return Vec::new();
        }
        let actions = self.inbox.ended(session);
        self.perform_all(actions);
        self.publish_models();
        let mut actions = match result {
            Ok(()) => Vec::new(),
            Err(error) => self.apply(Event::Failed(error)),
        };
        actions.extend(self.drained());
        actions
    }
}
