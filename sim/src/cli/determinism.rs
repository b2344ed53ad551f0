//! `--check-determinism`: the same seed, twice, in fresh processes; the traces must be equal to the last byte.

use std::{
    env,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
};

use anyhow::Context as _;

use crate::cli::{exit::Exit, run_args::RunArgs, terminal};
use sim_model::{plant::Plant, scenario::Scenario, seed::Seed};

/// Facts shown before the first that differs.
const CONTEXT: usize = 4;

/// Runs the scenario twice and compares. Equal runs give the exit code that each of them had.
pub(super) fn check(args: &RunArgs) -> anyhow::Result<Exit> {
    let path = args.path();
    let scenario = match Scenario::read(path) {
        Ok(scenario) => scenario,
        Err(error) => {
            terminal::complain(&error.render(terminal::is_error_styled()));
            return Ok(Exit::Usage);
        }
    };
    let seed = args.seed.or(scenario.seed).unwrap_or_else(Seed::from_system);
    let directory = scratch(seed)?;
    let traces = [1, 2].map(|number| directory.join(format!("{number}.jsonl")));
    let runs = traces.each_ref().map(|trace| start(path, seed, &args.plant, trace, &directory));
    let mut statuses = Vec::new();
    for run in runs {
        statuses.push(run?.wait()?);
    }
    let exit = compare(&traces, &statuses, seed, args.outputs.quiet)?;
    if exit != Exit::Nondeterminism {
        std::fs::remove_dir_all(&directory)?;
    }
    Ok(exit)
}

fn scratch(seed: Seed) -> anyhow::Result<PathBuf> {
    let directory = env::temp_dir().join(format!("sim-determinism-{}-{seed}", std::process::id()));
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make `{}`", directory.display()))?;
    Ok(directory)
}

fn start(path: &Path, seed: Seed, plants: &[Plant], trace: &Path, reports: &Path) -> anyhow::Result<Child> {
    use clap::ValueEnum as _;
    let mut command = Command::new(env::current_exe().context("cannot find this program to start it again")?);
    command.arg(path).args(["--quiet", "--seed", &seed.to_string()]);
    command.arg("--trace").arg(trace).arg("--report").arg(reports);
    for plant in plants.iter().filter_map(|plant| plant.to_possible_value()) {
        command.args(["--plant", plant.get_name()]);
    }
    command.spawn().context("cannot start this program again")
}

fn compare(traces: &[PathBuf; 2], statuses: &[ExitStatus], seed: Seed, quiet: bool) -> anyhow::Result<Exit> {
    let codes: Vec<_> = statuses.iter().map(ExitStatus::code).collect();
    let exit = match codes[0] {
        Some(0) => Exit::Passed,
        Some(10) => Exit::Safety,
        Some(11) => Exit::Liveness,
        other => {
            terminal::complain(&format!("error: a run ended with {other:?} instead of a verdict"));
            return Ok(Exit::Internal);
        }
    };
    if let Some(difference) = first_difference(&traces[0], &traces[1])? {
        terminal::complain(&format!("seed {seed} is not deterministic; the traces are kept:\n{difference}"));
        return Ok(Exit::Nondeterminism);
    }
    if codes[0] != codes[1] {
        terminal::complain(&format!("seed {seed}: equal traces, but exit codes {codes:?}"));
        return Ok(Exit::Nondeterminism);
    }
    if !quiet {
        let facts = BufReader::new(File::open(&traces[0])?).lines().count();
        terminal::say(&format!("deterministic: two runs of seed {seed} gave the same {facts} facts"));
    }
    if exit != Exit::Passed {
        let code = exit as u8;
        terminal::complain(&format!(
            "both runs failed alike (exit code {code}); without --check-determinism it is shown why"
        ));
    }
    Ok(exit)
}

/// The first line in which two files differ, with the lines before it.
fn first_difference(one: &Path, other: &Path) -> io::Result<Option<String>> {
    let mut lines = [one, other].map(|path| File::open(path).map(|file| BufReader::new(file).lines()));
    let [Ok(left), Ok(right)] = &mut lines else {
        return lines.into_iter().find_map(Result::err).map_or(Ok(None), Err);
    };
    let mut before: Vec<String> = Vec::new();
    for number in 1_u64.. {
        let (a, b) = (left.next().transpose()?, right.next().transpose()?);
        match (a, b) {
            (None, None) => return Ok(None),
            (Some(a), Some(b)) if a == b => {
                if before.len() == CONTEXT {
                    before.remove(0);
                }
                before.push(a);
            }
            (a, b) => {
                let [a, b] = [a, b].map(|line| line.unwrap_or_else(|| "(the trace ends here)".into()));
                let context: String = before.iter().map(|line| format!("  {line}\n")).collect();
                let files = format!("in {} (-) and {} (+)", one.display(), other.display());
                return Ok(Some(format!("fact {number} differs {files}\n{context}- {a}\n+ {b}")));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(one: &str, other: &str) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let paths = [("one", one), ("other", other)].map(|(name, text)| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        });
        let difference = first_difference(&paths[0], &paths[1]).unwrap();
        difference.map(|text| text.replace(&format!("{}/", directory.path().display()), ""))
    }

    #[test]
    fn equal_traces_have_no_difference() {
        assert_eq!(check("a\nb\n", "a\nb\n"), None);
        assert_eq!(check("", ""), None);
    }

    #[test]
    fn the_first_difference_is_shown_with_what_came_before() {
        insta::assert_snapshot!(check("1\n2\n3\n4\n5\nx\nz\n", "1\n2\n3\n4\n5\ny\n").unwrap(), @r#"
        fact 6 differs in one (-) and other (+)
          2
          3
          4
          5
        - x
        + y
        "#);
    }

    #[test]
    fn a_trace_that_ends_early_differs() {
        insta::assert_snapshot!(check("1\n", "1\n2\n").unwrap(), @r#"
        fact 2 differs in one (-) and other (+)
          1
        - (the trace ends here)
        + 2
        "#);
    }
}
