//! What the worker costs, measured: small runs, each for one figure, and the page that they make (`docs/costs.md`).
//!
//! Everything is a count and repeats to the last digit, so the page can be compared with a new measurement byte for byte.

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::Context as _;
use sim_model::{
    order::Order,
    scenario::Scenario,
    seed::Seed,
    trace::{Caller, Event, Fact, Micros, Name, TurnState},
};
use sim_report::{Report, RunVerdict};

use crate::world;

/// Sessions in the backend, for which start and idleness are measured.
const POPULATIONS: [u64; 3] = [100, 10_000, 100_000];
/// How much of time to ready and heap may depend on the population.
const TOLERANCE: f64 = 0.05;
/// The turns that run at once while the heap of each is measured.
const TURNS: u64 = 8;
/// So many µs are a second.
const SECOND: u64 = 1_000_000;

/// A worker's start, and its idleness, with so many sessions in the backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Sessions in the backend.
    pub sessions: u64,
    /// From the process's start to readiness (ms).
    pub ready_ms: u64,
    /// Calls until then, reruns included.
    pub calls: u64,
    /// Documents that they read.
    pub documents: u64,
    /// Bytes that they read.
    pub bytes: u64,
    /// Heap while nothing happens (bytes).
    pub idle_heap: i64,
}

/// All figures of the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Costs {
    /// For each population.
    pub starts: Vec<Start>,
    /// Heap when turns have run, none runs, and OpenCode's connections are open (bytes).
    pub heap_with_server: i64,
    /// Heap above that for each of `TURNS` turns that run at once (bytes).
    pub heap_per_turn: i64,
    /// The same at the last moment at which all of them run: their beginnings are over (bytes).
    pub heap_per_begun_turn: i64,
    /// Calls per turn, at 200 deltas in 10 s.
    pub calls_per_turn: f64,
    /// The calls of an hour without a turn, by function: the worker's and those that the backend schedules.
    pub idle_hour: Vec<(String, u64)>,
}

/// Measures everything.
///
/// # Errors
/// If a run cannot be made, or an oracle convicts it.
pub fn measure() -> anyhow::Result<Costs> {
    let starts = POPULATIONS.into_iter().map(start).collect::<Result<_, _>>()?;
    let (heap_with_server, heap_per_turn, heap_per_begun_turn) = heap_of_turns()?;
    Ok(Costs {
        starts,
        heap_with_server,
        heap_per_turn,
        heap_per_begun_turn,
        calls_per_turn: calls_per_turn()?,
        idle_hour: idle_hour()?,
    })
}

impl Costs {
    /// Whether the backend's population shows in the start or the heap by more than the tolerance; if so, how.
    #[must_use]
    pub fn dependence(&self) -> Option<String> {
        let first = self.starts.first()?;
        let is_off = |base: f64, found: f64| (found - base).abs() > base * TOLERANCE;
        self.starts.iter().find_map(|start| {
            let time = is_off(first.ready_ms as f64, start.ready_ms as f64);
            let heap = is_off(first.idle_heap as f64, start.idle_heap as f64);
            (time || heap).then(|| format!("{start:?} differs from {first:?} by more than 5 %"))
        })
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::from(HEAD);
        for start in &self.starts {
            let Start { sessions, ready_ms, calls, documents, bytes, idle_heap } = start;
            let heap = kib(*idle_heap);
            page += &format!("| {sessions} | {ready_ms} ms | {calls} | {documents} | {bytes} | {heap} |\n");
        }
        let hour: u64 = self.idle_hour.iter().map(|(_, calls)| calls).sum();
        let by_function: Vec<String> =
            self.idle_hour.iter().map(|(function, calls)| format!("{calls} × `{function}`")).collect();
        page + &format!(
            "{PREDECESSOR_START}\n## A turn\n\n| what | figure |\n|---|---|\n\
             | heap of an idle worker | {} |\n\
             | heap when OpenCode runs and no turn does | {} |\n\
             | heap above that for each of {TURNS} turns at once, most | {} |\n\
             | the same, once all of them have begun | {} |\n\
             | Convex calls per turn, 200 deltas in 10 s | {:.1} |\n{PREDECESSOR_TURN}\n\
             ## An hour without a turn\n\n{hour} calls: {}.\n{PREDECESSOR_HOUR}\n\
             ## A month without a turn\n\n| workers | calls | of those that a plan includes |\n|---|---|---|\n{}{MONTH}",
            kib(self.starts.first().map_or(0, |start| start.idle_heap)),
            kib(self.heap_with_server),
            kib(self.heap_per_turn),
            kib(self.heap_per_begun_turn),
            self.calls_per_turn,
            by_function.join(", "),
            [1, 1_000].map(|workers| month(workers, hour * HOURS_OF_MONTH * workers)).concat(),
        )
    }
}

fn kib(bytes: i64) -> String {
    format!("{:.1} KiB", bytes as f64 / 1024.0)
}

const HEAD: &str = "\
# What the worker costs

Made by `cargo run -p sim -- costs --write docs/costs.md`; CI measures again and compares every byte (`--check`). All
figures are counts of a simulated run with a dev build, so they repeat exactly; heap is counted to the byte by an
allocator that knows whose block is whose.

## A start, by how many sessions the backend has

| sessions | until ready | calls | documents read | bytes read | heap, idle |
|---|---|---|---|---|---|
";

const PREDECESSOR_START: &str = "
Neither time nor heap may differ by more than 5 % between the rows; the command fails if they do. The predecessor's
three versions, measured over loopback with 1,000 sessions: ready after 24.4, 7.7 and 0.32 s (medians), 848, 528 and 3
calls, 104.9, 34.6 and 12.9 MB received, and 108, 99 and 94 MB of resident memory after a minute (a whole process of
another runtime, so not the same quantity as a heap). They differ because the last version restores nothing, and so
cannot answer in the sessions that were active before its start.
";

const PREDECESSOR_TURN: &str = "
Connections to OpenCode are what is dear: hyper takes 25 KiB for each, and up to six are open while turns begin. The
predecessor made 2 to 3 calls for a reply, because it wrote all of it at once when it was complete, and received all
messages of all time twice for each message: 25.4 MB per message at 1,000 sessions.
";

/// A month of 30 days.
const HOURS_OF_MONTH: u64 = 720;
/// Calls a month that Convex's plans include.
const PLANS: [(&str, u64); 2] = [("Starter", 1_000_000), ("Professional", 25_000_000)];

fn month(workers: u64, calls: u64) -> String {
    let shares = PLANS.map(|(plan, included)| format!("{plan}: {} %", (calls * 100).div_ceil(included)));
    format!("| {workers} | {calls} | {} |\n", shares.join(", "))
}

const MONTH: &str = "
Convex's limits page names 1,000,000 calls a month for Starter and 25,000,000 for Professional, then $2 for each million
more (November 2026). While turns run, or somebody has asked the worker to connect within five minutes, it beats every
`heartbeat.busy`, 5 s; a longer `heartbeat.idle` makes fewer calls, and a worker that is gone is shown later: after three
of its intervals. A backend without workers makes no calls at all.
";

const PREDECESSOR_HOUR: &str = "
The worker says that it is alive every 30 s with jitter, and a scheduled check looks whether it still does; nothing else
is called when nothing changes. The predecessor's first version made 255 to 290 calls in the 30 s from one of its syncs to the next (measured with 90
sessions that only OpenCode had, each of which it imported again every time).
";

/// A run: its report and its facts.
fn run(name: &str, text: &str) -> anyhow::Result<(Report, Vec<Fact>)> {
    let scenario =
        Scenario::parse(name, name, text).map_err(|error| anyhow::anyhow!("{}", error.render(false)))?;
    let order = Order { scenario, seed: Seed(1), plants: Vec::new(), trace: None, replay: String::new() };
    let facts = Arc::new(Mutex::new(Vec::new()));
    let follower = Arc::clone(&facts);
    let follow =
        move |fact: &Fact| follower.lock().unwrap_or_else(PoisonError::into_inner).push(fact.clone());
    let (sender, receiver) = mpsc::channel();
    let done = move |report| drop(sender.send(report));
    let thread = world::start_followed(order, Arc::default(), Some(Box::new(follow)), done);
    let report = receiver.recv().context("the simulator panicked")??;
    drop(thread.join());
    anyhow::ensure!(report.verdict == RunVerdict::Passed, "{name}: {:#?}", report.violations.first());
    let facts = std::mem::take(&mut *facts.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((report, facts))
}

/// A call of a function by a worker, or a rerun for its subscription.
struct Call<'a> {
    at: Micros,
    function: &'a Name,
    documents: u64,
    bytes: u64,
    rerun: bool,
}

fn workers_calls(facts: &[Fact]) -> impl Iterator<Item = Call<'_>> {
    facts.iter().filter_map(|fact| match &fact.event {
        Event::Executed {
            function, caller: Caller::Worker(_), documents_read, bytes_read, rerun, ..
        } => {
            let (documents, bytes) = (*documents_read, *bytes_read);
            Some(Call { at: fact.at, function, documents, bytes, rerun: *rerun })
        }
        _ => None,
    })
}

fn start(sessions: u64) -> anyhow::Result<Start> {
    let text = format!(
        "duration = '30s'\n[population]\nsessions = {sessions}\n[workload]\nturns = 0\n[limits]\nworker_heap_idle = '1MiB'\n"
    );
    let (_, facts) = run("costs of a start", &text)?;
    let when = |is: fn(&Event) -> bool| facts.iter().find(|fact| is(&fact.event)).map(|fact| fact.at);
    let begun = when(|event| matches!(event, Event::WorkerStarted { .. })).unwrap_or(0);
    let ready = when(|event| matches!(event, Event::Ready { .. })).context("it is never ready")?;
    let calls: Vec<_> = workers_calls(&facts).filter(|call| call.at <= ready + SECOND).collect();
    let heap = facts.iter().rev().filter(|fact| fact.at < 30 * SECOND).find_map(|fact| match fact.event {
        Event::Heap { live, .. } => Some(live),
        _ => None,
    });
    Ok(Start {
        sessions,
        ready_ms: (ready - begun) / 1000,
        calls: calls.len() as u64,
        documents: calls.iter().map(|call| call.documents).sum(),
        bytes: calls.iter().map(|call| call.bytes).sum(),
        idle_heap: heap.context("no heap was measured")?,
    })
}

/// Heap with OpenCode running and no turn, and above that for each turn when all run: at most, and at last.
fn heap_of_turns() -> anyhow::Result<(i64, i64, i64)> {
    let text = format!(
        "duration = '60s'\n[population]\nsessions = 200\n[workload]\nturns = {TURNS}\nfrom = '2s'\nuntil = '3s'\n\
         [replies]\ndeltas = {{ min = 600, max = 600 }}\nbytes = {{ min = '12KiB', max = '12KiB' }}\n\
         pace = {{ min = '50ms', max = '50ms' }}\n[limits]\nworker_heap_idle = '1MiB'\n"
    );
    let (_, facts) = run("costs of turns", &text)?;
    let (mut running, mut busiest) = (0_i64, (0, 0));
    let (mut rest, mut begun) = (None, 0);
    for fact in &facts {
        match &fact.event {
            Event::TurnChanged { to, .. } => running += if *to == TurnState::Claimed { 1 } else { -1 },
            Event::Heap { live, .. } => {
                busiest = busiest.max((running, *live));
                if running == TURNS.cast_signed() {
                    begun = *live;
                }
                if running == 0 && busiest.0 > 0 && fact.at < 60 * SECOND {
                    rest = Some(*live);
                }
            }
            _ => {}
        }
    }
    let rest = rest.context("the turns never ended")?;
    anyhow::ensure!(busiest.0 == TURNS.cast_signed(), "only {} turns ran at once", busiest.0);
    Ok((rest, (busiest.1 - rest) / busiest.0, (begun - rest) / busiest.0))
}

fn calls_per_turn() -> anyhow::Result<f64> {
    let text = "duration = '200s'\n[population]\nsessions = 20\n[workload]\nturns = 20\nuntil = '180s'\n[replies]\n\
                deltas = { min = 200, max = 200 }\nbytes = { min = '4KiB', max = '4KiB' }\n\
                pace = { min = '50ms', max = '50ms' }\n[limits]\nworker_heap_idle = '1MiB'\n";
    let (report, facts) = run("costs of a turn", text)?;
    let of_turns = ["chat:claim", "chat:sessionReady", "chat:writeChunk", "chat:completeMessage"];
    let of_turns = workers_calls(&facts).filter(|call| !call.rerun && of_turns.contains(&&**call.function));
    let turns = report.figures.turns.get("completed").copied().unwrap_or_default();
    anyhow::ensure!(turns > 0, "no turn was completed");
    Ok(of_turns.count() as f64 / turns as f64)
}

fn idle_hour() -> anyhow::Result<Vec<(String, u64)>> {
    let text = "duration = '62m'\ntick = '100ms'\nlatency = { min = '10ms', max = '20ms' }\n\
                [population]\nsessions = 100\n[workload]\nturns = 0\n[limits]\nworker_heap_idle = '1MiB'\n";
    let (_, facts) = run("costs of an hour", text)?;
    let mut calls = std::collections::BTreeMap::new();
    for fact in facts.iter().filter(|fact| (60 * SECOND..3_660 * SECOND).contains(&fact.at)) {
        if let Event::Executed { function, .. } = &fact.event {
            *calls.entry(function.to_string()).or_default() += 1;
        }
    }
    Ok(calls.into_iter().collect())
}
