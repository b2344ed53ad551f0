//! How a turn is broken off: OpenCode is asked to stop and waited for, so that the next prompt finds the session idle.
//!
//! A turn that cannot go on may still be worked on, so it does not end before OpenCode has stopped or has been asked in
//! vain, twice. After an abort the session is idle first, and then the last message ends (measured).

use std::time::Duration;

use super::{Action, Ending, Phase, SETTLE, Step, Turn};
use crate::turns::failure::Failure;

/// How long OpenCode may take to stop each time that it is asked.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is asked.
const MAX_ABORTS: u32 = 2;

/// A turn that is being broken off.
#[derive(Debug)]
pub(super) struct Abort {
    /// How the turn ends when OpenCode has stopped.
    ending: Ending,
    /// When OpenCode was asked last.
    since: Duration,
    /// How often it may still be asked.
    left: u32,
    /// When the session became idle.
    idle: Option<Duration>,
    in_vain: bool,
}

impl Abort {
    /// When something is to be done about it.
    pub(super) fn until(&self) -> Duration {
        let gives_up = self.since + ABORT_TIMEOUT;
        self.idle.map_or(gives_up, |idle| gives_up.min(idle + SETTLE))
    }

    fn is_over(&self, now: Duration) -> bool {
        self.in_vain || self.idle.is_some_and(|idle| now >= idle + SETTLE)
    }
}

impl Turn {
    /// OpenCode was asked to stop and did not: the session may still be busy.
    pub fn is_stuck(&self) -> bool {
        self.abort.as_ref().is_some_and(|abort| abort.in_vain)
    }

    pub(super) fn abort(&mut self, why: impl Into<Ending>, now: Duration, actions: &mut Vec<Action>) -> Step {
        if self.abort.is_none() {
            let left = MAX_ABORTS - 1;
            self.abort = Some(Abort { ending: why.into(), since: now, left, idle: None, in_vain: false });
            self.phase = Phase::Aborting;
            actions.push(Action::Abort);
        }
        Ok(())
    }

    /// The worker stops, and OpenCode with it: it is asked once.
    pub(super) fn stop(&mut self, now: Duration, actions: &mut Vec<Action>) -> Step {
        self.abort(Failure::stopping(), now, actions)?;
        self.abort.iter_mut().for_each(|abort| abort.left = 0);
        Ok(())
    }

    /// Nothing works on the turn any more.
    pub(super) fn server_lost(&mut self, reason: &str, now: Duration) -> Step {
        self.phase = Phase::Idle(now);
        let lost = || Failure::server_lost(reason).into();
        Err(self.abort.take().map_or_else(lost, |abort| abort.ending))
    }

    pub(super) fn aborted_is_idle(&mut self, now: Duration) {
        self.abort.iter_mut().for_each(|abort| abort.idle = abort.idle.or(Some(now)));
    }

    /// OpenCode takes its time.
    pub(super) fn still_aborting(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Some(abort) = self.abort.as_mut().filter(|abort| !abort.is_over(now)) else { return };
        if abort.left == 0 {
            abort.in_vain = true;
            return;
        }
        (abort.left, abort.since) = (abort.left - 1, now);
        actions.push(Action::Abort);
    }

    /// Ends the turn if OpenCode has stopped, or will not.
    pub(super) fn stopped(&self, now: Duration) -> Step {
        let Some(abort) = &self.abort else { return Ok(()) };
        let has_ended = self.is_answered() || self.is_cut_off();
        let is_idle = abort.idle.is_some() && self.answers.is_empty();
        if has_ended || is_idle || abort.is_over(now) { Err(abort.ending.clone()) } else { Ok(()) }
    }

    /// The turn cannot go on, or is over. While OpenCode may still work on it, that is broken off first.
    pub(super) fn end(&mut self, ending: Ending, now: Duration, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Prompted | Phase::Working => {
                let _ = self.abort(ending, now, actions);
            }
            Phase::Idle(_) => actions.push(Action::End(ending)),
            // What comes after the decision changes nothing about it.
            Phase::Aborting => actions.extend(self.stopped(now).err().map(Action::End)),
        }
    }
}
