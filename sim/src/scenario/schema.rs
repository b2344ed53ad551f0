//! The shape of a scenario file. Unknown keys are refused; everything but `duration` has a default.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use worker::config::Settings;

use super::values::{Between, Bytes, Share, Time};
use crate::{
    faults::{Fault, Swarm},
    seed::Seed,
};

/// A scenario as it stands in its file: shape checked, sense not yet.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// A name for reports; by default the file's name.
    #[serde(default)]
    pub name: Option<String>,
    /// What the scenario shows, in a sentence.
    #[serde(default)]
    pub description: String,
    /// Which worker runs.
    #[serde(default)]
    pub kind: Kind,
    /// The seed of runs that are given none; without it each such run draws its own.
    #[serde(default)]
    pub seed: Option<Seed>,
    /// How long people and faults are at work (simulated).
    pub duration: Spanned<Time>,
    /// The step of the simulation: messages arrive at its edges. Larger is faster.
    #[serde(default = "defaults::tick")]
    pub tick: Spanned<Time>,
    /// How long a message between two hosts travels.
    #[serde(default = "defaults::latency")]
    pub latency: Spanned<Between<Time>>,
    /// Workers, each with an OpenCode host of its own.
    #[serde(default = "defaults::workers")]
    pub workers: Spanned<u64>,
    /// The workers' settings, as in their config file.
    #[serde(default)]
    pub worker: Settings,
    /// What exists when the run begins.
    #[serde(default)]
    pub population: Population,
    /// What people do.
    #[serde(default)]
    pub workload: Workload,
    /// What the models say.
    #[serde(default)]
    pub replies: Replies,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What goes wrong besides, drawn anew by each seed.
    #[serde(default)]
    pub swarm: Option<Swarm>,
    /// What the oracles enforce.
    #[serde(default)]
    pub limits: Limits,
    /// What must happen once faults have stopped.
    #[serde(default)]
    pub liveness: Liveness,
    /// Marks the scenario for `sim gate`.
    #[serde(default)]
    pub gate: Gate,
}

/// Which worker runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Ours.
    #[default]
    Worker,
    /// One that behaves as the predecessor did: the negative control.
    Legacy,
}

/// What exists when the run begins, for each worker.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Population {
    /// Active sessions in the backend.
    pub sessions: u64,
    /// How many of them have no OpenCode session (or one that OpenCode has lost).
    pub missing_in_opencode: Spanned<u64>,
    /// Sessions that only OpenCode knows.
    pub only_in_opencode: u64,
    /// Completed turns in each session.
    pub old_messages_per_session: u64,
    /// Turns from before the run that nobody has claimed.
    pub stale_pending: Spanned<u64>,
    /// Turns from before the run that an earlier start of the worker had claimed.
    pub stale_claimed: Spanned<u64>,
}

impl Default for Population {
    fn default() -> Self {
        Self {
            sessions: 10,
            missing_in_opencode: unplaced(0),
            only_in_opencode: 0,
            old_messages_per_session: 0,
            stale_pending: unplaced(0),
            stale_claimed: unplaced(0),
        }
    }
}

/// What people do, at each worker.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workload {
    /// Messages that are sent.
    pub turns: u64,
    /// When the first may be sent.
    pub from: Spanned<Time>,
    /// When the last may be sent; by default nine tenths into the run.
    pub until: Option<Spanned<Time>>,
    /// How messages are spread over time.
    pub arrival: Arrival,
    /// How messages are spread over sessions.
    pub spread: Spread,
    /// Bytes of a message.
    pub message_bytes: Between<Bytes>,
    /// Sessions that people end, at moments of the same window.
    pub end_sessions: Spanned<u64>,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            turns: 20,
            from: unplaced(Time::from_secs(1)),
            until: None,
            arrival: Arrival::Uniform,
            spread: Spread::Even,
            message_bytes: Between { min: Bytes(40), max: Bytes(400) },
            end_sessions: unplaced(0),
        }
    }
}

/// How messages are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrival {
    /// Evenly at random.
    Uniform,
    /// In bursts of about twenty within two seconds.
    Bursty,
}

/// How messages are spread over sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// Each session as likely as any other.
    Even,
    /// A fifth of the sessions gets four fifths of the messages.
    Skewed,
}

/// What the models say.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replies {
    /// Pieces in which a reply is streamed.
    pub deltas: Between<u64>,
    /// Bytes of a reply.
    pub bytes: Between<Bytes>,
    /// From the prompt to the first piece.
    pub first_token: Between<Time>,
    /// From one piece to the next.
    pub pace: Between<Time>,
    /// Replies that end with an error of the model (0 to 1).
    pub model_errors: Share,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            deltas: Between { min: 20, max: 200 },
            bytes: Between { min: Bytes(200), max: Bytes(4000) },
            first_token: Between { min: Time::from_millis(200), max: Time::from_millis(1500) },
            pace: Between { min: Time::from_millis(20), max: Time::from_millis(80) },
            model_errors: Share(0.0),
        }
    }
}

/// What the oracles enforce.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// OpenCode sessions being created at once.
    pub creates_in_flight: u64,
    /// Creations begun within any second (at least 1).
    pub creates_per_second: u64,
    /// Heap of a worker that is ready and has nothing to do. Measured: 34 to 42 KiB, and 112 KiB once OpenCode runs
    /// (two connections to it).
    pub worker_heap_idle: Bytes,
    /// Heap above that, whatever happens. Mostly connections to OpenCode: hyper takes 25 KiB for each, and besides
    /// the event stream's there are up to six while many turns begin at once.
    pub worker_heap_above_idle: Bytes,
    /// Heap above that for each turn in progress.
    pub worker_heap_per_turn: Bytes,
    /// OpenCode sessions that a worker remembers.
    pub cached_sessions: u64,
    /// Documents that one call of a worker reads.
    pub documents_per_call: u64,
    /// Bytes that one call of a worker reads.
    pub bytes_per_call: Bytes,
    /// Documents that a worker's calls read until it is ready.
    pub start_documents: u64,
    /// The same, for each stale turn expired on the way.
    pub start_documents_per_expired: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            creates_in_flight: 5,
            creates_per_second: 5,
            worker_heap_idle: Bytes(128 * 1024),
            worker_heap_above_idle: Bytes(320 * 1024),
            worker_heap_per_turn: Bytes(8 * 1024),
            cached_sessions: 64,
            documents_per_call: 500,
            bytes_per_call: Bytes(256 * 1024),
            start_documents: 50,
            start_documents_per_expired: 12,
        }
    }
}

/// What must happen once faults have stopped.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Liveness {
    /// Everything comes to its end within this time (simulated).
    pub within: Time,
}

impl Default for Liveness {
    fn default() -> Self {
        Self { within: Time(Duration::from_secs(120)) }
    }
}

/// How the scenario takes part in `sim gate`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// One run each; none without the table.
    pub seeds: Spanned<Vec<Seed>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { seeds: unplaced(Vec::new()) }
    }
}

/// A default: it stands nowhere in the file.
fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

mod defaults {
    use super::{Between, Spanned, Time, unplaced};

    pub(super) fn tick() -> Spanned<Time> {
        unplaced(Time::from_millis(10))
    }

    pub(super) fn latency() -> Spanned<Between<Time>> {
        unplaced(Between { min: Time::from_millis(10), max: Time::from_millis(20) })
    }

    pub(super) fn workers() -> Spanned<u64> {
        unplaced(1)
    }
}
