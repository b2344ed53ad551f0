//! `sim load SCENARIO`: the worker's binary in real time, watched from the main thread.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{
    Exit,
    outputs::Outputs,
    run::{FORMS, state_line, watch_thread},
    terminal,
};
use crate::{
    hosts::backend::EXECUTION,
    load::{self, LoadOrder, find_worker, stub},
    oracles::Ceilings,
    report::{self, Report},
    scenario::{Kind, Scenario, Time},
    seed::Seed,
    world::Order,
};

/// What to run in real time, and how.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The scenario's file, such as scenarios/smoke.toml.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// The root seed, decimal or hexadecimal (0x…); otherwise the scenario's, otherwise a random one.
    #[arg(long)]
    seed: Option<Seed>,
    /// People, restarts and models are so many times as fast as in the scenario (0.1 to 100). The worker's own times
    /// (coalescing, throttle, heartbeat) stay as they are.
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = time_scale)]
    time_scale: f64,
    /// People and restarts end after this time, however long the scenario is; what is open then may still end.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    limit: Option<Duration>,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Then run the same with this command as the worker, and compare. It gets CONVEX_URL, WORKER_TOKEN,
    /// WORKER_DIRECTORY, WORKER_OPENCODE and WORKER_CONFIG.
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    against: Option<Words>,
    /// How long a function of the backend takes besides its own work.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    execution: Option<Duration>,
    /// Write every fact to this file, one line of JSON each.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    outputs: Outputs,
}

/// Which worker runs, and how large it may be.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// The worker's executable; by default the one beside this executable.
    #[arg(long, value_name = "PATH")]
    worker: Option<PathBuf>,
    /// Resident memory that a worker may ever take, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = load::CEILINGS.peak >> 20, value_parser = clap::value_parser!(u64).range(1..))]
    max_rss: u64,
    /// Resident memory that a worker may take when it is ready and has not worked, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = load::CEILINGS.idle >> 20, value_parser = clap::value_parser!(u64).range(1..))]
    max_idle_rss: u64,
}

/// A command line that was taken apart.
#[derive(Debug, Clone)]
struct Words(Vec<OsString>);

fn words(text: &str) -> Result<Words, String> {
    let words = shlex::split(text).filter(|words| !words.is_empty());
    let words = words.ok_or("quotes do not match, or there is no word in it")?;
    Ok(Words(words.into_iter().map(OsString::from).collect()))
}

fn time_scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=100.0).contains(&scale) { Ok(scale) } else { Err("it must be 0.1 to 100".to_owned()) }
}

impl WorkerArgs {
    /// The command that starts ours.
    pub(super) fn command(&self) -> Result<Vec<OsString>, load::NoWorker> {
        Ok(vec![find_worker(self.worker.as_deref())?.into(), "run".into()])
    }

    /// How much memory it may take.
    pub(super) fn ceilings(&self) -> Ceilings {
        Ceilings { idle: self.max_idle_rss << 20, peak: self.max_rss << 20 }
    }
}

/// Runs the scenario in real time and prints what came of it.
pub(super) fn load(args: &LoadArgs) -> anyhow::Result<Exit> {
    let scenario = match Scenario::read(&args.scenario) {
        Ok(scenario) => scenario,
        Err(error) => {
            terminal::complain(&error.render(terminal::is_error_styled()));
            return Ok(Exit::Usage);
        }
    };
    if scenario.kind == Kind::Legacy {
        terminal::complain(
            "error: the predecessor exists in simulation only; `--against` runs another worker",
        );
        return Ok(Exit::Usage);
    }
    if let Some(contradiction) = args.outputs.contradiction() {
        terminal::complain(contradiction);
        return Ok(Exit::Usage);
    }
    let command = match args.worker.command() {
        Ok(command) => command,
        Err(error) => {
            terminal::complain(&format!("error: {error}"));
            return Ok(Exit::Usage);
        }
    };
    let seed = args.seed.or(scenario.seed).unwrap_or_else(Seed::from_system);
    let order = order(args, scenario, seed, command);
    let quiet = args.outputs.is_quiet();
    if !quiet {
        terminal::say(&header(&order));
    }
    let mut report = run(&order, quiet)?;
    if let (Some(Words(command)), true) = (&args.against, report.verdict != report::Verdict::Interrupted) {
        let other = run(&LoadOrder { command: command.clone(), ..order }, quiet)?;
        report.compare_load(&other);
    }
    publish(&report, &args.outputs)
}

fn order(args: &LoadArgs, scenario: Scenario, seed: Seed, command: Vec<OsString>) -> LoadOrder {
    let replay = replay(&args.scenario, seed, args);
    let order = Order { replay, trace: args.trace.clone(), plants: Vec::new(), scenario, seed };
    LoadOrder {
        order,
        command,
        time_scale: args.time_scale,
        limit: args.limit,
        execution: args.execution.unwrap_or(EXECUTION),
        ceilings: args.worker.ceilings(),
        rising: None,
    }
}

fn header(load: &LoadOrder) -> String {
    let Order { scenario, seed, plants, .. } = &load.order;
    let mut options = report::options(scenario, *seed);
    let limit = load.limit.map_or(String::new(), |limit| format!(", people for at most {}", Time(limit)));
    options.push(("real time", format!("{} times as fast{limit}", load.time_scale)));
    let words: Vec<_> = load.command.iter().map(|word| word.to_string_lossy()).collect();
    options.push(("worker", words.join(" ")));
    report::header(&scenario.name, &scenario.description, *seed, plants, &options)
}

/// The command that runs this again: the same work, though real time never repeats.
fn replay(path: &Path, seed: Seed, args: &LoadArgs) -> String {
    let scale =
        if args.time_scale == 1.0 { String::new() } else { format!(" --time-scale {}", args.time_scale) };
    let limit = args
        .limit
        .map_or(String::new(), |limit| format!(" --limit {}", Time(limit).to_string().replace(' ', "")));
    format!("cargo run --release -p sim -- load {} --seed {seed}{scale}{limit}", path.display())
}

/// Runs `order`; draws its state, and ends it on Ctrl-C.
pub(super) fn run(order: &LoadOrder, quiet: bool) -> anyhow::Result<Report> {
    let whole = order.order.scenario.duration.div_f64(order.time_scale);
    let bar = state_line(order.limit.map_or(whole, |limit| limit.min(whole)), quiet);
    watch_thread(bar, |progress, done| {
        load::start(order.clone(), progress, move |report| {
            let _ = done.send(report);
        })
    })
}

/// Prints and writes the report.
pub(super) fn publish(report: &Report, outputs: &Outputs) -> anyhow::Result<Exit> {
    if !outputs.is_quiet() {
        terminal::say(&report::summary(report, terminal::is_styled()));
    }
    outputs.publish(report, &FORMS)?;
    Ok(report.verdict.into())
}

/// Stands in for `opencode` under load.
pub(super) fn stand_in(socket: &Path, arguments: &[String]) -> anyhow::Result<Exit> {
    stub::stand_in(socket, arguments, terminal::say)?;
    Ok(Exit::Passed)
}
