//! What the report of a run says about how to run it again.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;

use sim_model::{plant::Plant, scenario::Source, seed::Seed};
use sim_report::SCHEMA;

/// A run as its report keeps it.
#[derive(Debug, Deserialize)]
pub(super) struct Kept {
    /// The seed.
    pub(super) seed: Seed,
    /// Bugs planted.
    pub(super) plants: Vec<Plant>,
    /// The scenario.
    pub(super) source: Source,
    /// The scenario's name.
    #[serde(rename = "scenario")]
    pub(super) name: String,
    /// The hash of the trace, if the run came to its end.
    #[serde(skip)]
    pub(super) hash: Option<String>,
}

/// Reads the report of a run.
pub(super) fn read(path: &Path) -> anyhow::Result<Kept> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the report `{shown}`"))?;
    let report: Value = serde_json::from_str(&text).with_context(|| format!("`{shown}` is not a report"))?;
    if report["kind"] == "sweep" {
        let failed = report["runs"].as_array().into_iter().flatten().find(|run| run["verdict"] != "passed");
        let hint = failed.and_then(|run| run["replay"].as_str());
        bail!(
            "`{shown}` is the report of a sweep, not of a run{}",
            hint.map_or(String::new(), |hint| format!("; its first failure is run by `{hint}`"))
        );
    }
    if report["load"].is_object() {
        let again = report["replay"].as_str().unwrap_or("cargo run --release -p sim -- load");
        bail!(
            "`{shown}` is the report of a run in real time, which never repeats; `{again}` does the same again"
        );
    }
    if report["schema"] != SCHEMA {
        bail!(
            "`{shown}` has schema {}, but this program reads schema {SCHEMA}; make the report again",
            report["schema"]
        );
    }
    let hash = report["trace"]["hash"].as_str().map(str::to_owned);
    let complete = report["verdict"] != "interrupted";
    let mut kept: Kept = serde_json::from_value(report)
        .with_context(|| format!("`{shown}` does not say all of what was run; make the report again"))?;
    if !kept.source.is_whole() {
        bail!(
            "the scenario in `{shown}` is not the one that was run: its digest is another; make the report again"
        );
    }
    kept.hash = hash.filter(|_| complete);
    Ok(kept)
}
