//! What a run in real time came to, beyond the figures of every run. None of it repeats exactly.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use sim_model::Label;

use crate::{figures::Latency, verdict::RunVerdict};

/// The load test's part of a report.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
pub struct LoadFigures {
    /// Which worker ran.
    pub command: String,
    /// How that worker was built, as far as it is known.
    pub profile: String,
    /// Whether this program, and so the fakes, are optimised as in a release.
    pub simulator_is_release: bool,
    /// How many times as fast as in the scenario people and models were.
    pub time_scale: f64,
    /// How long a function of the backend took besides its own work, in ms.
    pub execution_ms: f64,
    /// Processors of the machine.
    pub processors: usize,
    /// Each worker's process, all its starts together.
    pub workers: Vec<ProcessFigures>,
    /// From when work began until people and restarts had done theirs; what was added, until the run was over.
    pub whole: Reading,
    /// How many of what was added are writes that never came: as late as they were when the turn or the run was over.
    pub never_came: u64,
    /// How many of the latencies are of messages that were never answered in full, and count until that was clear.
    pub given_up: u64,
    /// Steps of a rising load, if it was one.
    pub steps: Vec<Step>,
    /// Where a load of more and more turns ended, and why; empty if it was none.
    pub knee: String,
    /// Where a load of more and more deltas ended, and why; empty if it was none.
    pub rate_knee: String,
    /// What was aimed at, and what came of it.
    pub goals: Vec<Goal>,
    /// What the oracles of a simulation see and this run cannot.
    pub unseen: Vec<Label>,
    /// Another worker under the same load: a figure, ours, theirs.
    pub against: Vec<(String, String, String)>,
    /// What else is known of that other worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<Other>,
}

/// Another worker that ran under the same load. The exit code is not about it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Other {
    /// Its command.
    pub command: String,
    /// How its run ended.
    pub verdict: RunVerdict,
    /// The oracles that it violated, and how often.
    pub violations: Vec<(Label, u64)>,
    /// Its first violation: the oracle, and what happened.
    pub first: Option<(Label, String)>,
    /// Where its own report is.
    pub report: String,
}

/// One worker's process over the run: all processes of the group that its command leads, without OpenCode's.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
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
    /// The most heap while it was ready and had not worked in that start: resident bytes of `[heap]` and of private
    /// writable mappings without a file, at any look; 0 if the kernel does not tell.
    pub idle_heap: u64,
    /// The most heap at any look, in bytes. What was allocated and freed again between two looks may be missing.
    pub peak_heap: u64,
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
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Step {
    /// Turns that were asked to run at the same time.
    pub turns: usize,
    /// Pieces that each reply was to get in a second.
    pub deltas_per_turn: u32,
    /// The most that did.
    pub running: usize,
    /// Turns that waited for their claim at its end.
    pub waiting: usize,
    /// The most resident memory of the worker at any look, in bytes.
    pub rss: u64,
    /// Why it was too much, if it was.
    pub strain: Option<String>,
    /// What was measured.
    #[serde(flatten)]
    pub reading: Reading,
}
