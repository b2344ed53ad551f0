//! How a run ended.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sim_oracles::{Class, Violation};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunVerdict {
    /// Nothing forbidden happened, and everything promised did.
    Passed,
    /// Something forbidden happened.
    Safety,
    /// Something promised did not happen in time.
    Liveness,
    /// Someone stopped the run.
    Interrupted,
}

impl RunVerdict {
    /// The verdict that follows from what was found.
    #[must_use]
    pub fn of(violations: &[Violation], interrupted: bool) -> Self {
        if violations.iter().any(|violation| violation.class == Class::Safety) {
            return Self::Safety;
        }
        match (violations.is_empty(), interrupted) {
            (false, _) => Self::Liveness,
            (true, true) => Self::Interrupted,
            (true, false) => Self::Passed,
        }
    }

    /// What it means, in a few words.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Passed => "every oracle is content",
            Self::Safety => "something forbidden happened",
            Self::Liveness => "something promised did not happen",
            Self::Interrupted => "nothing is proved",
        }
    }
}

impl fmt::Display for RunVerdict {
    /// As in the report.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
