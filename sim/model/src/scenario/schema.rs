//! The shape of a scenario file. Unknown keys are refused; everything but `duration` has a default.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize as _};
use toml::Spanned;
use worker::config::Settings;

use crate::{
    fault::schema::{Fault, Swarm},
    seed::Seed,
    units::{Between, Bytes, Share, Time},
};

/// A scenario as it stands in its file: shape checked, sense not yet.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// Where it belongs in `sim list`.
    #[serde(default)]
    pub family: Family,
    /// A name for reports; by default the file's name.
    #[serde(default)]
    pub name: Option<String>,
    /// What the scenario shows, in a sentence.
    #[serde(default)]
    pub description: String,
    /// Which worker runs.
    #[serde(default)]
    pub kind: WorkerKind,
    /// The seed of runs that are given none; without it each such run draws its own.
    #[serde(default)]
    pub seed: Option<Seed>,
    /// How long people and faults are at work (simulated).
    #[schemars(with = "Time")]
    pub duration: Spanned<Time>,
    /// The step of the simulation: messages arrive at its edges. Larger is faster.
    #[serde(default = "defaults::tick")]
    #[schemars(with = "Time")]
    pub tick: Spanned<Time>,
    /// How long a message between two hosts travels.
    #[serde(default = "defaults::latency")]
    #[schemars(with = "Between<Time>")]
    pub latency: Spanned<Between<Time>>,
    /// Workers, each with an OpenCode host of its own.
    #[serde(default = "defaults::workers")]
    #[schemars(with = "u64")]
    pub workers: Spanned<u64>,
    /// The workers' settings, as in their config file.
    #[serde(default)]
    #[schemars(schema_with = "super::worker_settings::schema")]
    pub worker: Settings,
    /// What exists when the run begins.
    #[serde(default)]
    pub population: Population,
    /// What people do.
    #[serde(default)]
    pub workload: Workload,
    /// What another tenant does to them.
    #[serde(default)]
    pub hostile: Hostile,
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
    /// States that it is there to reach (see `marks`): a sweep fails if none of its runs reached one of them.
    #[serde(default, rename = "required_marks")]
    #[schemars(with = "Vec<String>")]
    pub required_marks: Vec<Spanned<String>>,
    /// Marks the scenario for `sim gate`.
    #[serde(default)]
    pub gate: Gate,
}

/// Where a scenario belongs.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// A bit of everything.
    #[default]
    General,
    /// How much there is: sessions, history, backlog.
    Population,
    /// Workers that end and start.
    Restarts,
    /// What is between the hosts.
    Network,
    /// An OpenCode server that does not do as it should.
    Opencode,
    /// A backend that does not do as it should.
    Convex,
    /// Nobody is kept waiting by others.
    Fairness,
    /// Replies of unusual sizes.
    Replies,
    /// A long time with little or nothing to do.
    Idle,
    /// A long time with everything.
    Soak,
    /// Workers that must be convicted.
    Control,
}

/// As it stands in the file.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Which worker runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerKind {
    /// Ours.
    #[default]
    Worker,
    /// One that behaves as the predecessor did: the negative control.
    Legacy,
}

/// What exists when the run begins, for each worker.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Population {
    /// Active sessions in the backend.
    pub sessions: u64,
    /// How many of them have no OpenCode session (or one that OpenCode has lost).
    #[schemars(with = "u64")]
    pub missing_in_opencode: Spanned<u64>,
    /// Sessions that only OpenCode knows.
    pub only_in_opencode: u64,
    /// Sessions on the same disk that are of another directory, and so none of the worker's.
    pub in_other_directories: u64,
    /// How many of `sessions` are linked with such a session besides, because an older version of the worker took it for
    /// its own.
    #[schemars(with = "u64")]
    pub imported_from_other_directories: Spanned<u64>,
    /// Completed turns in each session.
    pub old_messages_per_session: u64,
    /// Turns from before the run that nobody has claimed.
    #[schemars(with = "u64")]
    pub stale_pending: Spanned<u64>,
    /// Turns from before the run that an earlier start of the worker had claimed.
    #[schemars(with = "u64")]
    pub stale_claimed: Spanned<u64>,
}

impl Default for Population {
    fn default() -> Self {
        Self {
            sessions: 10,
            missing_in_opencode: unplaced(0),
            only_in_opencode: 0,
            in_other_directories: 0,
            imported_from_other_directories: unplaced(0),
            old_messages_per_session: 0,
            stale_pending: unplaced(0),
            stale_claimed: unplaced(0),
        }
    }
}

/// What people do, at each worker.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Workload {
    /// Messages that are sent.
    pub turns: u64,
    /// When the first may be sent.
    #[schemars(with = "Time")]
    pub from: Spanned<Time>,
    /// When the last may be sent; by default nine tenths into the run.
    #[schemars(with = "Option<Time>")]
    pub until: Option<Spanned<Time>>,
    /// Messages for which a model is chosen that OpenCode does not have (0 to 1).
    pub unknown_models: Share,
    /// How messages are spread over time.
    pub arrival: Arrival,
    /// How messages are spread over sessions.
    pub spread: Spread,
    /// Bytes of a message.
    pub message_bytes: Between<Bytes>,
    /// Sessions that people end, at moments of the same window.
    #[schemars(with = "u64")]
    pub end_sessions: Spanned<u64>,
    /// Times that the owner asks the worker to connect, in the same window.
    pub connect_requests: u64,
    /// Sessions that somebody makes in OpenCode itself, in the same window.
    pub created_in_opencode: u64,
    /// Sessions that somebody makes there in another directory.
    pub created_in_other_directories: u64,
    /// Times that somebody renames a session there, whichever directory it is of.
    pub renamed_in_opencode: u64,
    /// Times that somebody deletes a session there.
    pub deleted_in_opencode: u64,
    /// Times that somebody deletes a session there that works on a prompt.
    pub deleted_in_mid_turn: u64,
    /// How much of this is done by another OpenCode process on the same disk, of which the server learns nothing
    /// (0 to 1).
    pub behind_the_server: Share,
    /// Messages in full, sent besides the `turns` that are drawn: how `sim shrink` writes them.
    #[schemars(with = "Vec<Written>")]
    pub messages: Spanned<Vec<Written>>,
    /// What people say to permission questions.
    pub permissions: Permissions,
}

/// A message in full.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// At which worker, from 1.
    #[serde(default = "defaults::first")]
    #[schemars(with = "u64")]
    pub worker: Spanned<u64>,
    /// In which session, from 0.
    pub session: u64,
    /// When.
    pub at: Time,
    /// Tells it from every other message of its worker; the text begins with it, and the reply is drawn from the text.
    pub number: u64,
    /// About how long it is.
    pub bytes: Bytes,
}

/// What people say to the permission questions that they are shown.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Permissions {
    /// Questions that nobody answers (0 to 1).
    pub ignored: Share,
    /// Of the others, those that are answered with yes (0 to 1).
    pub allowed: Share,
    /// From the question to its answer, on top of the second at most that it takes to see it.
    pub after: Between<Time>,
}

impl Default for Permissions {
    fn default() -> Self {
        Self {
            ignored: Share(0.0),
            allowed: Share(1.0),
            after: Between { min: Time::from_secs(1), max: Time::from_secs(10) },
        }
    }
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            turns: 20,
            from: unplaced(Time::from_secs(1)),
            until: None,
            unknown_models: Share(0.0),
            arrival: Arrival::Uniform,
            spread: Spread::Even,
            message_bytes: Between { min: Bytes(40), max: Bytes(400) },
            end_sessions: unplaced(0),
            connect_requests: 0,
            created_in_opencode: 0,
            created_in_other_directories: 0,
            renamed_in_opencode: 0,
            deleted_in_opencode: 0,
            deleted_in_mid_turn: 0,
            behind_the_server: Share(0.0),
            permissions: Permissions::default(),
            messages: unplaced(Vec::new()),
        }
    }
}

/// Another tenant of the same backend, who means harm. It calls what everybody may call, with machines and workers of its
/// own: texts that are too long, registrations that nobody asked for, more of everything than is allowed; and workers that
/// vanish with one of the longest messages claimed and others behind it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hostile {
    /// Its workers that vanish; without any there is no such tenant.
    #[schemars(with = "u64")]
    pub workers: Spanned<u64>,
    /// Short messages that wait behind each claimed one.
    pub backlog: u64,
    /// When it begins.
    #[schemars(with = "Time")]
    pub at: Spanned<Time>,
}

impl Default for Hostile {
    fn default() -> Self {
        Self { workers: unplaced(0), backlog: 0, at: unplaced(Time(Duration::ZERO)) }
    }
}

/// How messages are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arrival {
    /// Evenly at random.
    Uniform,
    /// In bursts of about twenty within two seconds.
    Bursty,
}

/// How messages are spread over sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// Each session as likely as any other.
    Even,
    /// A fifth of the sessions gets four fifths of the messages.
    Skewed,
}

/// What the models say.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
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
    /// Replies whose first step runs a tool that asks for permission (0 to 1).
    pub asks: Share,
    /// The same, where it is an agent in a child session that runs the tool (0 to 1).
    pub asks_in_child: Share,
    /// Replies that begin with a dozen calls of tools that ask nobody (0 to 1).
    pub tools: Share,
    /// Replies with thoughts before the text (0 to 1).
    pub reasoning: Share,
    /// Replies without any text (0 to 1).
    pub empty: Share,
    /// Replies whose model puts OpenCode off: twice or for ever, a quarter of them until an hour later (0 to 1).
    pub put_off: Share,
    /// Replies whose first step fills the model's context, so that OpenCode sums up and goes on (0 to 1).
    pub full: Share,
    /// Of the others, those whose prompt is too long at first (0 to 1).
    pub too_long: Share,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            deltas: Between { min: 20, max: 200 },
            bytes: Between { min: Bytes(200), max: Bytes(4000) },
            first_token: Between { min: Time::from_millis(200), max: Time::from_millis(1500) },
            pace: Between { min: Time::from_millis(20), max: Time::from_millis(80) },
            model_errors: Share(0.0),
            asks: Share(0.0),
            asks_in_child: Share(0.0),
            tools: Share(0.0),
            reasoning: Share(0.0),
            empty: Share(0.0),
            put_off: Share(0.0),
            full: Share(0.0),
            too_long: Share(0.0),
        }
    }
}

/// What the oracles enforce.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// OpenCode sessions being created at once.
    pub creates_in_flight: u64,
    /// Creations begun within any second (at least 1).
    pub creates_per_second: u64,
    /// Heap of a worker that is ready, runs no turn and has no OpenCode server. Measured: 34 to 42 KiB before the
    /// first turn; after turns 64 to 85 KiB, as buffers keep the size that they needed, and up to 103 KiB while it calls
    /// (seeds 1 to 12 of every scenario).
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
    /// Changes that one call of the sync makes if there are so many.
    pub sync_batch: u64,
    /// Sessions that one call of the sync compares, and one list of OpenCode's shows.
    pub sync_page: u64,
    /// Calls of the sync that change nothing, for each opening of an event stream.
    pub sync_wasted_per_gap: u64,
    /// How long a server may run while its sessions differ from the backend's.
    pub converge_within: Time,
    /// All sessions are compared once for each opening of an event stream, and again after this time.
    pub sync_rescan: Time,
    /// How long a session that is ready may wait while its worker has a place free.
    pub claim_within: Time,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            creates_in_flight: 5,
            creates_per_second: 5,
            worker_heap_idle: Bytes(112 * 1024),
            worker_heap_above_idle: Bytes(320 * 1024),
            worker_heap_per_turn: Bytes(8 * 1024),
            cached_sessions: 64,
            documents_per_call: 500,
            bytes_per_call: Bytes(256 * 1024),
            start_documents: 50,
            start_documents_per_expired: 12,
            sync_batch: 10,
            sync_page: 50,
            sync_wasted_per_gap: 2,
            converge_within: Time::from_secs(600),
            sync_rescan: Time::from_secs(3600),
            claim_within: Time::from_secs(2),
        }
    }
}

/// What must happen once faults have stopped.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// One run each; none without the table.
    #[schemars(with = "Vec<Seed>")]
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

    pub(super) fn first() -> Spanned<u64> {
        unplaced(1)
    }
}
