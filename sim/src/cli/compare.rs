//! `sim compare`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::{Exit, terminal};
use crate::compare::{FigureSet, changes, figures, table};

/// Which runs to compare.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The report of the earlier run, as JSON.
    #[arg(value_name = "A.json")]
    before: PathBuf,
    /// The report of the later run.
    #[arg(value_name = "B.json")]
    after: PathBuf,
}

/// Prints what changed from one report to the other. A difference is no failure.
pub(super) fn compare(args: &CompareArgs) -> anyhow::Result<Exit> {
    let reports = read(&args.before).and_then(|before| Ok([before, read(&args.after)?]));
    let [(before, old), (after, new)] = match reports {
        Ok(reports) => reports,
        Err(error) => {
            terminal::complain(&format!("error: {error:#}"));
            return Ok(Exit::Usage);
        }
    };
    for (what, report) in [("before", &before), ("now", &after)] {
        let [scenario, seed, verdict] = ["scenario", "seed", "verdict"].map(|key| word(&report[key]));
        terminal::say(&format!("{what:<7} {scenario}, seed {seed}: {verdict}"));
    }
    for (name, before, after) in options(&before, &after) {
        terminal::say(&format!("{name}: {before} → {after}"));
    }
    terminal::say(&table(&changes("", &old, &new)));
    Ok(Exit::Passed)
}

fn read(path: &Path) -> anyhow::Result<(Value, FigureSet)> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the report `{shown}`"))?;
    let report = serde_json::from_str(&text).with_context(|| format!("`{shown}` is not a report"))?;
    let figures = figures(&report).with_context(|| format!("cannot compare `{shown}`"))?;
    Ok((report, figures))
}

/// The options that differ. They are the same ones in the same order in every report of a schema.
fn options(before: &Value, after: &Value) -> Vec<(String, String, String)> {
    let list = |report: &Value| report["options"].as_array().cloned().unwrap_or_default();
    let pairs = list(before).into_iter().zip(list(after)).filter(|(one, other)| one != other);
    pairs.map(|(one, other)| (word(&one[0]), word(&one[1]), word(&other[1]))).collect()
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
