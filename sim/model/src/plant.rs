//! Deliberate bugs: each must be caught by the oracle, or the command, that watches what it breaks.
//!
//! A bug goes into a copy of the behaviour: into the worker's settings, into the text of the backend's functions before
//! they are loaded, or into what surrounds the worker ([`EnvPlants`]). The worker itself is never touched.

mod edits;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use worker::config::Settings;

/// A bug to plant into a run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Plant {
    /// Sessions are created as fast as they are asked for. Caught by `throttle`.
    ThrottleOff,
    /// Turns from before the start are not expired, but run. Caught by `stale`.
    ExpiryOff,
    /// The cache of sessions forgets nothing. Caught by `memory`.
    CacheBoundOff,
    /// Turns are prompted without being moved to `claimed`. Caught by `stale`.
    ClaimOff,
    /// Chunks are stored without regard to their sequence. Caught by `chunks`.
    SequenceOff,
    /// Titles that change in OpenCode are not stored. Caught by `converges`.
    RenamesLost,
    /// Sessions are synced one by one. Caught by `sync-cost`.
    BatchOff,
    /// The last part of a reply is not stored. Caught by `answered`.
    TailOff,
    /// Nothing ends the turns of a worker that is gone. Caught by `answered`, if one leaves for good.
    SweepOff,
    /// One job ends the turns of all workers that are gone, and what was said stands in the turns. Caught by `answered`, if
    /// there is a hostile tenant.
    CleanUpShared,
    /// A claim reads all turns there are. Caught by `bounded-reads`.
    IndexOff,
    /// The worker runs one turn at a time, so everybody waits for everybody. Caught by `fairness`.
    ConcurrencyOff,
    /// The window shows the newest sessions first. Caught by `fairness`.
    NewestFirst,
    /// All workers have the same token: each that registers supersedes the others. Harmless, but for `fence-off`.
    SharedToken,
    /// The backend accepts what an older epoch writes. Caught by `fencing`, if there is one (`shared-token`).
    FenceOff,
    /// The worker beats four times too slowly. Caught by `lifecycle`.
    SlowHeart,
    /// Saying that a worker is offline changes nothing. Caught by `lifecycle`.
    GoodbyeOff,
    /// The machine runs an OpenCode server before anybody needs one. Caught by `lazy`.
    EagerServer,
    /// An OpenCode server outlives its worker. Caught by `cleanup`.
    OrphanServer,
    /// The worker panics when it reads its clock. Caught by `no-panic`.
    ClockPanic,
    /// OpenCode shows every session as one of the worker's directory. Caught by `tenancy`, if there are others.
    DirectoryOff,
    /// The clocks of the worker's machine agree after a sleep. Caught by `stale`, if it sleeps (`suspend`).
    SuspendUnseen,
    /// The functions are those of protocol 1, as if only the worker had been updated. It has to end, and say so.
    OldFunctions,
    /// Each message costs one call more than it needs. Nobody notices, and no oracle: caught by `sim gate`.
    ExtraCall,
    /// The worker's clock is the machine's. Caught by `--check-determinism`.
    RealClock,
    /// The worker's randomness comes in the order of a randomly hashed map. Caught by `--check-determinism`.
    RandomOrder,
}

/// What is odd about a worker's surroundings.
#[derive(Debug, Clone, Copy, Default)]
pub struct EnvPlants {
    /// As [`Plant::EagerServer`].
    pub eager_server: bool,
    /// As [`Plant::OrphanServer`].
    pub orphan_server: bool,
    /// As [`Plant::ClockPanic`].
    pub clock_panic: bool,
    /// As [`Plant::SuspendUnseen`].
    pub suspend_unseen: bool,
    /// As [`Plant::RealClock`].
    pub real_clock: bool,
    /// As [`Plant::RandomOrder`].
    pub random_order: bool,
}

impl EnvPlants {
    /// Those that `plants` ask for.
    #[must_use]
    pub fn of(plants: &[Plant]) -> Self {
        Self {
            eager_server: plants.contains(&Plant::EagerServer),
            orphan_server: plants.contains(&Plant::OrphanServer),
            clock_panic: plants.contains(&Plant::ClockPanic),
            suspend_unseen: plants.contains(&Plant::SuspendUnseen),
            real_clock: plants.contains(&Plant::RealClock),
            random_order: plants.contains(&Plant::RandomOrder),
        }
    }
}

impl Plant {
    /// Plants the bug into the worker's settings, if it belongs there.
    pub fn plant_in_settings(self, settings: &mut Settings) {
        match self {
            Self::ThrottleOff => {
                settings.sessions.creates_in_flight = 1_000;
                settings.sessions.creates_per_second = 1_000;
            }
            Self::CacheBoundOff => settings.sessions.cache_capacity = 500,
            Self::BatchOff => settings.sync.batch = 1,
            Self::ConcurrencyOff => settings.turns.max_concurrent = 1,
            Self::SlowHeart => {
                settings.heartbeat.busy *= 4;
                settings.heartbeat.idle *= 4;
            }
            _ => {}
        }
    }
}
