//! `sim shrink`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        exit::Exit,
        repeatable::{self, Repeatable},
        terminal,
    },
    shrink::{Failure, Shrinker, case::Case},
    sweep::child::{Job, Outcome},
};
use sim_model::{order::replay, plant::Plant, seed::Seed};
use sim_report::Report;

/// What to make small.
#[derive(Debug, Args)]
pub(crate) struct ShrinkArgs {
    /// The report of a run that failed (JSON), or a scenario that fails.
    #[arg(value_name = "REPORT|SCENARIO")]
    failed: PathBuf,
    /// The seed that fails; for a scenario.
    #[arg(long)]
    seed: Option<Seed>,
    /// Plant a bug; for a scenario (may be given several times).
    #[arg(long, value_name = "BUG")]
    plant: Vec<Plant>,
    /// The oracle that must keep failing; by default the one that fails first.
    #[arg(long, value_name = "NAME")]
    oracle: Option<String>,
    /// Runs to make at most.
    #[arg(long, value_name = "N", default_value_t = 400)]
    attempts: usize,
    /// Where the small scenario goes; by default into reports/, by the name of the failed one.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

/// Shrinks a failed run, and says how to run what is left.
pub(super) fn shrink(args: &ShrinkArgs) -> anyhow::Result<Exit> {
    let kept = match what(args) {
        Ok(repeatable) => repeatable,
        Err(refusal) => return Ok(refusal),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Shrinking::new(kept)?.shrink(args))
}

/// What failed: from a report, or from a scenario and a seed.
fn what(args: &ShrinkArgs) -> Result<Repeatable, Exit> {
    let is_report = args.failed.extension().is_some_and(|extension| extension == "json");
    let refuse = |refusal: String| {
        terminal::complain(&refusal);
        Exit::Usage
    };
    if is_report {
        if args.seed.is_some() || !args.plant.is_empty() {
            return Err(refuse(
                "error: the report says which seed and which planted bugs: leave them out".into(),
            ));
        }
        return repeatable::read(&args.failed).map_err(|error| refuse(format!("error: {error:#}")));
    }
    let scenario = sim_model::scenario::Scenario::read(&args.failed)
        .map_err(|error| refuse(error.render(terminal::is_error_styled())))?;
    let Some(seed) = args.seed.or(scenario.seed) else {
        return Err(refuse(
            "error: the scenario has no seed of its own: say with --seed which one fails".into(),
        ));
    };
    Ok(Repeatable {
        seed,
        plants: args.plant.clone(),
        source: scenario.source,
        name: scenario.name,
        hash: None,
    })
}

struct Shrinking {
    failed_run: Repeatable,
    scratch: TempDir,
    stop: CancellationToken,
    runs: usize,
}

/// What a run came to.
enum Tried {
    Report(Box<Report>),
    Crashed,
    Stopped,
}

impl Shrinking {
    fn new(failed_run: Repeatable) -> anyhow::Result<Self> {
        let scratch = tempfile::tempdir().context("cannot make a directory for what is tried")?;
        Ok(Self { failed_run, scratch, stop: CancellationToken::new(), runs: 0 })
    }

    async fn shrink(mut self, args: &ShrinkArgs) -> anyhow::Result<Exit> {
        let case = Case::new(&self.failed_run.source.text, &self.failed_run.name, self.failed_run.seed)?;
        let Tried::Report(report) = self.attempt(&case).await? else {
            terminal::complain("error: the run has no report to begin with");
            return Ok(Exit::Internal);
        };
        let Some(failure) = Failure::of(&report, args.oracle.as_deref()) else {
            let what = args.oracle.as_deref().map_or(String::new(), |oracle| format!(" of `{oracle}`"));
            terminal::complain(&format!("error: the run has no violation{what}: there is nothing to shrink"));
            return Ok(Exit::Usage);
        };
        let before = case.size();
        let mut shrinker = Shrinker::new(case, failure.clone());
        let interrupted = self.search(&mut shrinker, &failure, args).await?;
        let output = args.output.clone().unwrap_or_else(|| self.output());
        self.keep(shrinker.best(), &failure, before, &output)?;
        if !args.quiet {
            let (after, runs) = (shrinker.best().size(), self.runs);
            terminal::say(&format!(
                "{} still fails after {runs} runs: size {before} → {after}",
                failure.oracle
            ));
            terminal::say(&format!("scenario: {}\nrun it: {}", output.display(), self.command(&output)));
        }
        Ok(if interrupted { Exit::Interrupted } else { Exit::Passed })
    }

    /// Tries smaller cases until none is left, or runs are used up, or someone stops it: then true.
    async fn search(
        &mut self,
        shrinker: &mut Shrinker,
        failure: &Failure,
        args: &ShrinkArgs,
    ) -> anyhow::Result<bool> {
        let bar = if args.quiet { ProgressBar::hidden() } else { ProgressBar::new(args.attempts as u64) };
        bar.set_style(ProgressStyle::with_template("{bar:24} {msg}").expect("a fixed template"));
        let before = shrinker.best().size();
        while self.runs < args.attempts {
            let size = shrinker.best().size();
            bar.set_position(self.runs as u64);
            bar.set_message(format!(
                "{} runs of at most {}, size {before} → {size}",
                self.runs, args.attempts
            ));
            let Some(case) = shrinker.propose().cloned() else { break };
            match self.attempt(&case).await? {
                Tried::Report(report) => shrinker.judge(failure.again(&report)),
                Tried::Crashed => shrinker.judge(None),
                Tried::Stopped => return Ok(true),
            }
        }
        bar.finish_and_clear();
        Ok(false)
    }

    /// Runs `case` in a process of its own; Ctrl-C ends it.
    async fn attempt(&mut self, case: &Case) -> anyhow::Result<Tried> {
        self.runs += 1;
        let path = self.scratch.path().join("shrinking.toml");
        fs::write(&path, case.text()).with_context(|| format!("cannot write `{}`", path.display()))?;
        let job =
            Job { path, seed: self.failed_run.seed, plants: self.failed_run.plants.clone(), reports: None };
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = self.stop.clone();
        let run = job.run(stop.clone());
        tokio::pin!(run);
        let outcome = tokio::select! {
            outcome = &mut run => outcome,
            _ = interrupt.recv() => { stop.cancel(); run.await }
        };
        Ok(match outcome {
            Outcome::Report(report) => Tried::Report(report),
            Outcome::Crashed(_) => Tried::Crashed,
            Outcome::Stopped => Tried::Stopped,
        })
    }

    fn output(&self) -> PathBuf {
        Path::new("reports").join(format!(
            "{}-{}-shrunk.toml",
            sim_report::file_name(&self.failed_run.name),
            self.failed_run.seed
        ))
    }

    fn command(&self, path: &Path) -> String {
        replay(path, self.failed_run.seed, &self.failed_run.plants)
    }

    /// Writes `case` with a comment that says where it comes from.
    fn keep(&self, case: &Case, failure: &Failure, before: u64, path: &Path) -> anyhow::Result<()> {
        let Repeatable { source, seed, .. } = &self.failed_run;
        let (Failure { oracle, class, .. }, after, command) = (failure, case.size(), self.command(path));
        let text = format!(
            "# Shrunk from {} with seed {seed}, in {} runs: still fails `{oracle}` ({class}).\n\
             # Size {before} → {after}, counted in sessions, turns, faults, seconds and what was there before.\n\
             # Run it: {command}\n{}",
            source.path,
            self.runs,
            case.text(),
        );
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        directory
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(path, text))
            .with_context(|| format!("cannot write `{}`", path.display()))
    }
}
