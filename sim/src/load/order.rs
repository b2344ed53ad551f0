//! What to run in real time, and why there may be no report.

use std::{ffi::OsString, io, time::Duration};

use sim_model::order::Order;
use sim_oracles::Ceilings;

use super::steps::Rising;
use crate::error::RunError;

/// Resident memory that a worker may take when idle, and ever (what the project aims at).
pub const CEILINGS: Ceilings = Ceilings { idle: 16 << 20, peak: 48 << 20 };

/// What to run in real time.
#[derive(Debug, Clone)]
pub struct LoadOrder {
    /// Scenario, seed, trace and replay, as for a simulation.
    pub order: Order,
    /// The worker's program and arguments. It is told the rest by its environment: `CONVEX_URL`, `WORKER_TOKEN`,
    /// `WORKER_DIRECTORY`, `WORKER_OPENCODE` and `WORKER_CONFIG`, as ours reads them.
    pub command: Vec<OsString>,
    /// How that worker was built, for the report.
    pub profile: String,
    /// How many times as fast as in the scenario people, restarts and models are. The worker's own times stay.
    pub time_scale: f64,
    /// People and restarts end after this time (real), however long the scenario is.
    pub limit: Option<Duration>,
    /// How long a function of the backend takes besides its own work.
    pub execution: Duration,
    /// How much memory a worker's process may take.
    pub ceilings: Ceilings,
    /// People send what this says instead of what the scenario says.
    pub rising: Option<Rising>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// As in simulation.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A place for worker and OpenCode cannot be set up.
    #[error("cannot set up a place for worker and OpenCode: {0}")]
    Place(#[from] io::Error),
    /// The worker cannot be started.
    #[error("cannot start the worker `{command}`: {source}")]
    Start {
        /// Its program.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The worker's settings cannot be written down.
    #[error("cannot write the worker's config: {0}")]
    Config(#[from] toml::ser::Error),
}
