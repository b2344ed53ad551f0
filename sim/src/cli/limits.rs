//! `sim limits`: how much the worker's binary can do, found by a rising load.

use std::{ffi::OsString, time::Duration};

use clap::Args;

use super::{
    Exit,
    load::{WorkerArgs, publish, run},
    outputs::Outputs,
    terminal,
};
use crate::{
    load::{
        LoadOrder,
        goals::{Starts, goals},
        steps::Rising,
    },
    report::Verdict,
    scenario::Scenario,
    seed::Seed,
    world::Order,
};

/// How far to go, and from when on it is too far.
#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Turns at the same time, step by step.
    #[arg(long, value_name = "N,N…", value_delimiter = ',', default_value = "1,10,25,50,100,150,200,300,400,500",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    steps: Vec<u16>,
    /// How long each step is measured.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    hold: Duration,
    /// Pieces that each reply gets in a second.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    deltas_per_second: u32,
    /// A step in which the worker adds more than this to one of a hundred writes is too much.
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = humantime::parse_duration)]
    bound: Duration,
    /// Also start the worker a few times with so many sessions in the backend; an empty list leaves it out.
    #[arg(long, value_name = "N,N…", value_delimiter = ',', default_value = "100,100000", num_args = 0..)]
    starts: Vec<u64>,
    /// How long a function of the backend takes besides its own work. One client's mutations run one after the other,
    /// as in production, so a backend that is slow limits how often a worker can write.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = humantime::parse_duration)]
    execution: Duration,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    outputs: Outputs,
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
    let command = match args.worker.command() {
        Ok(command) => command,
        Err(error) => {
            terminal::complain(&format!("error: {error}"));
            return Ok(Exit::Usage);
        }
    };
    let mut turns: Vec<usize> = args.steps.iter().map(|turns| usize::from(*turns)).collect();
    turns.sort_unstable();
    turns.dedup();
    let rising =
        Rising { turns, hold: args.hold, deltas_per_second: args.deltas_per_second, bound: args.bound };
    if !quiet {
        terminal::say(&announcement(&rising));
    }
    let climbing = order(args, &command, rising.scenario()?);
    let mut climb = run(&LoadOrder { rising: Some(rising.clone()), ..climbing }, quiet)?;
    let mut starts = Vec::new();
    for sessions in &args.starts {
        if climb.verdict == Verdict::Interrupted {
            break;
        }
        let text = format!("{STARTS}sessions = {sessions}\nmissing_in_opencode = {sessions}");
        let scenario = Scenario::parse("starts", "starts", &text)?;
        let report = run(&order(args, &command, scenario), quiet)?;
        climb.verdict = worse(climb.verdict, report.verdict);
        climb.violations.extend(report.violations.iter().cloned());
        starts.push(Starts { sessions: *sessions, report });
    }
    let reached = goals(&rising, &climb, &starts);
    if let Some(load) = &mut climb.load {
        load.goals = reached;
    }
    publish(&climb, &args.outputs)
}

/// The first that did not pass counts.
fn worse(one: Verdict, other: Verdict) -> Verdict {
    if one == Verdict::Passed { other } else { one }
}

fn announcement(rising: &Rising) -> String {
    let steps: Vec<_> = rising.turns.iter().map(ToString::to_string).collect();
    let (rate, hold, bound) = (rising.deltas_per_second, rising.hold, rising.bound);
    format!(
        "turns at once  {}\neach           {rate} deltas per second, measured for {hold:?}\n\
         too much       when the worker adds more than {bound:?} to one of a hundred writes\n\
         takes          at most {:?}\n",
        steps.join(", "),
        rising.duration()
    )
}

fn order(args: &LimitsArgs, command: &[OsString], scenario: Scenario) -> LoadOrder {
    let replay = "cargo run --release -p sim -- limits".to_owned();
    LoadOrder {
        order: Order { replay, trace: None, plants: Vec::new(), scenario, seed: Seed(1) },
        command: command.to_vec(),
        time_scale: 1.0,
        limit: None,
        execution: args.execution,
        ceilings: args.worker.ceilings(),
        rising: None,
    }
}
