//! Starts runs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};

use serde_json::Value;
use sim::world::{self, progress::Progress};
use sim_model::{order::Order, plant::Plant, scenario::Scenario, seed::Seed};
use sim_report::Report;

/// The scenario with this text.
#[track_caller]
pub(crate) fn parse(source: &str) -> Scenario {
    let scenario = Scenario::parse("some.toml", "some", source);
    scenario.unwrap_or_else(|error| panic!("{}", error.render(false)))
}

/// Starts a run; its report comes when it is over, and the trace is written by then.
pub(crate) fn start(
    scenario: Scenario,
    seed: u64,
    plants: &[Plant],
    trace: Option<PathBuf>,
) -> mpsc::Receiver<Report> {
    let order = Order { scenario, seed: Seed(seed), plants: plants.to_vec(), trace, replay: String::new() };
    let (sender, receiver) = mpsc::channel();
    world::start(order, Arc::new(Progress::default()), move |report| sender.send(report.unwrap()).unwrap());
    receiver
}

/// The facts of a trace.
pub(crate) fn facts(trace: &Path) -> Vec<Value> {
    fs::read_to_string(trace).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
