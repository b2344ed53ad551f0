//! `sim load SCENARIO`: the worker's binary in real time, watched from the main thread.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use crate::{
    cli::{
        exit::Exit,
        outputs::Outputs,
        run::{FORMS, state_line, watch_thread},
        terminal,
    },
    hosts::backend::EXECUTION,
    load::{
        self, LoadOrder,
        binary::{self, BUILD_COMMAND, Binary, NoWorker},
        stand_in,
    },
};
use sim_model::{
    order::Order,
    scenario::{Scenario, WorkerKind},
    seed::Seed,
    units::Time,
};
use sim_oracles::Ceilings;
use sim_report::Report;

/// What to run in real time, and how. The exit code says how our worker did.
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
    /// Then run the same with this command as the worker, and compare; its own report is written beside ours, and the
    /// exit code says nothing of it. It gets CONVEX_URL, WORKER_TOKEN, WORKER_DIRECTORY, WORKER_OPENCODE and
    /// WORKER_CONFIG.
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    against: Option<Words>,
    /// How long a function of the backend takes besides its own work.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    execution: Option<Duration>,
    /// Write every fact to this file, one line of JSON each; those of --against to a file beside it.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    outputs: Outputs,
}

/// Which worker runs, and how large it may be.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// The worker's executable; by default the release build of this workspace, which is built first if it is not fresh.
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
    /// Ours.
    pub(super) fn binary(&self, quiet: bool) -> Result<Binary, NoWorker> {
        if self.worker.is_none() && !quiet {
            terminal::complain(&format!("the worker to measure: {BUILD_COMMAND}"));
        }
        binary::find(self.worker.as_deref(), quiet)
    }

    /// How much memory it may take.
    pub(super) fn ceilings(&self) -> Ceilings {
        Ceilings { idle: self.max_idle_rss << 20, peak: self.max_rss << 20 }
    }

    /// What of this differs from what is usual, as words of a command line.
    pub(super) fn words(&self) -> Vec<String> {
        let worker = self.worker.as_ref().map(|path| path.display().to_string());
        let unless = |value: u64, usual: u64| (value != usual >> 20).then(|| value.to_string());
        let options = [
            ("--worker", worker),
            ("--max-rss", unless(self.max_rss, load::CEILINGS.peak)),
            ("--max-idle-rss", unless(self.max_idle_rss, load::CEILINGS.idle)),
        ];
        given(options)
    }
}

/// Those options that have a value, as words of a command line.
pub(super) fn given<'a>(options: impl IntoIterator<Item = (&'a str, Option<String>)>) -> Vec<String> {
    let words = |(name, value): (&str, Option<String>)| value.map(|value| [name.to_owned(), value]);
    options.into_iter().filter_map(words).flatten().collect()
}

/// The command that runs `words` of this program, in a release build.
pub(super) fn again(words: &[String]) -> String {
    let quoted = shlex::try_join(words.iter().map(String::as_str));
    // An argument cannot have a zero byte in it.
    format!("cargo run --release -p sim -- {}", quoted.unwrap_or_default())
}

/// A time as one word.
pub(super) fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// The command of a worker that starts from `binary`.
pub(super) fn command(binary: &Binary) -> Vec<OsString> {
    vec![binary.path.clone().into(), "run".into()]
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
    if scenario.kind == WorkerKind::Legacy {
        terminal::complain(
            "error: the predecessor exists in simulation only; `--against` runs another worker",
        );
        return Ok(Exit::Usage);
    }
    if let Some(contradiction) = args.outputs.contradiction() {
        terminal::complain(contradiction);
        return Ok(Exit::Usage);
    }
    let quiet = args.outputs.is_quiet();
    let binary = match args.worker.binary(quiet) {
        Ok(binary) => binary,
        Err(error) => {
            terminal::complain(&format!("error: {error}"));
            return Ok(Exit::Usage);
        }
    };
    let seed = args.seed.or(scenario.seed).unwrap_or_else(Seed::from_system);
    let order = order(args, scenario, seed, &binary);
    if !quiet {
        terminal::say(&header(&order));
    }
    let Watched { mut report, interrupted } = run(&order, quiet)?;
    let Some(Words(command)) = args.against.as_ref().filter(|_| !interrupted) else {
        return publish(&report, &args.outputs);
    };
    let other = run(&other(&order, command), quiet)?;
    if other.interrupted {
        publish(&report, &args.outputs)?;
        terminal::complain("interrupted: the other worker's run was cut short, so nothing is compared");
        return Ok(Exit::Interrupted);
    }
    let theirs = Report { scenario: format!("{}-against", other.report.scenario), ..other.report };
    let directory = &args.outputs.report;
    let [json, _] = sim_report::write(&theirs, directory)
        .with_context(|| format!("cannot write the report into `{}`", directory.display()))?;
    report.compare_load(&theirs, &json);
    publish(&report, &args.outputs)
}

fn order(args: &LoadArgs, scenario: Scenario, seed: Seed, binary: &Binary) -> LoadOrder {
    let replay = replay(seed, args);
    let order = Order { replay, trace: args.trace.clone(), plants: Vec::new(), scenario, seed };
    LoadOrder {
        order,
        command: command(binary),
        profile: binary.profile.clone(),
        time_scale: args.time_scale,
        limit: args.limit,
        execution: args.execution.unwrap_or(EXECUTION),
        ceilings: args.worker.ceilings(),
        rising: None,
    }
}

/// The same with another worker.
fn other(ours: &LoadOrder, command: &[OsString]) -> LoadOrder {
    let trace = ours.order.trace.as_deref().map(beside);
    LoadOrder {
        order: Order { trace, ..ours.order.clone() },
        command: command.to_vec(),
        profile: "not known: not ours".into(),
        ..ours.clone()
    }
}

/// Where the other worker's facts go when ours go to `path`.
fn beside(path: &Path) -> PathBuf {
    let name = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, extension) = (name(path.file_stem()), path.extension());
    let extension = extension.map_or(String::new(), |extension| format!(".{}", extension.to_string_lossy()));
    path.with_file_name(format!("{stem}-against{extension}"))
}

fn header(load: &LoadOrder) -> String {
    let Order { scenario, seed, plants, .. } = &load.order;
    let mut options = sim_report::options(scenario, *seed);
    let limit = load.limit.map_or(String::new(), |limit| format!(", people for at most {}", Time(limit)));
    options.push(("real time".into(), format!("{} times as fast{limit}", load.time_scale)));
    let words: Vec<_> = load.command.iter().map(|word| word.to_string_lossy()).collect();
    options.push(("worker".into(), format!("{} ({})", words.join(" "), load.profile)));
    sim_report::header(&scenario.name, &scenario.description, *seed, plants, &options)
}

/// The command that runs this again: the same work, though real time never repeats.
fn replay(seed: Seed, args: &LoadArgs) -> String {
    let against = args.against.as_ref().map(|Words(words)| {
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        // It was taken apart the same way.
        shlex::try_join(words.iter().map(|word| &**word)).unwrap_or_default()
    });
    let options = given([
        ("--seed", Some(seed.to_string())),
        ("--time-scale", (args.time_scale != 1.0).then(|| args.time_scale.to_string())),
        ("--limit", args.limit.map(time)),
        ("--against", against),
        ("--execution", args.execution.map(time)),
    ]);
    let scenario = ["load".to_owned(), args.scenario.display().to_string()];
    again(&[&scenario[..], &options, &args.worker.words()].concat())
}

/// A report, and whether somebody wanted the run to end early.
pub(super) struct Watched {
    pub(super) report: Report,
    pub(super) interrupted: bool,
}

/// Runs `order`; draws its state, and ends it on Ctrl-C.
pub(super) fn run(order: &LoadOrder, quiet: bool) -> anyhow::Result<Watched> {
    let whole = order.order.scenario.duration.div_f64(order.time_scale);
    let bar = state_line(order.limit.map_or(whole, |limit| limit.min(whole)), quiet);
    let mut watched = None;
    let report = watch_thread(bar, |progress, done| {
        watched = Some(Arc::clone(&progress));
        load::start(order.clone(), progress, move |report| {
            let _ = done.send(report);
        })
    })?;
    let interrupted = watched.is_some_and(|progress| progress.is_interrupted());
    Ok(Watched { report, interrupted })
}

/// Prints and writes the report.
pub(super) fn publish(report: &Report, outputs: &Outputs) -> anyhow::Result<Exit> {
    if !outputs.is_quiet() {
        terminal::say(&sim_report::summary(report, terminal::is_styled()));
    }
    outputs.publish(report, &FORMS)?;
    Ok(report.verdict.into())
}

/// Stands in for `opencode` under load.
pub(super) fn stand_in(socket: &Path, arguments: &[String]) -> anyhow::Result<Exit> {
    stand_in::stand_in(socket, arguments, terminal::say)?;
    Ok(Exit::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(words: &[String]) -> LoadArgs {
        let words = ["sim".to_owned()].into_iter().chain(words.iter().cloned());
        let Ok(Cli { command: Command::Load(args) }) = Cli::read(words.map(Into::into)) else {
            panic!("no load test")
        };
        args
    }

    /// The command that runs `line` again asks for exactly the same, and for this seed.
    #[track_caller]
    fn check(line: &str, expected: &str) {
        let args = parse(&shlex::split(line).unwrap());
        let again = replay(Seed(7), &args);
        assert_eq!(again, format!("cargo run --release -p sim -- {expected}"));
        let words = shlex::split(&again).unwrap();
        let read = parse(&words[6..]);
        assert_eq!(format!("{read:?}"), format!("{:?}", LoadArgs { seed: Some(Seed(7)), ..args }));
    }

    #[test]
    fn a_run_is_repeated_with_all_that_was_asked_for() {
        check("load a.toml", "load a.toml --seed 0x7");
        let all = "load 'a b.toml' --seed 0x7 --time-scale 2.5 --limit 1m30s --against \"sh -c 'worker run; true'\" \
                   --execution 7ms --worker /w --max-rss 60 --max-idle-rss 20";
        check(all, &all.replace('\n', " "));
    }

    #[test]
    fn the_other_workers_facts_go_beside_ours() {
        assert_eq!(beside(Path::new("some/t.jsonl")), Path::new("some/t-against.jsonl"));
        assert_eq!(beside(Path::new("t")), Path::new("t-against"));
    }
}
