//! A scenario, run as `sim` runs it.

use std::sync::{Arc, mpsc};

use benches::SEED;
use sim::world::{self, progress::Progress};
use sim_model::{order::Order, scenario::Scenario};
use sim_report::Report;

/// Runs it once. The wall time is in [`sim_report::Engine::wall`]; the trace is hashed, but not written.
///
/// # Panics
/// If the run yields no report.
#[must_use]
pub(crate) fn run(scenario: &Scenario) -> Report {
    let order = Order {
        scenario: scenario.clone(),
        seed: SEED,
        plants: Vec::new(),
        trace: None,
        replay: String::new(),
    };
    let (done, finished) = mpsc::sync_channel(1);
    let thread = world::start(order, Arc::new(Progress::default()), move |report| {
        // The receiver waits in this function.
        let _ = done.send(report);
    });
    let report = finished.recv().expect("a run ends with a report or an error");
    thread.join().expect("a run that reported ends");
    report.expect("the scenario runs")
}
