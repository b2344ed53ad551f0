//! Small reports for tests.

use crate::{
    data::{Engine, Report, SCHEMA, TraceSummary},
    figures::{Figures, Latency},
    load_figures::{LoadFigures, ProcessFigures, Reading, Step},
    series::Series,
    verdict::RunVerdict,
};
use sim_model::{
    plant::Plant,
    scenario::{Limits, Source},
    seed::Seed,
    trace::{Caller, Event, Exit, Fact, Micros, Name, Phase, TurnState},
};
use sim_oracles::{Class, Violation};

const SECOND: Micros = 1_000_000;

fn name(text: &str) -> Name {
    Name::from(text)
}

fn changed(from: TurnState, to: TurnState) -> Event {
    let (turn, session, worker) = (name("turn-1"), name("session-1"), name("worker-1"));
    Event::TurnChanged { turn, session, worker, from, to, epoch: None, chunks: None, error: None }
}

fn executed(function: &str) -> Event {
    Event::Executed {
        function: name(function),
        caller: Caller::Worker(name("worker-1")),
        documents_read: 2,
        bytes_read: 100,
        documents_written: 0,
        bytes_written: 0,
        attempts: 1,
        rerun: false,
        identity: None,
        epoch: None,
        error: None,
    }
}

/// A life of five seconds with a kill in it.
fn life() -> Vec<(Micros, &'static str, Event)> {
    let worker = || name("worker-1");
    let start = |start| Event::WorkerStarted { worker: worker(), start };
    let heap = |live, peak| Event::Heap { worker: worker(), live, peak };
    let transferred = |peer, sent, received| {
        let peer = name(peer);
        Event::Transferred { worker: worker(), peer, sent, received }
    };
    let (turn, session, text) = (name("turn-1"), name("session-1"), name("hello"));
    let sent = Event::Sent { turn, session, worker: worker(), created: 0.0, text: text.clone() };
    let prompted = Event::Prompted { opencode_session: name("ses_1"), message: name("msg_1"), text };
    vec![
        (0, "world", Event::PhaseBegan { phase: Phase::Safety }),
        (0, "worker-1", start(1)),
        (SECOND / 2, "worker-1", heap(40_000, 52_000)),
        (SECOND / 2, "convex", executed("chat:subscribeToWorkerMessages")),
        (SECOND, "convex", sent),
        (SECOND * 5 / 4, "convex", changed(TurnState::Pending, TurnState::Claimed)),
        (SECOND * 5 / 4, "convex", executed("chat:claimTurn")),
        (SECOND * 3 / 2, "opencode-1", Event::CreateStarted { in_flight: 1 }),
        (SECOND * 3 / 2, "opencode-1", prompted),
        (SECOND * 2, "worker-1", Event::Cache { worker: worker(), sessions: 1 }),
        (SECOND * 9 / 4, "convex", changed(TurnState::Claimed, TurnState::Completed)),
        (SECOND * 3, "world", Event::Killed { worker: worker() }),
        (SECOND * 3, "worker-1", heap(0, 60_000)),
        (SECOND * 7 / 2, "worker-1", start(2)),
        (SECOND * 4, "world", Event::PhaseBegan { phase: Phase::Liveness }),
        (SECOND * 5, "world", transferred("convex", 20_000, 9_000)),
        (SECOND * 5, "world", transferred("opencode-1", 1_000, 30_000)),
        (SECOND * 5, "worker-1", Event::Exited { worker: worker(), exit: Exit::Stopped }),
    ]
}

/// A report without violations.
#[must_use]
pub fn passed() -> Report {
    let (mut figures, mut series) = (Figures::default(), Series::default());
    for (at, host, event) in life() {
        let fact = Fact { at, host: name(host), event };
        figures.observe(&fact);
        series.observe(&fact);
    }
    Report {
        schema: SCHEMA,
        scenario: "some".into(),
        description: "a test of reports".into(),
        source: Source::new("some.toml", "duration = '4s'"),
        seed: Seed(42),
        plants: Vec::new(),
        options: vec![("duration".into(), "4s".into()), ("workers".into(), "1 (Worker)".into())],
        verdict: RunVerdict::Passed,
        oracles: vec![("memory".into(), 0), ("throttle".into(), 0)],
        marks: [("kill-in-mid-reply".into(), 1), ("model-error".into(), 0)].into(),
        required_marks: vec!["kill-in-mid-reply".into()],
        violations: Vec::new(),
        figures: figures.summary(),
        distribution: figures.distribution(),
        timeline: series.timeline(SECOND * 5),
        limits: Limits::default(),
        trace: TraceSummary { facts: 16, hash: "0123456789abcdef0123456789abcdef".into() },
        replay: "cargo run -p sim -- some.toml --seed 0x2a".into(),
        engine: Engine { steps: 5000, simulated: 5.0, wall: 0.25 },
        load: None,
    }
}

/// A report with violations whose texts try to break out of what they are put into.
#[must_use]
pub fn failed() -> Report {
    let event = Event::Aborted { opencode_session: name("<script>alert('x')</script>") };
    let fact = Fact { at: SECOND, host: name("opencode-1"), event };
    let told = Violation {
        oracle: "throttle".into(),
        class: Class::Safety,
        at: SECOND * 3 / 2,
        message: "6 creations & <b>more</b> ]]> than | 5".into(),
        story: vec![fact],
    };
    let other = Violation { at: SECOND * 2, story: Vec::new(), ..told.clone() };
    Report {
        plants: vec![Plant::ThrottleOff],
        verdict: RunVerdict::Safety,
        oracles: vec![("memory".into(), 0), ("throttle".into(), 17)],
        violations: vec![told, other],
        replay: "cargo run -p sim -- some.toml --seed 0x2a --plant throttle-off".into(),
        ..passed()
    }
}

/// A report of a run in real time.
#[must_use]
pub fn in_real_time(load: LoadFigures) -> Report {
    Report { load: Some(load), ..passed() }
}

/// A run in real time with a step of a rising load.
#[must_use]
pub fn load_figures() -> LoadFigures {
    let latency = |stage: &'static str, p99| Latency {
        stage: stage.into(),
        count: 7,
        p50: 0.4,
        p90: 1.0,
        p99,
        max: 120.4,
    };
    let worker = ProcessFigures {
        name: "worker-1".into(),
        ready_ms: vec![71.2, 80.9],
        idle_rss: 9 << 20,
        peak_rss: 12 << 20,
        peak_pss: 8 << 20,
        idle_heap: 2 << 20,
        peak_heap: 5 << 20,
        cpu_seconds: 1.234,
        threads: 1,
        files: 14,
        orphans: 0,
    };
    let reading = Reading {
        seconds: 20.0,
        worker_cores: 0.061,
        fake_cores: [0.2, 0.1],
        fake_lag: [latency("lag of the fake Convex", 1.5), latency("lag of the fake OpenCode", 1.1)],
        machine_busy: 0.4,
        deltas_per_second: 321.4,
        added: latency("added by the worker", 2.25),
    };
    let step = Step {
        turns: 10,
        deltas_per_turn: 20,
        running: 10,
        waiting: 0,
        rss: 12 << 20,
        strain: None,
        reading: reading.clone(),
    };
    LoadFigures {
        command: "worker run".into(),
        profile: "release profile".into(),
        simulator_is_release: true,
        time_scale: 2.0,
        execution_ms: 2.0,
        processors: 2,
        workers: vec![worker],
        whole: reading,
        never_came: 1,
        given_up: 2,
        steps: vec![step],
        knee: "none up to 10 turns".into(),
        rate_knee: String::new(),
        goals: Vec::new(),
        unseen: vec!["the heap".into()],
        against: Vec::new(),
        other: None,
    }
}
