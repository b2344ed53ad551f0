//! The report of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sim_model::{
    Label, mark,
    plant::Plant,
    scenario::{Limits, Source},
    seed::Seed,
};
use sim_oracles::Violation;

use crate::{
    figures::{self, Distribution},
    load_figures::LoadFigures,
    series::Timeline,
    verdict::RunVerdict,
};

/// The shape of the JSON report; raised whenever a reader would have to change.
pub const SCHEMA: u32 = 1;

/// Everything known about a finished run.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[schemars(title = "The report of a run")]
pub struct Report {
    /// The shape of this report.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: u32,
    /// The scenario's name.
    pub scenario: String,
    /// What it shows.
    pub description: String,
    /// The scenario as it was read: `sim replay` runs it from here.
    pub source: Source,
    /// The root seed.
    pub seed: Seed,
    /// Bugs planted on purpose.
    pub plants: Vec<Plant>,
    /// What was run, one name and one value each.
    pub options: Vec<(Label, String)>,
    /// How it ended.
    pub verdict: RunVerdict,
    /// Violations of each oracle, none included.
    pub oracles: Vec<(Label, u64)>,
    /// How often each state worth reaching was reached.
    pub marks: mark::Counts,
    /// The marks that the scenario is there for.
    pub required_marks: Vec<Label>,
    /// The first violations with their stories.
    pub violations: Vec<Violation>,
    /// Exact numbers: they repeat to the last digit.
    pub figures: figures::Summary,
    /// How often a completed turn took how long: for plots, not in the JSON.
    #[serde(skip)]
    pub distribution: Distribution,
    /// How the run went over time: for plots, not in the JSON.
    #[serde(skip)]
    pub timeline: Timeline,
    /// What the oracles enforced.
    #[serde(skip)]
    pub limits: Limits,
    /// The trace.
    pub trace: TraceSummary,
    /// The command that runs it again.
    pub replay: String,
    /// What depends on the machine; nothing else here does.
    pub engine: Engine,
    /// What a run in real time measured besides; none of it, and nothing else of such a run, repeats exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadFigures>,
}

/// The trace in short.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
pub struct TraceSummary {
    /// How many facts there are.
    pub facts: u64,
    /// The SHA-256 over them.
    pub hash: String,
}

/// How fast the simulation was.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
pub struct Engine {
    /// Steps of the network.
    pub steps: u64,
    /// Simulated seconds.
    pub simulated: f64,
    /// Real seconds.
    pub wall: f64,
}
