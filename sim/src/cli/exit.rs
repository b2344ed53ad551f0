//! What the exit code says.

use std::process::ExitCode;

use sim_report::{RunVerdict, sweep::report::SweepVerdict};

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Passed = 0,
    /// The simulator itself failed.
    Internal = 1,
    /// It was asked for something that makes no sense.
    Usage = 2,
    /// Something forbidden happened.
    Safety = 10,
    /// Something promised did not happen in time.
    Liveness = 11,
    /// Two runs of one seed differed.
    Nondeterminism = 12,
    /// A figure is worse than in the baseline, a goal was missed, or a run is another one.
    Regression = 13,
    /// A state that must be reached was reached by no run.
    Unreached = 14,
    /// Stopped by Ctrl-C.
    Interrupted = 130,
}

impl From<RunVerdict> for Exit {
    fn from(verdict: RunVerdict) -> Self {
        match verdict {
            RunVerdict::Passed => Self::Passed,
            RunVerdict::Safety => Self::Safety,
            RunVerdict::Liveness => Self::Liveness,
            RunVerdict::Interrupted => Self::Interrupted,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<SweepVerdict> for Exit {
    fn from(verdict: SweepVerdict) -> Self {
        match verdict {
            SweepVerdict::Passed => Self::Passed,
            SweepVerdict::Interrupted => Self::Interrupted,
            SweepVerdict::Unreached => Self::Unreached,
            SweepVerdict::Crashed => Self::Internal,
            SweepVerdict::Liveness => Self::Liveness,
            SweepVerdict::Safety => Self::Safety,
        }
    }
}
