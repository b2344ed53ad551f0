//! The kinds of faults, and what is particular to each.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    // ── Workers ──
    /// The worker ends at once, as by SIGKILL; its OpenCode server dies with it. It comes back after `for`.
    Kill,
    /// The worker is asked to end, as by SIGTERM. It comes back `for` after it has ended.
    Stop,
    /// The worker is asked to end, as by SIGTERM, and never comes back.
    Leave,
    /// All workers are stopped and started, one after the other, each away for `for`.
    RollingRestart,
    /// The worker's process stands still for `for`, as by SIGSTOP, while a second one with the same identity starts.
    Zombie,
    /// The worker's machine sleeps, as a laptop whose lid is closed: nothing on it goes on, its monotonic clock stands
    /// still, and its connections hear nothing.
    Suspend,
    /// The wall clock of the worker's machine is wrong by `by` for `for`.
    ClockJump,

    // ── OpenCode ──
    /// The server dies.
    OpencodeCrash,
    /// A server takes `delay` longer to start.
    OpencodeSlowStart,
    /// Requests are answered with 500, 502 or 503 and do nothing.
    OpencodeErrors,
    /// Requests are answered with 429 and do nothing.
    OpencodeRateLimit,
    /// The server answers nothing and its events come to a halt.
    OpencodeHang,
    /// A creation takes `delay` longer.
    OpencodeSlowCreate,
    /// Events are not sent.
    OpencodeLostEvents,
    /// The events that say that a session has become idle are not sent.
    OpencodeLostIdle,
    /// All event streams end.
    OpencodeStreamCut,
    /// Sessions are gone, and no event says so.
    OpencodeSessionsVanish,
    /// A reply begins with a tool that asks for permission.
    OpencodePermission,
    /// The model answers a prompt with an error.
    OpencodeModelErrors,
    /// The model falls silent in the middle of a reply.
    OpencodeModelHangs,
    /// A session that is asked to stop goes on.
    OpencodeAbortIgnored,
    /// A prompt is answered as if it were taken, and forgotten.
    OpencodePromptLost,

    // ── Convex ──
    /// The connection breaks when a mutation has come and before it runs.
    MutationLost,
    /// The connection breaks when a mutation is committed and before it is answered.
    MutationUnanswered,
    /// The connection breaks when a mutation is answered and before the Transition that shows its effect.
    MutationUnseen,
    /// Mutations meet conflicting writes and run again.
    ConvexConflicts,
    /// Mutations throw, as they do while a mistake is deployed.
    ConvexFunctionErrors,
    /// The server closes the connection with code 1013.
    ConvexClose,
    /// Mutations wait in vain for their turn (1013 in the end), and new connections get 503.
    ConvexOverload,
    /// The server refuses the connection's identity.
    ConvexAuthError,
    /// The deployment restarts: connections drop, what it did is cut off, nobody gets in for `for`; data stay.
    ConvexRestart,
    /// Transitions are larger by `bytes`.
    ConvexLargeTransition,

    // ── Network ──
    /// What is sent is lost, for good: a stream that lost something is silent for ever after.
    Partition,
    /// What is sent arrives when it is over, as after a short cut.
    NetworkHold,
    /// Messages travel for `delay`.
    NetworkLatency,
    /// Open connections are reset.
    NetworkReset,
    /// Whoever opens a connection hears nothing, not even a refusal; connections that are open go on.
    NetworkSynLoss,
    /// The other end has two addresses, at the first of which nobody answers.
    NetworkDeadAddress,
    /// Each connection carries `rate` bytes a second each way.
    NetworkSlow,
    /// Segments get lost, each with a probability, and come after a retransmission or several, as TCP does it.
    NetworkLoss,
}

/// What is particular to a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trait {
    /// Ends, stops or freezes the worker's process.
    Process,
    /// Happens at one moment and is over then.
    Moment,
    /// Makes sense only while an OpenCode server runs.
    NeedsServer,
    /// Strikes opportunities (requests, mutations, events, sessions), each with a probability.
    Strikes,
    /// `delay` says by how much.
    Delays,
    /// May hold back what a worker asks of OpenCode, and lets it through at once in the end.
    HoldsBack,
    /// May keep a worker from speaking with the backend in time.
    HampersBackend,
    /// Is one of the network between a worker and something else; such a one hampers the backend, too.
    Network,
}

/// Every kind, in the order of the enum, with what is particular to it.
const KINDS: [(FaultKind, &[Trait]); 40] = {
    use FaultKind::*;
    use Trait::*;
    [
        (Kill, &[Process]),
        (Stop, &[Process]),
        (Leave, &[Process, Moment]),
        (RollingRestart, &[Process]),
        (Zombie, &[Process, HampersBackend]),
        (Suspend, &[Process, HampersBackend]),
        (ClockJump, &[]),
        (OpencodeCrash, &[Moment, NeedsServer]),
        (OpencodeSlowStart, &[Strikes, Delays]),
        (OpencodeErrors, &[Strikes]),
        (OpencodeRateLimit, &[Strikes]),
        (OpencodeHang, &[NeedsServer, HoldsBack]),
        (OpencodeSlowCreate, &[Strikes, Delays]),
        (OpencodeLostEvents, &[Strikes, NeedsServer]),
        (OpencodeLostIdle, &[Strikes, NeedsServer]),
        (OpencodeStreamCut, &[Moment, NeedsServer]),
        (OpencodeSessionsVanish, &[Strikes, Moment, NeedsServer]),
        (OpencodePermission, &[Strikes]),
        (OpencodeModelErrors, &[Strikes]),
        (OpencodeModelHangs, &[Strikes]),
        (OpencodeAbortIgnored, &[Strikes]),
        (OpencodePromptLost, &[Strikes]),
        (MutationLost, &[Strikes, HampersBackend]),
        (MutationUnanswered, &[Strikes, HampersBackend]),
        (MutationUnseen, &[Strikes, HampersBackend]),
        (ConvexConflicts, &[Strikes, HampersBackend]),
        (ConvexFunctionErrors, &[Strikes, HampersBackend]),
        (ConvexClose, &[Strikes, HampersBackend]),
        (ConvexOverload, &[Strikes, HampersBackend]),
        (ConvexAuthError, &[Strikes, HampersBackend]),
        (ConvexRestart, &[HampersBackend]),
        (ConvexLargeTransition, &[Strikes, HampersBackend]),
        (Partition, &[Network, HoldsBack]),
        (NetworkHold, &[Network, HoldsBack]),
        (NetworkLatency, &[Network, HoldsBack, Delays]),
        (NetworkReset, &[Network, Moment]),
        (NetworkSynLoss, &[Network, HoldsBack]),
        (NetworkDeadAddress, &[Network]),
        (NetworkSlow, &[Network, HoldsBack]),
        (NetworkLoss, &[Network, HoldsBack]),
    ]
};

/// What a fault lasts unless the file says otherwise.
const LASTS: Duration = Duration::from_secs(2);

impl FaultKind {
    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, _)| *kind)
    }

    fn has(self, what: Trait) -> bool {
        KINDS[self as usize].1.contains(&what)
    }

    /// Whether it ends, stops or freezes the worker's process.
    #[must_use]
    pub fn is_of_process(self) -> bool {
        self.has(Trait::Process)
    }

    /// Whether it may keep a worker from speaking with the backend in time.
    #[must_use]
    pub fn hampers_backend(self) -> bool {
        self.has(Trait::HampersBackend) || self.is_of_network()
    }

    /// Whether it may hold back what a worker asks of OpenCode, and lets it through at once in the end.
    #[must_use]
    pub fn holds_back(self) -> bool {
        self.has(Trait::HoldsBack)
    }

    /// Whether it happens at one moment and is over then.
    #[must_use]
    pub fn is_momentary(self) -> bool {
        self.has(Trait::Moment)
    }

    /// Whether it only makes sense while an OpenCode server runs.
    #[must_use]
    pub fn needs_server(self) -> bool {
        self.has(Trait::NeedsServer)
    }

    /// Whether it strikes opportunities (requests, mutations, events, sessions), each with a probability.
    #[must_use]
    pub fn strikes(self) -> bool {
        self.has(Trait::Strikes)
    }

    /// Whether it is one of the network between a worker and something else.
    #[must_use]
    pub fn is_of_network(self) -> bool {
        self.has(Trait::Network)
    }

    /// Whether `delay` says by how much.
    #[must_use]
    pub fn delays(self) -> bool {
        self.has(Trait::Delays)
    }

    /// How long it lasts unless the file says otherwise; a moment is nothing.
    #[must_use]
    pub fn lasts(self) -> Duration {
        if self.is_momentary() { Duration::ZERO } else { LASTS }
    }
}

impl fmt::Display for FaultKind {
    /// As in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_has_every_kind_in_its_place_and_names_it_as_in_the_file() {
        let names: BTreeSet<_> = FaultKind::all().map(|kind| kind.to_string()).collect();
        assert_eq!(names.len(), KINDS.len());
        for (place, kind) in FaultKind::all().enumerate() {
            assert_eq!(kind as usize, place, "{kind}");
        }
        assert_eq!(FaultKind::all().last(), Some(FaultKind::NetworkLoss));
        assert_eq!(FaultKind::OpencodeSessionsVanish.to_string(), "opencode-sessions-vanish");
    }
}
