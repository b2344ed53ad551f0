//! How a turn is broken off: OpenCode is asked to stop and waited for, so that the next prompt finds the session idle.
//!
//! A turn that cannot go on may still be worked on, so it does not end before OpenCode has stopped or has been asked in
//! vain, twice. After an abort the session is idle first, and then the last message ends (measured).

use std::{mem, time::Duration};

use super::{
    Step, Turn, TurnAction,
    phase::{Abort, Ending, Phase},
};
use crate::turns::failure::Failure;

impl Turn {
    /// OpenCode was asked to stop and did not: the session may still be busy.
    pub fn is_stuck(&self) -> bool {
        matches!(&self.phase, Phase::Aborting(abort) if abort.in_vain)
    }

    pub(super) fn abort(
        &mut self,
        why: impl Into<Ending>,
        now: Duration,
        actions: &mut Vec<TurnAction>,
    ) -> Step {
        if !self.phase.is_aborting() {
            self.phase = Phase::Aborting(Abort::new(why.into(), now));
            actions.push(TurnAction::Abort);
        }
        Ok(())
    }

    /// The worker stops, and OpenCode with it: it is asked once.
    pub(super) fn stop(&mut self, now: Duration, actions: &mut Vec<TurnAction>) -> Step {
        self.abort(Failure::stopping(), now, actions)?;
        if let Phase::Aborting(abort) = &mut self.phase {
            abort.left = 0;
        }
        Ok(())
    }

    /// Nothing works on the turn any more.
    pub(super) fn server_lost(&mut self, reason: &str, now: Duration) -> Step {
        match mem::replace(&mut self.phase, Phase::idle(now)) {
            Phase::Aborting(abort) => Err(abort.ending),
            _ => Err(Failure::server_lost(reason).into()),
        }
    }

    /// OpenCode takes its time.
    pub(super) fn still_aborting(&mut self, now: Duration, actions: &mut Vec<TurnAction>) {
        if let Phase::Aborting(abort) = &mut self.phase
            && !abort.is_over(now)
            && abort.ask_again(now)
        {
            actions.push(TurnAction::Abort);
        }
    }

    /// Ends the turn if OpenCode has stopped, or will not.
    pub(super) fn stopped(&self, now: Duration) -> Step {
        let Phase::Aborting(abort) = &self.phase else { return Ok(()) };
        let has_ended = self.is_answered() || self.is_cut_off();
        let is_idle = abort.idle.is_some() && self.answers.is_empty();
        if has_ended || is_idle || abort.is_over(now) { Err(abort.ending.clone()) } else { Ok(()) }
    }

    /// The turn cannot go on, or is over. While OpenCode may still work on it, that is broken off first.
    pub(super) fn end(&mut self, ending: Ending, now: Duration, actions: &mut Vec<TurnAction>) {
        match self.phase {
            Phase::Prompted | Phase::Working => {
                let _ = self.abort(ending, now, actions);
            }
            Phase::Idle(_) => actions.push(TurnAction::End(ending)),
            // What comes after the decision changes nothing about it.
            Phase::Aborting(_) => actions.extend(self.stopped(now).err().map(TurnAction::End)),
        }
    }
}
