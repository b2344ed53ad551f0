//! `sim limits`: how much the worker's binary can do, found by a rising load.

use std::time::Duration;

use clap::Args;

use crate::{
    cli::{
        exit::Exit,
        load::{Watched, WorkerArgs, again, command, given, publish, run, time},
        outputs::Outputs,
        terminal,
    },
    load::{
        LoadOrder,
        binary::Binary,
        goals::{Starts, goals, missed},
        steps::Rising,
    },
};
use sim_model::{order::Order, scenario::Scenario, seed::Seed};
use sim_report::{Report, RunVerdict};

/// How far to go, and from when on it is too far. Exit code 13 says that a goal was missed.
#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Turns at the same time, step by step; the goals are at 200.
    #[arg(long, value_name = "N,N…", value_delimiter = ',', default_values_t = STEPS,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    steps: Vec<u16>,
    /// How long each step is measured (at most 60s).
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = hold)]
    hold: Duration,
    /// Pieces that each reply gets in a second while the number of turns rises; the goals are at 20.
    #[arg(long, value_name = "N", default_value_t = DELTAS, value_parser = clap::value_parser!(u32).range(1..=200))]
    deltas_per_second: u32,
    /// Then, with --rate-turns turns, pieces that each reply gets in a second, step by step; an empty list leaves it out.
    #[arg(long, value_name = "N,N…", value_delimiter = ',', default_values_t = RATES, num_args = 0..,
          value_parser = clap::value_parser!(u32).range(1..=200))]
    rates: Vec<u32>,
    /// Turns at the same time while the rate rises.
    #[arg(long, value_name = "N", default_value_t = RATE_TURNS, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rate_turns: u16,
    /// A step in which the worker adds more than this to one of a hundred writes is too much. The goals stay as they are.
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = humantime::parse_duration)]
    bound: Duration,
    /// Also start the worker a few times with so many sessions in the backend; an empty list leaves it out.
    #[arg(long, value_name = "N,N…", value_delimiter = ',', default_values_t = STARTS_WITH, num_args = 0..)]
    starts: Vec<u64>,
    /// How long a function of the backend takes besides its own work. One client's mutations run one after the other,
    /// as in production, so a backend that is slow limits how often a worker can write.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = humantime::parse_duration)]
    execution: Duration,
    /// Show goals that are missed, but let the exit code be about the oracles alone.
    #[arg(long)]
    allow_missed_goals: bool,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    outputs: Outputs,
}

const STEPS: [u16; 10] = [1, 10, 25, 50, 100, 150, 200, 300, 400, 500];
const DELTAS: u32 = 20;
const RATES: [u32; 4] = [20, 50, 100, 200];
const RATE_TURNS: u16 = 50;
const STARTS_WITH: [u64; 2] = [100, 100_000];
const HOLD: Duration = Duration::from_secs(10);
const BOUND: Duration = Duration::from_millis(10);

/// A reply has a bounded number of pieces, so a step cannot last for ever.
fn hold(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_secs(60);
    let hold = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=MOST).contains(&hold) {
        Ok(hold)
    } else {
        Err("it must be 1s to 60s".into())
    }
}

/// Starts of one world, each killed after a while.
const STARTS: &str = "
    description = 'starts over and over'
    duration = '6s'
    [workload]
    turns = 0
    from = '0s'
    [[faults]]
    at = '1500ms'
    kind = 'kill'
    for = '200ms'
    [[faults]]
    at = '3s'
    kind = 'kill'
    for = '200ms'
    [[faults]]
    at = '4500ms'
    kind = 'kill'
    for = '200ms'
    [population]
";

/// Raises the load until the knee and prints where it is.
pub(super) fn limits(args: &LimitsArgs) -> anyhow::Result<Exit> {
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
    let rising = Rising::in_turns(&args.steps, args.deltas_per_second, args.hold, args.bound);
    let Watched { report: mut climb, mut interrupted } = climb(args, &binary, &rising)?;
    if !args.rates.is_empty() && !interrupted {
        let rising = Rising::in_rate(args.rate_turns, &args.rates, args.hold, args.bound);
        let rates = self::climb(args, &binary, &rising)?;
        interrupted = rates.interrupted;
        absorb(&mut climb, &rates.report);
        if let (Some(load), Some(rates)) = (&mut climb.load, rates.report.load) {
            load.steps.extend(rates.steps);
            load.rate_knee = rates.knee;
        }
    }
    let mut starts = Vec::new();
    for sessions in &args.starts {
        if interrupted {
            break;
        }
        let text = format!("{STARTS}sessions = {sessions}\nmissing_in_opencode = {sessions}");
        let scenario = Scenario::parse("starts", "starts", &text)?;
        let ran = run(&order(args, &binary, scenario), quiet)?;
        interrupted = ran.interrupted;
        absorb(&mut climb, &ran.report);
        starts.push(Starts { sessions: *sessions, report: ran.report });
    }
    if interrupted && climb.verdict == RunVerdict::Passed {
        climb.verdict = RunVerdict::Interrupted;
    }
    let goals = goals(&rising, &climb, &starts);
    let missed: Vec<_> = missed(&goals).map(|goal| goal.what.clone()).collect();
    if let Some(load) = &mut climb.load {
        load.goals = goals;
    }
    let exit = publish(&climb, &args.outputs)?;
    Ok(judge(exit, &missed, args.allow_missed_goals))
}

/// The exit code of limits that were found in a run that ended with `exit`.
fn judge(exit: Exit, missed: &[String], allowed: bool) -> Exit {
    if exit != Exit::Passed || missed.is_empty() || allowed {
        return exit;
    }
    terminal::complain(&format!(
        "error: {} goals were missed: {} (--allow-missed-goals lets it pass)",
        missed.len(),
        missed.join("; ")
    ));
    Exit::Regression
}

/// Raises the load.
fn climb(args: &LimitsArgs, binary: &Binary, rising: &Rising) -> anyhow::Result<Watched> {
    let quiet = args.outputs.is_quiet();
    if !quiet {
        terminal::say(&announcement(rising));
    }
    let climbing = order(args, binary, rising.scenario()?);
    run(&LoadOrder { rising: Some(rising.clone()), ..climbing }, quiet)
}

/// Adds to a report what another run found.
fn absorb(report: &mut Report, other: &Report) {
    // The first that did not pass counts.
    if report.verdict == RunVerdict::Passed {
        report.verdict = other.verdict;
    }
    report.violations.extend(other.violations.iter().cloned());
    for (oracle, count) in &other.oracles {
        match report.oracles.iter_mut().find(|(known, _)| known == oracle) {
            Some((_, sum)) => *sum += count,
            None => report.oracles.push((oracle.clone(), *count)),
        }
    }
}

fn announcement(rising: &Rising) -> String {
    let steps: Vec<_> = rising.steps.iter().map(|step| (step.turns, step.deltas_per_second)).collect();
    let steps: Vec<_> = steps.iter().map(|(turns, rate)| format!("{turns} × {rate}")).collect();
    let (hold, bound, most) = (rising.hold, rising.bound, rising.duration());
    format!(
        "turns × deltas per second  {}\neach is measured for       {hold:?}\n\
         too much                   when the worker adds more than {bound:?} to one of a hundred writes\n\
         takes                      at most {most:?}\n",
        steps.join(", "),
    )
}

fn order(args: &LimitsArgs, binary: &Binary, scenario: Scenario) -> LoadOrder {
    LoadOrder {
        order: Order { replay: replay(args), trace: None, plants: Vec::new(), scenario, seed: Seed(1) },
        command: command(binary),
        profile: binary.profile.clone(),
        time_scale: 1.0,
        limit: None,
        execution: args.execution,
        ceilings: args.worker.ceilings(),
        rising: None,
    }
}

/// The command that asks for the same again.
fn replay(args: &LimitsArgs) -> String {
    fn list<T: ToString + PartialEq>(values: &[T], usual: &[T]) -> Option<String> {
        let texts: Vec<_> = values.iter().map(T::to_string).collect();
        (values != usual).then(|| texts.join(","))
    }
    fn unless<T: PartialEq>(value: T, usual: T, text: impl Fn(T) -> String) -> Option<String> {
        (value != usual).then(|| text(value))
    }
    let options = given([
        ("--steps", list(&args.steps, &STEPS)),
        ("--hold", unless(args.hold, HOLD, time)),
        ("--deltas-per-second", unless(args.deltas_per_second, DELTAS, |rate| rate.to_string())),
        ("--rates", list(&args.rates, &RATES)),
        ("--rate-turns", unless(args.rate_turns, RATE_TURNS, |turns| turns.to_string())),
        ("--bound", unless(args.bound, BOUND, time)),
        ("--starts", list(&args.starts, &STARTS_WITH)),
        ("--execution", unless(args.execution, Duration::ZERO, time)),
    ]);
    // An empty list is an option without values.
    let options = options.into_iter().filter(|word| !word.is_empty());
    let flag = args.allow_missed_goals.then(|| "--allow-missed-goals".to_owned());
    let words: Vec<_> =
        ["limits".to_owned()].into_iter().chain(options).chain(args.worker.words()).chain(flag).collect();
    again(&words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use sim_report::testing;

    fn parse(words: &[String]) -> LimitsArgs {
        let words = ["sim".to_owned()].into_iter().chain(words.iter().cloned());
        let Ok(Cli { command: Command::Limits(args) }) = Cli::read(words.map(Into::into)) else {
            panic!("no limits")
        };
        args
    }

    #[track_caller]
    fn check(line: &str) {
        let words = shlex::split(line).unwrap();
        let again = replay(&parse(&words));
        assert_eq!(again, format!("cargo run --release -p sim -- {line}"));
        let read = parse(&shlex::split(&again).unwrap()[6..]);
        assert_eq!(format!("{read:?}"), format!("{:?}", parse(&words)));
    }

    #[test]
    fn limits_are_looked_for_again_with_all_that_was_asked_for() {
        check("limits");
        check("limits --rates --starts");
        check(
            "limits --steps '1,2' --hold 2s --deltas-per-second 30 --rates '5,6' --rate-turns 7 --bound 5ms --starts 20 \
             --execution 3ms --worker /w --max-rss 60 --max-idle-rss 20 --allow-missed-goals",
        );
    }

    #[test]
    fn what_a_start_violates_is_counted_where_the_verdict_comes_from() {
        let (mut report, other) = (testing::passed(), testing::failed());
        let before: u64 = report.oracles.iter().map(|(_, count)| count).sum();
        assert_eq!(before, 0);
        absorb(&mut report, &other);
        assert_eq!((report.verdict, report.violations.len()), (other.verdict, other.violations.len()));
        for (oracle, count) in &other.oracles {
            assert!(report.oracles.contains(&(oracle.clone(), *count)), "{oracle} in {:?}", report.oracles);
        }
        absorb(&mut report, &other);
        let twice: u64 = other.oracles.iter().map(|(_, count)| 2 * count).sum();
        assert_eq!(report.oracles.iter().map(|(_, count)| count).sum::<u64>(), twice);
    }

    #[test]
    fn a_missed_goal_is_a_regression_unless_it_is_allowed_or_something_worse_happened() {
        let missed = ["added latency".to_owned()];
        assert_eq!(judge(Exit::Passed, &[], false), Exit::Passed);
        assert_eq!(judge(Exit::Passed, &missed, false), Exit::Regression);
        assert_eq!(judge(Exit::Passed, &missed, true), Exit::Passed);
        assert_eq!(judge(Exit::Safety, &missed, false), Exit::Safety);
        assert_eq!(judge(Exit::Interrupted, &missed, false), Exit::Interrupted);
    }
}
