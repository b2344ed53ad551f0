//! What the report of a run says about how to run it again.

use std::path::Path;

use anyhow::bail;
use sim_model::{plant::Plant, scenario::Source, seed::Seed};
use sim_report::{Report, RunVerdict};

/// A run that can be made again.
#[derive(Debug)]
pub(super) struct Repeatable {
    /// The seed.
    pub(super) seed: Seed,
    /// Bugs planted.
    pub(super) plants: Vec<Plant>,
    /// The scenario.
    pub(super) source: Source,
    /// The scenario's name.
    pub(super) name: String,
    /// The hash of the trace, if the run came to its end.
    pub(super) hash: Option<String>,
}

/// Reads the report of a run in simulation.
pub(super) fn read(path: &Path) -> anyhow::Result<Repeatable> {
    let shown = path.display();
    let Report { seed, plants, source, scenario, trace, verdict, load, replay, .. } = Report::read(path)?;
    if load.is_some() {
        bail!(
            "`{shown}` is the report of a run in real time, which never repeats; `{replay}` does the same again"
        );
    }
    if !source.is_whole() {
        bail!(
            "the scenario in `{shown}` is not the one that was run: its digest is another; make the report again"
        );
    }
    let hash = (verdict != RunVerdict::Interrupted).then_some(trace.hash);
    Ok(Repeatable { seed, plants, source, name: scenario, hash })
}
