//! Runs in real time: the worker's binary as a process of its own, both fakes on loopback, the same people, the same
//! facts, the same oracles where they can be seen from outside.
//!
//! ```text
//! binary     which worker is measured
//! run        phases, restarts, looks at the processes
//! fakes      the fake Convex with the people, and the fake OpenCode: a thread each
//! stub       the executable that the worker starts instead of OpenCode; opencode gives it a server
//! process    a worker's processes: signals, /proc; remains and guard: what would outlive it is found and ended
//! probe      what the worker itself adds to a write; ledger, gauge, meter: what else is measured
//! scale      the scenario's moments in real time; steps: a load that rises until something gives way
//! ```
//!
//! Open loop: people send when it is time, however late the answers are, and latencies count from that moment.

pub mod binary;
mod fakes;
pub mod gauge;
pub mod goals;
pub mod guard;
pub mod ledger;
mod meter;
mod opencode;
pub mod probe;
pub mod process;
pub mod remains;
mod run;
mod scale;
pub mod steps;
pub mod stub;

use std::{ffi::OsString, io, sync::Arc, thread::JoinHandle, time::Duration};

use crate::load::steps::Rising;
use crate::{error::RunError, world::progress::Progress};
use sim_model::order::Order;
use sim_oracles::Ceilings;
use sim_report::Report;

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

/// Runs `order` on a thread of its own, which the worker processes do not outlive, and hands the report to `done`.
///
/// # Panics
/// If the system refuses another thread.
pub fn start<F>(order: LoadOrder, progress: Arc<Progress>, done: F) -> JoinHandle<()>
where
    F: FnOnce(Result<Report, LoadError>) + Send + 'static,
{
    let run = move || done(run::run(&order, &progress));
    std::thread::Builder::new().name("load".into()).spawn(run).expect("the system refuses another thread")
}
