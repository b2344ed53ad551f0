//! How to run a scenario: once, or with many seeds.

use std::{
    convert::Infallible,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use sim_model::{plant::Plant, seed::Seed};
use sim_report::sweep::seeds::{Seeds, Shard};

use super::outputs::Outputs;

/// How to run a scenario.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The scenario's file, or the name of one in scenarios/, such as smoke; several make a sweep.
    #[arg(required = true, value_name = "SCENARIO", value_parser = scenario_file)]
    pub(super) scenario: Vec<PathBuf>,
    /// The root seed, decimal or hexadecimal (0x…); otherwise the scenario's, otherwise a random one.
    #[arg(long)]
    pub(super) seed: Option<Seed>,
    /// Run twice in fresh processes and compare the traces byte by byte.
    #[arg(long)]
    pub(super) check_determinism: bool,
    /// Write every fact to this file, one line of JSON each.
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    #[command(flatten)]
    pub(super) outputs: Outputs,
    /// Plant a bug, to see that it is caught (may be given several times).
    #[arg(long, value_name = "BUG")]
    pub(super) plant: Vec<Plant>,
    /// Run as a part of something larger: print the report as JSON, and keep files of it if it failed, or never.
    #[arg(long, hide = true, value_enum)]
    pub(super) part: Option<Part>,
    #[command(flatten)]
    pub(super) sweep: SweepArgs,
}

/// The file that is meant by `text`: a path, or the name of a scenario in `scenarios/`.
fn scenario_file(text: &str) -> Result<PathBuf, Infallible> {
    let path = PathBuf::from(text);
    let known = Path::new("scenarios").join(text).with_extension("toml");
    let is_name = path.components().count() == 1 && path.extension().is_none();
    Ok(if is_name && !path.exists() && known.exists() { known } else { path })
}

/// What a run leaves that is a part of something larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Its report, if it failed.
    Keep,
    /// Nothing.
    Drop,
}

impl RunArgs {
    /// The first scenario: the only one unless this is a sweep.
    pub(super) fn path(&self) -> &Path {
        self.scenario.first().expect("required by clap")
    }
}

/// How to run many seeds.
#[derive(Debug, Args)]
#[command(next_help_heading = "Many seeds")]
pub(crate) struct SweepArgs {
    /// Run so many seeds (from --seed, otherwise from 1), or those of a range: 50, 1..100, 1..=100.
    #[arg(long, value_name = "N|A..B")]
    pub(super) seeds: Option<Seeds>,
    /// Runs at once; by default one for each core.
    #[arg(long, value_name = "J")]
    pub(super) jobs: Option<NonZeroUsize>,
    /// Make only this share of the runs, such as 1/3; `sim merge` puts the reports of all shares together.
    #[arg(long, value_name = "K/N")]
    pub(super) shard: Option<Shard>,
    /// End at the first run that fails.
    #[arg(long)]
    pub(super) fail_fast: bool,
    /// Begin no run after so much real time, such as 10min, and end those that are on their way.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) time_limit: Option<std::time::Duration>,
    /// Seeds that failed: run first, and extended by what fails now.
    #[arg(long, value_name = "FILE", default_value = "reports/corpus.toml")]
    pub(super) corpus: PathBuf,
}

impl SweepArgs {
    /// An option that only a sweep has, if one is given.
    pub(super) fn of_sweeps_only(&self) -> Option<&'static str> {
        let options = [
            ("--jobs", self.jobs.is_some()),
            ("--shard", self.shard.is_some()),
            ("--fail-fast", self.fail_fast),
            ("--time-limit", self.time_limit.is_some()),
        ];
        options.into_iter().find_map(|(name, given)| given.then_some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_scenario_stays_a_path() {
        assert_eq!(scenario_file("no-such-scenario"), Ok("no-such-scenario".into()));
    }
}
