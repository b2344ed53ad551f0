//! `sim compare`.

use std::path::PathBuf;

use clap::Args;
use sim_report::Report;

use crate::{
    cli::{exit::Exit, terminal},
    compare::{changes, conditions, figures, table},
};

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
    let reports = Report::read(&args.before).and_then(|before| Ok([before, Report::read(&args.after)?]));
    let [before, after] = match reports {
        Ok(reports) => reports,
        Err(error) => {
            terminal::complain(&format!("error: {error}"));
            return Ok(Exit::Usage);
        }
    };
    if before.load.is_some() != after.load.is_some() {
        terminal::complain(
            "error: one is the report of a simulation, whose figures are exact, and the other of a run in real time: \
             nothing in them measures the same; compare two of a kind",
        );
        return Ok(Exit::Usage);
    }
    for (what, report) in [("before", &before), ("now", &after)] {
        let Report { scenario, seed, verdict, .. } = report;
        terminal::say(&format!("{what:<7} {scenario}, seed {seed}: {verdict}"));
    }
    for (name, before, after) in options(&before, &after) {
        terminal::say(&format!("{name}: {before} → {after}"));
    }
    terminal::say(&table(&changes("", &figures(&before), &figures(&after))));
    Ok(Exit::Passed)
}

/// The options that differ, and of runs in real time what else decides what is measured. One that only one of the two
/// has (a swarm) is `–` in the other.
fn options(before: &Report, after: &Report) -> Vec<(String, String, String)> {
    let [before, after] = [before, after].map(|report| {
        let listed = report.options.iter().map(|(name, value)| (name.to_string(), value.clone()));
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

#[cfg(test)]
mod tests {
    use sim_report::testing::{in_real_time, load_figures, passed};

    use super::*;

    #[test]
    fn options_are_compared_by_their_names() {
        let report = |options: &[(&'static str, &str)]| {
            let options = options.iter().map(|(name, value)| ((*name).into(), (*value).to_owned()));
            Report { options: options.collect(), ..passed() }
        };
        let before = report(&[("duration", "4s"), ("faults", "none")]);
        let after = report(&[("duration", "5s"), ("swarm", "kills"), ("faults", "none")]);
        let row =
            |name: &str, before: &str, after: &str| (name.to_owned(), before.to_owned(), after.to_owned());
        assert_eq!(options(&before, &after), [row("duration", "4s", "5s"), row("swarm", "–", "kills")]);
        assert_eq!(options(&after, &before)[1], row("swarm", "kills", "–"));
    }

    #[test]
    fn what_measures_differently_in_real_time_is_told() {
        let report = |time_scale: f64| in_real_time(sim_report::LoadFigures { time_scale, ..load_figures() });
        let told = options(&report(1.0), &report(5.0));
        assert_eq!(told, [("time_scale".to_owned(), "1.0".to_owned(), "5.0".to_owned())]);
    }
}
