//! What a run in real time came to, beyond the figures of every run. None of it repeats exactly.

use schemars::JsonSchema;
use serde::Serialize;

use crate::report::Latency;

/// The load test's part of a report.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LoadFigures {
    /// Which worker ran.
    pub command: String,
    /// How many times as fast as in the scenario people and models were.
    pub time_scale: f64,
    /// How long a function of the backend took besides its own work, in ms.
    pub execution_ms: f64,
    /// Processors of the machine.
    pub processors: usize,
    /// Each worker's process, all its starts together.
    pub workers: Vec<ProcessFigures>,
    /// From when work began until it was done.
    pub whole: Reading,
    /// Steps of a rising load, if it was one.
    pub steps: Vec<Step>,
    /// Where a rising load ended, and why; empty if it was none.
    pub knee: String,
    /// What was aimed at, and what came of it.
    pub goals: Vec<Goal>,
    /// What the oracles of a simulation see and this run cannot.
    pub unseen: Vec<&'static str>,
    /// Another worker under the same load: a figure, ours, theirs.
    pub against: Vec<(String, String, String)>,
}

/// One worker's process over the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct ProcessFigures {
    /// `worker-N`.
    pub name: String,
    /// From each start to ready, in ms; a start that never became ready is missing.
    pub ready_ms: Vec<f64>,
    /// The most resident memory while it was ready and had not worked in that start, in bytes; 0 if never seen.
    pub idle_rss: u64,
    /// The most resident memory, in bytes.
    pub peak_rss: u64,
    /// The most of its proportional share, in bytes; 0 if the kernel does not tell.
    pub peak_pss: u64,
    /// Processor time in all, in seconds.
    pub cpu_seconds: f64,
    /// The most threads.
    pub threads: u64,
    /// The most open files.
    pub files: u64,
    /// OpenCode processes that were still there some time after it was gone.
    pub orphans: u64,
}

/// What was measured over some time.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Reading {
    /// How long, in seconds.
    pub seconds: f64,
    /// Processors that all workers together kept busy, on average.
    pub worker_cores: f64,
    /// The same of the fake Convex's thread and of the fake OpenCode's.
    pub fake_cores: [f64; 2],
    /// How late timers on these threads were.
    pub fake_lag: [Latency; 2],
    /// The share of the machine that somebody kept busy, from 0 to 1, whoever it was.
    pub machine_busy: f64,
    /// Pieces of replies that the models said, per second.
    pub deltas_per_second: f64,
    /// What the worker itself added to a write (see `load/probe.rs`).
    pub added: Latency,
}

/// Something that was aimed at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Goal {
    /// What is measured.
    pub what: String,
    /// What it should be.
    pub goal: String,
    /// What it was.
    pub measured: String,
    /// Whether the goal was met; nothing if it was not measured.
    pub met: Option<bool>,
}

/// One step of a rising load.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Step {
    /// Turns that were asked to run at the same time.
    pub turns: usize,
    /// The most that did.
    pub running: usize,
    /// Turns that waited for their claim at its end.
    pub waiting: usize,
    /// Resident memory of the worker at its end, in bytes.
    pub rss: u64,
    /// What was measured.
    #[serde(flatten)]
    pub reading: Reading,
}
