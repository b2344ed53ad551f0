//! What to run: a scenario, a seed, and the bugs to plant.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::{plant::Plant, scenario::Scenario, seed::Seed};

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
