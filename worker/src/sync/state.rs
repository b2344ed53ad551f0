//! When to do what: events, listings and creations go in, the next [`Step`] comes out. Pure; time is a duration since
//! any fixed point.
//!
//! Events come first. After a gap (a server was started, its stream was interrupted, the queue was full) a listing of
//! what was used since finds what is new, and a scrub of what Convex has finds what was renamed or deleted, because
//! neither moves the time by which OpenCode lists. While a server runs both come round again, rarely: another OpenCode
//! process on the same disk tells this one nothing.

mod events;
mod next;
mod results;

use std::{collections::BTreeSet, collections::VecDeque, time::Duration};

use super::{
    convex_cache::ConvexCache,
    cursor::Cursor,
    plan::{InConvex, InOpencode},
};
use crate::{config::SyncSettings, convex::api::SyncPlan, opencode::OpencodeSessionId};

/// Sessions that wait for a call. What does not fit is found again by listing and scrub.
pub(crate) const QUEUE: usize = 128;

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Make these changes in Convex, then [`State::applied`].
    Apply(Batch),
    /// Ask Convex up to when it is synced, then [`State::loaded`].
    Load,
    /// Note in Convex that it is synced up to this moment (OpenCode's clock, ms), then [`State::saved`].
    Save(u64),
    /// Have OpenCode list a page of sessions, then [`State::listed`].
    List(Page),
    /// Compare a page of Convex's sessions, those after this id, with OpenCode's, then [`State::scrubbed`].
    Scrub(String),
    /// Nothing until this moment, or until something happens.
    Wait(Option<Duration>),
}

/// Changes for one call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    /// What to change.
    pub plan: SyncPlan,
    /// Up to when Convex is synced once this is done, if that is known (OpenCode's clock, ms).
    pub synced_until: Option<u64>,
    /// What each session's change rests on, and what Convex has once this is done.
    items: Vec<(OpencodeSessionId, u64, InConvex)>,
}

/// A page of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// Sessions used at this moment or later (ms).
    pub since: u64,
    /// And before this one.
    pub cursor: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// A moment in the order of what happened, before a read is begun: events that came later know better than the read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(u64);

/// A session that may have to be changed in Convex.
#[derive(Debug)]
struct Change {
    id: OpencodeSessionId,
    opencode: InOpencode,
    convex: InConvex,
    /// Which event told of it.
    sequence: u64,
    /// When the session began to wait.
    since: Duration,
    /// Creations with a smaller number may be of this session.
    before_creation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listing {
    /// Until this moment.
    Rests(Duration),
    Due,
    At(Page),
}

/// See the file's comment. Its size is bounded by [`QUEUE`] and by the creations in flight.
#[derive(Debug)]
pub(crate) struct State {
    settings: SyncSettings,
    convex: ConvexCache,
    queue: VecDeque<Change>,
    /// Counts the events.
    sequence: u64,
    /// Of whom events told last, and which: so that a read that began before does not win. A few dozen.
    recent: VecDeque<(OpencodeSessionId, u64)>,
    creations: BTreeSet<u64>,
    next_creation: u64,
    cursor: Cursor,
    listing: Listing,
    scrub: Scrub,
    /// No batch before this moment, unless it is a full one.
    quiet_until: Duration,
    failures: u32,
    retry_at: Duration,
}

#[derive(Debug, Default)]
struct Scrub {
    /// The last id of the page before.
    after: String,
    /// Passes to go, with the one that has begun.
    passes: u8,
    next: Duration,
    /// Whether this pass left a session out because OpenCode could not show it.
    left_out: bool,
    /// Passes in a row that did.
    incomplete: u32,
}

impl State {
    /// Nothing is known.
    pub(crate) fn new(settings: SyncSettings) -> Self {
        Self {
            settings,
            convex: ConvexCache::default(),
            queue: VecDeque::new(),
            sequence: 0,
            recent: VecDeque::new(),
            creations: BTreeSet::new(),
            next_creation: 0,
            cursor: Cursor::default(),
            listing: Listing::Due,
            scrub: Scrub::default(),
            quiet_until: Duration::ZERO,
            failures: 0,
            retry_at: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests;
