//! What is reported of a broken property.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sim_model::{
    Label,
    trace::{Fact, Micros},
};

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Something forbidden happened.
    Safety,
    /// Something promised did not happen in time.
    Liveness,
}

impl fmt::Display for Class {
    /// As in the report.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A broken property.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
pub struct Violation {
    /// The oracle that saw it.
    pub oracle: Label,
    /// Which promise was broken.
    pub class: Class,
    /// When (µs of simulated time).
    pub at: Micros,
    /// What happened and what should have been.
    pub message: String,
    /// The facts that led to it, oldest first.
    pub story: Vec<Fact>,
}
