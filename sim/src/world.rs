//! The simulated world: one thread, one network, one clock, one seed.

pub mod determinism;
mod injector;
pub mod memory;
pub mod network;
pub mod observe;
pub mod panics;
pub mod progress;
pub mod recorder;
mod run;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use clap::ValueEnum;

use crate::{plant::Plant, report::Report, scenario::Scenario, seed::Seed};
use progress::Progress;

/// What to run.
#[derive(Debug, Clone)]
pub struct Order {
    /// The scenario.
    pub scenario: Scenario,
    /// The root seed.
    pub seed: Seed,
    /// Bugs to plant.
    pub plants: Vec<Plant>,
    /// Where to write every fact, if anywhere.
    pub trace: Option<PathBuf>,
    /// The command that runs this again.
    pub replay: String,
}

impl Order {
    /// An order to run `scenario`, which stands in the file at `path`.
    #[must_use]
    pub fn of_file(path: &Path, scenario: Scenario, seed: Seed, plants: &[Plant]) -> Self {
        Self { scenario, seed, plants: plants.to_vec(), trace: None, replay: replay(path, seed, plants) }
    }
}

/// The command that runs the scenario at `path` with exactly this seed and these bugs.
#[must_use]
pub fn replay(path: &Path, seed: Seed, plants: &[Plant]) -> String {
    let plants = plants.iter().filter_map(ValueEnum::to_possible_value);
    let plants: String = plants.map(|plant| format!(" --plant {}", plant.get_name())).collect();
    format!("cargo run -p sim -- {} --seed {seed}{plants}", path.display())
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The trace cannot be written.
    #[error("cannot write the trace to `{}`: {source}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The backend's functions cannot be loaded.
    #[error("cannot load the backend's functions: {0}")]
    Backend(String),
    /// A host of the simulation itself failed.
    #[error("a host of the simulation failed: {0}")]
    Host(String),
}

/// Runs `order` on a fresh, deterministic thread and hands the report to `done`, on that thread.
pub fn start<F>(order: Order, progress: Arc<Progress>, done: F) -> JoinHandle<()>
where
    F: FnOnce(Result<Report, RunError>) + Send + 'static,
{
    panics::watch();
    determinism::spawn(order.seed, move || done(run::run(order, &progress)))
}
