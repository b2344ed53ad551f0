//! What a running worker shows of itself: a few numbers that anybody may read at any time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::lifecycle::state::Phase;

/// The main loop comes round at least this often, if only to show that it is alive.
pub const PULSE: Duration = Duration::from_secs(5);

/// A main loop that has not come round for this long does not live: three times what it takes at most.
pub const MAX_SILENCE: Duration = Duration::from_secs(3 * PULSE.as_secs());

/// A running worker's numbers. Written by the worker, read by metrics, health checks and the simulator.
#[derive(Debug, Default)]
pub struct Status {
    phase: AtomicU8,
    /// When the main loop last came round; `None` before it has begun.
    last_beat: watch::Sender<Option<Instant>>,
    /// Sessions in the cache.
    pub sessions_cached: AtomicUsize,
    /// Turns being run.
    pub turns_running: AtomicUsize,
    /// Turns that were claimed since the start.
    pub turns_claimed: AtomicU64,
    /// Turns that ended with a whole reply since the start.
    pub turns_completed: AtomicU64,
    /// Turns that ended without one since the start.
    pub turns_failed: AtomicU64,
    /// Stale turns that were expired since the start.
    pub turns_expired: AtomicU64,
    /// OpenCode sessions that were created since the start.
    pub sessions_created: AtomicU64,
    /// Permission questions that were answered with yes since the start.
    pub permissions_allowed: AtomicU64,
    /// Permission questions that were answered with no since the start.
    pub permissions_refused: AtomicU64,
    /// Starts after a crash, where many workers run in one process.
    pub restarts: AtomicU64,
    /// What the sync did since the start.
    pub sync: SyncCounts,
    /// The OpenCode server's own numbers.
    pub server: Arc<crate::opencode::ServerStats>,
}

impl Status {
    /// Returns where the worker is in its life.
    pub fn phase(&self) -> Phase {
        Phase::from_index(self.phase.load(Ordering::Relaxed))
    }

    /// Returns when the main loop last came round: the sign that it is alive. Changes with every round.
    pub fn beats(&self) -> watch::Receiver<Option<Instant>> {
        self.last_beat.subscribe()
    }

    /// Returns how long ago the main loop last came round; `None` before it has begun.
    pub fn silence(&self) -> Option<Duration> {
        self.last_beat.borrow().map(|beat| beat.elapsed())
    }

    /// Returns true if the main loop has begun and not come round for longer than [`MAX_SILENCE`].
    pub fn hangs(&self) -> bool {
        self.silence().is_some() && !self.is_alive()
    }

    /// Returns true if the main loop comes round. One that has ended is not dead: it is meant to be down, or is started
    /// again.
    pub fn is_alive(&self) -> bool {
        self.phase() == Phase::Stopped || self.silence().is_some_and(|silence| silence <= MAX_SILENCE)
    }

    /// The worker is gone, in whatever way.
    pub(crate) fn ended(&self) {
        self.set_phase(Phase::Stopped);
        self.set_turns_running(0);
        self.set_sessions_cached(0);
    }

    /// The main loop comes round; what it changed before is visible to whoever sees this.
    pub(crate) fn beat(&self) {
        self.last_beat.send_replace(Some(Instant::now()));
    }

    pub(crate) fn set_sessions_cached(&self, sessions: usize) {
        self.sessions_cached.store(sessions, Ordering::Relaxed);
    }

    pub(crate) fn set_turns_running(&self, turns: usize) {
        self.turns_running.store(turns, Ordering::Relaxed);
    }

    /// `expired` comes from the backend, where every number is a double.
    pub(crate) fn add_expired(&self, expired: f64) {
        self.turns_expired.fetch_add(expired.max(0.0) as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}

/// What the sync did.
#[derive(Debug, Default)]
pub struct SyncCounts {
    /// Chats that were made for sessions found in OpenCode.
    pub created: AtomicU64,
    /// Titles that were changed.
    pub renamed: AtomicU64,
    /// Chats whose OpenCode session was deleted.
    pub deleted: AtomicU64,
    /// Steps that failed; they are repeated.
    pub errors: AtomicU64,
}

/// What one step of the sync did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncResult {
    /// Chats that were made.
    pub created: u64,
    /// Titles that were changed.
    pub renamed: u64,
    /// Chats that lost their OpenCode session.
    pub deleted: u64,
    /// Calls that failed.
    pub errors: u64,
}

impl SyncCounts {
    pub(crate) fn add(&self, result: SyncResult) {
        self.created.fetch_add(result.created, Ordering::Relaxed);
        self.renamed.fetch_add(result.renamed, Ordering::Relaxed);
        self.deleted.fetch_add(result.deleted, Ordering::Relaxed);
        self.errors.fetch_add(result.errors, Ordering::Relaxed);
    }
}

/// Returns what a phase is called in metrics and answers.
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Uninitialized => "uninitialized",
        Phase::Registering => "registering",
        Phase::WaitingApproval => "waiting_approval",
        Phase::Connecting => "connecting",
        Phase::Ready => "ready",
        Phase::Recovering => "recovering",
        Phase::Stopping => "stopping",
        Phase::Stopped => "stopped",
    }
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
