//! Where a turn stands between its prompt and its end, and how it ends.

use std::time::Duration;

use crate::turns::failure::Failure;

/// How long the last message may follow the session's idleness.
pub(super) const IDLE_GRACE: Duration = Duration::from_secs(2);
/// How long OpenCode may take to stop each time that it is asked.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is asked.
const MAX_ABORTS: u32 = 2;

/// How a turn ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With a whole reply.
    Completed,
    /// Without one; what came is kept.
    Failed(Failure),
    /// It was ended by somebody else; nothing is to be written.
    Gone,
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Where a turn stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing shows yet that OpenCode works on the prompt.
    Prompted,
    /// It works.
    Working,
    /// It says that it has finished.
    Idle(Idle),
    /// It was asked to stop.
    Aborting(Abort),
}

impl Phase {
    /// The session has just become idle.
    pub(super) fn idle(now: Duration) -> Self {
        Self::Idle(Idle { since: now, is_confirmed: false, is_overdue: false })
    }

    pub(super) fn is_aborting(&self) -> bool {
        matches!(self, Self::Aborting(_))
    }
}

/// A session that says that it has finished.
#[derive(Debug)]
pub(super) struct Idle {
    /// Since when, or when its end was last looked for.
    pub(super) since: Duration,
    /// The messages were read again meanwhile.
    pub(super) is_confirmed: bool,
    /// The last step's end did not come in time: a re-read confirms that there is none, or shows what follows.
    pub(super) is_overdue: bool,
}

/// A turn that is being broken off.
#[derive(Debug)]
pub(super) struct Abort {
    /// How the turn ends when OpenCode has stopped.
    pub(super) ending: Ending,
    /// When OpenCode was asked last.
    since: Duration,
    /// How often it may still be asked.
    pub(super) left: u32,
    /// When the session became idle.
    pub(super) idle: Option<Duration>,
    /// It was asked often enough, and did not stop.
    pub(super) in_vain: bool,
}

impl Abort {
    /// OpenCode is being asked for the first time.
    pub(super) fn new(ending: Ending, now: Duration) -> Self {
        Self { ending, since: now, left: MAX_ABORTS - 1, idle: None, in_vain: false }
    }

    /// Returns when something is to be done about it.
    pub(super) fn until(&self) -> Duration {
        let gives_up = self.since + ABORT_TIMEOUT;
        self.idle.map_or(gives_up, |idle| gives_up.min(idle + IDLE_GRACE))
    }

    /// Returns true if OpenCode has had its time to stop.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.in_vain || self.idle.is_some_and(|idle| now >= idle + IDLE_GRACE)
    }

    /// Its time is over: whether it is to be asked again, or will not stop.
    pub(super) fn ask_again(&mut self, now: Duration) -> bool {
        if self.left == 0 {
            self.in_vain = true;
            return false;
        }
        (self.left, self.since) = (self.left - 1, now);
        true
    }
}
