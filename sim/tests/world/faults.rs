//! Faults of every kind have their effect, end when they are healed, and repeat.

use std::{fs, sync::mpsc};

use serde_json::Value;
use sim_model::fault::FaultKind;
use sim_report::{Report, RunVerdict};
use tempfile::TempDir;

use crate::start::{self, parse};

/// A world small enough for many runs.
const WORLD: &str = "
[population]
sessions = 4
missing_in_opencode = 2
[workload]
turns = 30
from = '500ms'
[replies]
deltas = { min = 5, max = 40 }
bytes = { min = '50B', max = '1KiB' }
first_token = { min = '50ms', max = '200ms' }
pace = { min = '5ms', max = '20ms' }
[worker.turns]
idle_timeout = '15s'
[limits]
worker_heap_idle = '1MiB'
worker_heap_above_idle = '2MiB'
[liveness]
within = '4min'
";

/// A finished run.
struct Run {
    report: Report,
    facts: Vec<Value>,
}

/// A run that is under way.
struct Started {
    report: mpsc::Receiver<Report>,
    directory: TempDir,
}

fn start(source: &str, seed: u64) -> Started {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join(TRACE);
    Started { report: start::start(parse(source), seed, &[], Some(trace)), directory }
}

const TRACE: &str = "trace.jsonl";

impl Started {
    fn end(self) -> Run {
        let report = self.report.recv().unwrap();
        let facts = fs::read_to_string(self.directory.path().join(TRACE)).unwrap();
        Run { report, facts: facts.lines().map(|line| serde_json::from_str(line).unwrap()).collect() }
    }
}

impl Run {
    #[track_caller]
    fn passed(self, what: impl std::fmt::Display) -> Self {
        assert_eq!(self.report.verdict, RunVerdict::Passed, "{what}: {:#?}", self.report.violations.first());
        self
    }

    /// The facts of this name.
    fn all<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a Value> {
        self.facts.iter().filter(move |fact| fact["event"] == *event)
    }

    /// The only moment (µs) of this fact.
    fn moment(&self, event: &str) -> u64 {
        self.all(event).next().unwrap()["at"].as_u64().unwrap()
    }

    /// A number of the report.
    fn figure(&self, path: &str) -> u64 {
        let figures = serde_json::to_value(&self.report.figures).unwrap();
        figures.pointer(path).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Whether a fact of this name came while the fault was in effect (but for what was under way at its beginning).
    fn had_meanwhile(&self, event: &str) -> bool {
        let within = self.moment("fault-began") + 100_000..self.moment("fault-ended");
        self.all(event).any(|fact| within.contains(&fact["at"].as_u64().unwrap()))
    }

    /// The longest time (µs) from a message to its claim.
    fn slowest_claim(&self) -> f64 {
        let figures = serde_json::to_value(&self.report.figures).unwrap();
        figures["latencies"][0]["max"].as_f64().unwrap()
    }
}

/// One fault of a kind in a small world, with more lines for it.
fn with(kind: FaultKind, more: &str) -> Run {
    let source = format!("duration = '14s'\n{WORLD}[[faults]]\nkind = '{kind}'\nat = '4s'\n{more}");
    start(&source, 1).end().passed(kind)
}

#[test]
fn a_worker_that_is_killed_or_stopped_or_rolled_starts_again() {
    assert_eq!(with(FaultKind::Kill, "").figure("/kills"), 1);
    for kind in [FaultKind::Stop, FaultKind::RollingRestart] {
        let run = with(kind, "");
        assert_eq!((run.figure("/stops"), run.figure("/worker_starts")), (2, 2), "{kind}");
    }
}

#[test]
fn kills_come_at_the_step_that_they_wait_for() {
    for (when, last) in [
        ("before-claim", "sent"),
        ("before-prompt", "turn-changed"),
        ("in-mid-reply", "chunk-written"),
        ("before-complete", "reply-ended"),
    ] {
        let run = with(FaultKind::Kill, &format!("when = '{when}'"));
        let killed = run.moment("killed");
        let before = run.all(last).any(|fact| (fact["at"].as_u64().unwrap()..=killed).contains(&killed));
        assert!(before, "{when}: no {last} before");
    }
}

#[test]
fn a_process_that_stood_still_is_superseded_and_its_successor_goes_on() {
    let run = with(FaultKind::Zombie, "when = 'in-mid-reply'\nfor = '3s'");
    let exit = run.all("zombie-exited").next().unwrap();
    assert_eq!(exit["exit"]["failed"], "Superseded");
    assert!(exit["at"].as_u64().unwrap() - run.moment("fault-ended") < 1_000_000);
    assert_eq!(run.figure("/worker_starts"), 2);
}

#[test]
fn the_hooks_of_the_fakes_are_struck() {
    // Each of these has a test of its own.
    let others = [FaultKind::OpencodeSlowStart, FaultKind::OpencodeAbortIgnored];
    let kinds = FaultKind::all().filter(|kind| kind.strikes() && !others.contains(kind));
    for kind in kinds {
        let more = if kind == FaultKind::OpencodeSlowCreate || kind == FaultKind::OpencodeSessionsVanish {
            ""
        } else {
            "for = '4s'"
        };
        let at = if kind == FaultKind::OpencodeSlowCreate { "0s" } else { "4s" };
        let more = if kind == FaultKind::OpencodeSlowCreate { "for = '9s'" } else { more };
        let source = format!("duration = '14s'\n{WORLD}[[faults]]\nkind = '{kind}'\nat = '{at}'\n{more}");
        let run = start(&source, 1).end().passed(kind);
        assert!(run.figure(&format!("/faults/{kind}/struck")) > 0, "{kind}");
        assert_eq!(run.figure(&format!("/faults/{kind}/begun")), 1, "{kind}");
    }
}

#[test]
fn a_server_that_starts_slowly_is_waited_for() {
    let source =
        format!("duration = '14s'\n{WORLD}[[faults]]\nkind = 'opencode-slow-start'\nat = '0s'\ndelay = '5s'");
    let run = start(&source, 1).end().passed("slow start");
    assert_eq!(run.figure("/faults/opencode-slow-start/struck"), 1);
    assert!(run.moment("prompted") > 5_000_000);
}

#[test]
fn an_abort_is_ignored_where_there_is_one() {
    let hangs = "[[faults]]\nkind = 'opencode-model-hangs'\nat = '3s'\nfor = '3s'\n";
    let ignored = "[[faults]]\nkind = 'opencode-abort-ignored'\nat = '3s'\nfor = '27s'\n";
    let run = start(&format!("duration = '30s'\n{WORLD}{hangs}{ignored}"), 1).end().passed("ignored aborts");
    assert!(run.figure("/faults/opencode-abort-ignored/struck") > 1);
}

#[test]
fn a_limited_fault_strikes_no_more_than_it_may() {
    let run = with(FaultKind::MutationLost, "for = '5s'\ntimes = 2");
    assert_eq!(run.figure("/faults/mutation-lost/struck"), 2);
}

#[test]
fn a_crashed_server_is_started_again_and_sessions_that_vanished_are_made_anew() {
    assert_eq!(with(FaultKind::OpencodeCrash, "when = 'in-mid-reply'").figure("/server_starts"), 2);
    assert!(with(FaultKind::OpencodeSessionsVanish, "").figure("/creates") > 2);
    assert_eq!(with(FaultKind::OpencodeStreamCut, "").figure("/event_streams"), 2);
}

#[test]
fn a_server_that_hangs_answers_nothing_and_goes_on_later() {
    assert!(!with(FaultKind::OpencodeHang, "for = '3s'").had_meanwhile("request"));
}

#[test]
fn a_cut_network_carries_nothing_and_a_slow_one_is_slow() {
    for kind in [FaultKind::Partition, FaultKind::NetworkHold] {
        let run = with(kind, "for = '3s'\nlink = 'opencode'");
        assert!(!run.had_meanwhile("request"), "{kind}");
        let run = with(kind, "for = '3s'");
        assert!(run.slowest_claim() > 1_000.0, "{kind}: {} ms", run.slowest_claim());
    }
    let run = with(FaultKind::Partition, "for = '3s'\ndirection = 'from-worker'");
    assert!(run.slowest_claim() > 1_000.0);
    let run = with(FaultKind::NetworkLatency, "for = '3s'\ndelay = '1s'");
    assert!(run.slowest_claim() > 1_900.0, "{} ms", run.slowest_claim());
}

#[test]
fn a_reset_or_a_restart_of_the_deployment_makes_the_worker_connect_again() {
    assert_eq!(with(FaultKind::NetworkReset, "").figure("/connections"), 2);
    let run = with(FaultKind::ConvexRestart, "for = '3s'");
    assert_eq!(run.figure("/connections"), 2);
    assert!(!run.had_meanwhile("connected"));
}

#[test]
fn a_line_that_is_slow_or_loses_segments_carries_everything_later() {
    let run = with(FaultKind::NetworkSlow, "for = '6s'\nrate = '1KiB'");
    assert!(run.slowest_claim() > 500.0, "{} ms", run.slowest_claim());
    assert_eq!((run.figure("/connections"), run.figure("/turns/completed")), (1, 30));
    let run = with(FaultKind::NetworkLoss, "for = '6s'\nprobability = 0.5");
    assert!(run.slowest_claim() > 600.0, "{} ms", run.slowest_claim());
    assert_eq!((run.figure("/connections"), run.figure("/turns/completed")), (1, 30));
}

/// One fault of a kind, and meanwhile the worker has to connect.
fn while_connecting(kind: FaultKind, lasts: &str) -> Run {
    let reset = "[[faults]]\nkind = 'network-reset'\nat = '5s'\n";
    let source =
        format!("duration = '40s'\n{WORLD}[[faults]]\nkind = '{kind}'\nat = '4s'\nfor = '{lasts}'\n{reset}");
    start(&source, 1).end().passed(kind)
}

#[test]
fn connections_that_nobody_accepts_are_given_up_and_opened_again() {
    let run = while_connecting(FaultKind::NetworkSynLoss, "25s");
    let connected: Vec<_> = run.all("connected").map(|fact| fact["at"].as_u64().unwrap()).collect();
    assert_eq!(connected.len(), 2, "{connected:?}");
    assert!((29_000_000..40_000_000).contains(&connected[1]), "{connected:?}");
}

#[test]
fn an_address_at_which_nobody_answers_costs_a_quarter_of_a_second() {
    let run = while_connecting(FaultKind::NetworkDeadAddress, "25s");
    let connected: Vec<_> = run.all("connected").map(|fact| fact["at"].as_u64().unwrap()).collect();
    assert_eq!(connected.len(), 2, "{connected:?}");
    assert!((5_250_000..6_000_000).contains(&connected[1]), "{connected:?}");
}

#[test]
fn a_clock_that_jumps_disturbs_nobody() {
    for by in ["1h", "-1h"] {
        let run = with(FaultKind::ClockJump, &format!("by = '{by}'\nfor = '4s'"));
        assert_eq!(run.figure("/faults/clock-jump/begun"), 1);
        assert_eq!(run.figure("/turns/completed"), 30);
    }
}

/// All kinds but the one that nothing heals: who leaves for good leaves turns that end after many minutes, which
/// `workers-that-leave.toml` waits for.
fn kinds_that_heal() -> impl Iterator<Item = FaultKind> {
    FaultKind::all().filter(|kind| *kind != FaultKind::Leave)
}

#[test]
fn healing_ends_every_kind_and_then_everything_ends() {
    for kind in kinds_that_heal() {
        let lasts = if kind.is_momentary() { "" } else { "for = '1h'" };
        let source = format!("duration = '6s'\n{WORLD}[[faults]]\nkind = '{kind}'\nat = '3s'\n{lasts}");
        let run = start(&source, 2).end().passed(kind);
        let (began, ended) = (run.all("fault-began").count(), run.all("fault-ended").count());
        assert_eq!((began, ended), (1, 1), "{kind}");
        assert!(kind.is_momentary() || run.moment("fault-ended") >= 6_000_000, "{kind}");
    }
}

#[test]
fn twenty_seeds_of_a_swarm_pass_and_each_repeats() {
    let kinds: String = kinds_that_heal().map(|kind| format!("{kind} = 1\n")).collect();
    let source = format!(
        "duration = '20s'\n{WORLD}[swarm]\nfaults = 12\nfrom = '1s'\nuntil = '18s'\nfor = {{ min = '200ms', max = '4s' }}\n[swarm.kinds]\n{kinds}"
    );
    for seed in 1..=20 {
        let [once, again] = [start(&source, seed), start(&source, seed)].map(Started::end);
        let once = once.passed(format!("seed {seed}"));
        assert_eq!(once.report.trace.hash, again.report.trace.hash, "seed {seed}");
        assert!(once.all("fault-began").count() > 0, "seed {seed}");
    }
}
