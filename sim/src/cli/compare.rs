//! `sim compare`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use crate::cli::{Exit, terminal};
use crate::compare::{FigureSet, changes, conditions, figures, is_real_time, table};

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

/// Prints what changed from one report to the other. A difference is no failure; two reports of different kinds are.
pub(super) fn compare(args: &CompareArgs) -> anyhow::Result<Exit> {
    let reports = read(&args.before).and_then(|before| Ok([before, read(&args.after)?]));
    let [(before, old), (after, new)] = match reports {
        Ok(reports) => reports,
        Err(error) => {
            terminal::complain(&format!("error: {error:#}"));
            return Ok(Exit::Usage);
        }
    };
    if is_real_time(&before) != is_real_time(&after) {
        terminal::complain(
            "error: one is the report of a simulation, whose figures are exact, and the other of a run in real time: \
             nothing in them measures the same; compare two of a kind",
        );
        return Ok(Exit::Usage);
    }
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

/// The options that differ, and of runs in real time what else decides what is measured. One that only one of the two
/// has (a swarm) is `–` in the other.
fn options(before: &Value, after: &Value) -> Vec<(String, String, String)> {
    let [before, after] = [before, after].map(|report| {
        let listed = report["options"].as_array().cloned().unwrap_or_default();
        let listed = listed.into_iter().map(|option| (word(&option[0]), word(&option[1])));
        listed.chain(conditions(report)).collect::<Vec<_>>()
    });
    let of = |list: &[(String, String)], name: &str| {
        let found = list.iter().find(|(known, _)| known == name);
        found.map_or("–".to_owned(), |(_, value)| value.clone())
    };
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in before.iter().chain(&after) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let pairs = names.into_iter().map(|name| (name.clone(), of(&before, name), of(&after, name)));
    pairs.filter(|(_, before, after)| before != after).collect()
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_compared_by_their_names() {
        let before = json!({ "options": [["duration", "4s"], ["faults", "none"]] });
        let after = json!({ "options": [["duration", "5s"], ["swarm", "kills"], ["faults", "none"]] });
        let row =
            |name: &str, before: &str, after: &str| (name.to_owned(), before.to_owned(), after.to_owned());
        assert_eq!(options(&before, &after), [row("duration", "4s", "5s"), row("swarm", "–", "kills")]);
        assert_eq!(options(&after, &before)[1], row("swarm", "kills", "–"));
    }

    #[test]
    fn what_measures_differently_in_real_time_is_told() {
        let report = |scale: f64| {
            let load = json!({ "command": "worker run", "time_scale": scale, "processors": 2 });
            json!({ "options": [], "load": load })
        };
        let told = options(&report(1.0), &report(5.0));
        assert_eq!(told, [("time_scale".to_owned(), "1.0".to_owned(), "5.0".to_owned())]);
    }
}
