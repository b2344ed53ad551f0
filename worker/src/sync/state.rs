//! When to do what: events, listings and creations go in, the next [`Step`] comes out. Pure; time is a duration since
//! any fixed point.
//!
//! Events come first. After a gap (a server was started, its stream was interrupted, the queue was full) a listing of
//! what was used since finds what is new, and a scrub of what Convex has finds what was renamed or deleted, because
//! neither moves the time by which OpenCode lists. While a server runs both come round again, rarely: another OpenCode
//! process on the same disk tells this one nothing.

use std::{collections::BTreeSet, collections::VecDeque, time::Duration};

use super::{
    known::Known,
    plan::{InConvex, InOpencode, SyncPlan, plan},
};
use crate::{
    config::SyncSettings,
    opencode::{Event, EventKind, OpencodeSessionId, Session, TapEvent},
};

/// Sessions that wait for a call. What does not fit is found again by listing and scrub.
pub const QUEUE: usize = 128;
/// Listings overlap by so much (ms): events of one moment may come in any order.
const OVERLAP: u64 = 1_000;
/// While a server runs, what it said is noted as synced this often, if there is anything to note.
const CHECKPOINT: Duration = Duration::from_secs(10 * 60);
/// Pause after a failure; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(5 * 60);
/// Failures in a row after which a batch is given up: the next scrub finds what it held.
const MAX_FAILURES: u32 = 4;

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
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
pub struct Batch {
    /// What to change.
    pub plan: SyncPlan,
    /// Up to when Convex is synced once this is done, if that is known (OpenCode's clock, ms).
    pub synced_until: Option<u64>,
    items: Vec<(OpencodeSessionId, u64, InConvex)>,
}

/// A page of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Sessions used at this moment or later (ms).
    pub since: u64,
    /// And before this one.
    pub cursor: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// A moment in the order of what happened, before a read is begun: events that came later know better than the read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64);

/// A session that may have to be changed in Convex.
#[derive(Debug)]
struct Change {
    id: OpencodeSessionId,
    opencode: InOpencode,
    convex: InConvex,
    /// When this was said.
    said: u64,
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
pub struct State {
    settings: SyncSettings,
    known: Known,
    queue: VecDeque<Change>,
    /// Counts what happened.
    moment: u64,
    /// Who was heard of last, so that a read that began before does not win; a few dozen.
    heard: VecDeque<(OpencodeSessionId, u64)>,
    creations: BTreeSet<u64>,
    next_creation: u64,
    /// Everything that OpenCode's clock puts before this is done; `None` until it was loaded.
    synced: Option<u64>,
    /// What Convex has noted of that.
    noted: u64,
    noted_at: Duration,
    /// The latest use of a session that was listed (ms). Events do not move it: what another process did before them
    /// is not heard of, and the next listing must still find it.
    horizon: u64,
    listing: Listing,
    scrub: Scrub,
    /// No batch before this moment, unless it is a full one.
    quiet_until: Duration,
    failures: u32,
    retry_at: Duration,
}

/// Sessions that events told of while a read was under way.
const HEARD: usize = 64;

#[derive(Debug, Default)]
struct Scrub {
    /// The last id of the page before.
    after: String,
    /// Passes to go, with the one that has begun.
    passes: u8,
    next: Duration,
}

impl State {
    /// Nothing is known.
    pub fn new(settings: SyncSettings) -> Self {
        Self {
            settings,
            known: Known::default(),
            queue: VecDeque::new(),
            moment: 0,
            heard: VecDeque::new(),
            creations: BTreeSet::new(),
            next_creation: 0,
            synced: None,
            noted: 0,
            noted_at: Duration::ZERO,
            horizon: 0,
            listing: Listing::Due,
            scrub: Scrub::default(),
            quiet_until: Duration::ZERO,
            failures: 0,
            retry_at: Duration::ZERO,
        }
    }

    // ── What happens ──

    /// The event stream said something.
    pub fn take(&mut self, event: TapEvent, now: Duration) {
        let Event { kind, .. } = match event {
            TapEvent::Gap => return self.gap(now),
            TapEvent::Session(event) => *event,
        };
        match kind {
            EventKind::SessionCreated(session) => self.heard_of(&session, InConvex::Absent, now),
            EventKind::SessionUpdated(session) => self.heard_of(&session, InConvex::Unknown, now),
            EventKind::SessionDeleted(session) if session.parent.is_none() => {
                self.hear(&session.id, InOpencode::Gone, InConvex::Unknown, now);
            }
            _ => {}
        }
    }

    fn heard_of(&mut self, session: &Session, unless_known: InConvex, now: Duration) {
        if session.parent.is_none() {
            self.hear(&session.id, InOpencode::titled(&session.title), unless_known, now);
        }
    }

    fn hear(&mut self, id: &OpencodeSessionId, opencode: InOpencode, unless_known: InConvex, now: Duration) {
        self.outdate_reads(id);
        let convex = match self.known.get(id) {
            InConvex::Unknown => unless_known,
            known => known,
        };
        self.note(id, opencode, convex, now);
    }

    /// What was read of this session until now is not believed any more.
    fn outdate_reads(&mut self, id: &OpencodeSessionId) {
        self.moment += 1;
        self.heard.retain(|(heard, _)| heard != id);
        if self.heard.len() == HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back((id.clone(), self.moment));
    }

    /// Something may have been missed.
    fn gap(&mut self, now: Duration) {
        self.listing = Listing::Due;
        // What was to become a chat may be gone by now, and the scrub looks at chats alone; the listing finds the rest.
        self.queue.retain(|change| {
            matches!(change.convex, InConvex::Titled(_)) || change.opencode == InOpencode::Gone
        });
        if self.scrub.passes == 0 {
            self.scrub.next = now + self.settings.scrub_interval;
        }
        // A pass that is under way may have missed something before the gap: it is followed by a whole one.
        self.scrub.passes = if self.scrub.after.is_empty() { 1 } else { 2 };
    }

    /// Puts a session into the queue, or changes it there, or takes it out, whichever both sides call for.
    fn note(&mut self, id: &OpencodeSessionId, opencode: InOpencode, convex: InConvex, now: Duration) {
        let said = self.moment;
        if let Some(place) = self.queue.iter().position(|change| change.id == *id) {
            let change = &mut self.queue[place];
            (change.opencode, change.said) = (opencode, said);
            if change.opencode.agreed() == change.convex {
                self.queue.remove(place);
            }
            return;
        }
        if opencode.agreed() == convex {
            return;
        }
        if self.queue.len() == QUEUE {
            return self.gap(now);
        }
        let before_creation = self.next_creation;
        self.queue.push_back(Change { id: id.clone(), opencode, convex, said, since: now, before_creation });
    }

    /// A session is about to be created for a chat. Until [`State::created`] is told of it, a session that appears may
    /// be this one.
    pub fn creating(&mut self) -> u64 {
        let number = self.next_creation;
        self.next_creation += 1;
        self.creations.insert(number);
        number
    }

    /// That creation is over. If it came to something, Convex has the link by now.
    pub fn created(&mut self, number: u64, session: Option<(&OpencodeSessionId, &str)>) {
        self.creations.remove(&number);
        if let Some((id, title)) = session {
            self.learn(id, InOpencode::titled(title).agreed());
        }
    }

    /// OpenCode did not know this session, and its chat is linked with another one by now.
    pub fn replaced(&mut self, id: &OpencodeSessionId) {
        self.outdate_reads(id);
        self.learn(id, InConvex::Absent);
    }

    /// Convex says that it has this session, with this title.
    pub fn linked(&mut self, id: &OpencodeSessionId, title: &str) {
        // What is known or under way here is no older.
        match self.known.get(id) {
            InConvex::Unknown if self.queue.iter().any(|change| change.id == *id) => {}
            InConvex::Unknown => self.learn(id, InOpencode::titled(title).agreed()),
            known => self.known.put(id, known),
        }
    }

    fn learn(&mut self, id: &OpencodeSessionId, convex: InConvex) {
        self.known.put(id, convex);
        if let Some(place) = self.queue.iter().position(|change| change.id == *id) {
            self.queue[place].convex = convex;
            if self.queue[place].opencode.agreed() == convex {
                self.queue.remove(place);
            }
        }
    }

    /// What Convex is known to have of a session.
    pub fn known(&self, id: &OpencodeSessionId) -> InConvex {
        self.known.get(id)
    }

    // ── What is done ──

    /// Taken before a read of either side is begun.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.moment)
    }

    /// Convex was read since `stamp`, and has this. What is known here is no older.
    pub fn remember(&mut self, id: &OpencodeSessionId, convex: InConvex, stamp: Stamp) {
        if self.known.get(id) == InConvex::Unknown && !self.has_heard(id, stamp) {
            self.known.put_listed(id, convex);
        }
    }

    fn has_heard(&self, id: &OpencodeSessionId, stamp: Stamp) -> bool {
        self.heard.iter().any(|(heard, moment)| heard == id && *moment > stamp.0)
    }

    /// Compares what was read of one session since `stamp`. Later events win.
    pub fn compare(
        &mut self,
        id: &OpencodeSessionId,
        opencode: InOpencode,
        convex: InConvex,
        stamp: Stamp,
        now: Duration,
    ) {
        if !self.has_heard(id, stamp) {
            self.note(id, opencode, convex, now);
        }
    }

    /// What a batch said is so.
    pub fn applied(&mut self, batch: &Batch, now: Duration) {
        self.succeeded();
        self.quiet_until = now + self.settings.coalesce;
        for (id, said, convex) in &batch.items {
            self.known.put(id, *convex);
            let Some(place) = self.queue.iter().position(|change| change.id == *id) else { continue };
            self.queue[place].convex = *convex;
            // It may have changed meanwhile.
            if self.queue[place].said == *said || self.queue[place].opencode.agreed() == *convex {
                self.queue.remove(place);
            }
        }
        if let Some(moment) = batch.synced_until {
            self.saved(moment, now);
        }
    }

    /// Up to when Convex says that it is synced.
    pub fn loaded(&mut self, moment: u64) {
        self.succeeded();
        self.synced = Some(self.synced.unwrap_or(0).max(moment));
        self.noted = self.noted.max(moment);
    }

    /// Convex has noted this.
    pub fn saved(&mut self, moment: u64, now: Duration) {
        self.succeeded();
        self.noted = self.noted.max(moment);
        self.noted_at = now;
    }

    /// `page` was listed: it had `length` sessions, the last of them used at `oldest` (ms).
    pub fn listed(
        &mut self,
        page: Page,
        length: usize,
        newest: Option<u64>,
        oldest: Option<u64>,
        now: Duration,
    ) {
        self.succeeded();
        if self.listing != Listing::At(page) {
            return;
        }
        self.horizon = self.horizon.max(newest.unwrap_or(0));
        self.listing = match oldest {
            Some(oldest) if length >= page.limit => Listing::At(next_page(page, oldest, self.settings.page)),
            _ => Listing::Rests(now + self.settings.scrub_interval * 3),
        };
    }

    /// The page after `after` was compared; `last` is its last id, if it was not the last page.
    pub fn scrubbed(&mut self, last: Option<String>, now: Duration) {
        self.succeeded();
        self.scrub.next = now + self.settings.scrub_interval;
        match last {
            Some(last) => self.scrub.after = last,
            None => {
                self.scrub.after.clear();
                self.scrub.passes = self.scrub.passes.saturating_sub(1);
                if self.scrub.passes == 0 {
                    self.scrub.next = now + self.settings.rescan;
                }
            }
        }
    }

    /// A step failed. A batch that fails again and again is given up.
    pub fn failed(&mut self, batch: Option<&Batch>, now: Duration) {
        self.failures += 1;
        self.retry_at = now + (RETRY_MIN * 2_u32.pow(self.failures.min(10) - 1)).min(RETRY_MAX);
        if let Some(batch) = batch
            && self.failures >= MAX_FAILURES
        {
            self.queue.retain(|change| {
                !batch.items.iter().any(|(id, said, _)| *id == change.id && *said == change.said)
            });
            self.failures = 0;
            self.scrub.passes = self.scrub.passes.max(1);
        }
    }

    fn succeeded(&mut self) {
        self.failures = 0;
    }

    // ── What to do ──

    /// What to do at `now`. `server` says whether one runs; without one nothing is read.
    pub fn next(&mut self, server: bool, now: Duration) -> Step {
        if now < self.retry_at && self.failures > 0 {
            return Step::Wait(Some(self.retry_at));
        }
        if let Some(batch) = self.batch(now) {
            return Step::Apply(batch);
        }
        let work = if server { self.read(now) } else { None };
        work.or_else(|| self.save(server, now)).unwrap_or_else(|| Step::Wait(self.deadline(server)))
    }

    /// What Convex should note before this process ends, if anything.
    pub fn unsaved(&mut self) -> Option<u64> {
        self.settle();
        self.synced.filter(|synced| *synced > self.noted)
    }

    fn batch(&mut self, now: Duration) -> Option<Batch> {
        let free: Vec<_> = self.queue.iter().filter(|change| !self.is_held(change)).collect();
        let is_full = free.len() >= self.settings.batch;
        if !is_full && free.iter().all(|change| now < self.due(change)) {
            return None;
        }
        let chosen = &free[..free.len().min(self.settings.batch)];
        let items = chosen.iter().map(|c| (c.id.clone(), c.said, c.opencode.agreed())).collect();
        let plan = plan(chosen.iter().map(|c| (&c.id, &c.opencode, c.convex)));
        let is_all = chosen.len() == self.queue.len() && matches!(self.listing, Listing::Rests(_));
        let synced_until = self.synced.filter(|_| is_all).map(|synced| synced.max(self.horizon));
        Some(Batch { plan, synced_until, items })
    }

    fn due(&self, change: &Change) -> Duration {
        (change.since + self.settings.coalesce).max(self.quiet_until)
    }

    /// Whether the session may be one that is being created for a chat right now.
    fn is_held(&self, change: &Change) -> bool {
        let is_linked = matches!(change.convex, InConvex::Titled(_));
        !is_linked && self.creations.first().is_some_and(|first| *first < change.before_creation)
    }

    fn read(&mut self, now: Duration) -> Option<Step> {
        let has_room = |more: usize| self.queue.is_empty() || self.queue.len() + more <= QUEUE;
        if self.listing == Listing::Due || matches!(self.listing, Listing::Rests(until) if now >= until) {
            let Some(synced) = self.synced else { return Some(Step::Load) };
            let since = synced.saturating_sub(OVERLAP);
            self.listing = Listing::At(Page { since, cursor: None, limit: self.settings.page });
        }
        match self.listing {
            Listing::At(page) if has_room(page.limit) => return Some(Step::List(page)),
            Listing::Rests(_) => {}
            _ => return None,
        }
        if now < self.scrub.next || !has_room(self.settings.page) {
            return None;
        }
        self.scrub.passes = self.scrub.passes.max(1);
        Some(Step::Scrub(self.scrub.after.clone()))
    }

    fn save(&mut self, server: bool, now: Duration) -> Option<Step> {
        let moment = self.unsaved()?;
        // Once a server is gone nothing more is to be noted.
        (!server || now >= self.noted_at + CHECKPOINT).then_some(Step::Save(moment))
    }

    /// If nothing is under way, everything that was listed is done.
    fn settle(&mut self) {
        if self.queue.is_empty() && matches!(self.listing, Listing::Rests(_)) {
            self.synced = self.synced.map(|synced| synced.max(self.horizon));
        }
    }

    fn deadline(&self, server: bool) -> Option<Duration> {
        let free = self.queue.iter().filter(|change| !self.is_held(change));
        let apply = free.map(|change| self.due(change));
        let listing = match self.listing {
            Listing::Rests(until) if server => Some(until),
            _ => None,
        };
        let scrub = server.then_some(self.scrub.next);
        let is_unsaved = self.synced.is_some_and(|synced| synced.max(self.horizon) > self.noted);
        let save = (server && is_unsaved).then_some(self.noted_at + CHECKPOINT);
        apply.chain(listing).chain(scrub).chain(save).min()
    }
}

/// Sessions used in the same millisecond as the last of a page may be on the next one: it begins with that millisecond
/// again. If that is a whole page, pages grow until it fits or is given up.
fn next_page(page: Page, oldest: u64, usual: usize) -> Page {
    const LARGEST: usize = 1_000;
    let cursor = Some(oldest + 1);
    match () {
        () if page.cursor != cursor => Page { cursor, limit: usual, ..page },
        () if page.limit < LARGEST => Page { limit: page.limit * 2, ..page },
        () => Page { cursor: Some(oldest), limit: usual, ..page },
    }
}

#[cfg(test)]
mod tests;
