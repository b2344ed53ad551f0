//! What to do next.

use std::time::Duration;

use super::{Batch, Change, Listing, Page, QUEUE, State, Step};
use crate::sync::plan::{InConvex, plan};

/// Listings overlap by so much (ms): events of one moment may come in any order.
const OVERLAP: u64 = 1_000;
/// While a server runs, the cursor is saved this often, if it has moved.
const CHECKPOINT: Duration = Duration::from_secs(10 * 60);

impl State {
    /// Returns what to do at `now`. `server` says whether one runs; without one nothing is read.
    pub(crate) fn next(&mut self, server: bool, now: Duration) -> Step {
        if now < self.retry_at && self.failures > 0 {
            return Step::Wait(Some(self.retry_at));
        }
        if let Some(batch) = self.batch(now) {
            return Step::Apply(batch);
        }
        let work = if server { self.read(now) } else { None };
        work.or_else(|| self.save(server, now)).unwrap_or_else(|| Step::Wait(self.deadline(server)))
    }

    /// The cursor, if Convex should save it before this process ends.
    pub(crate) fn unsaved(&mut self) -> Option<u64> {
        self.advance_cursor();
        self.cursor.unsaved()
    }

    fn batch(&mut self, now: Duration) -> Option<Batch> {
        let free: Vec<_> = self.queue.iter().filter(|change| !self.is_held(change)).collect();
        let is_full = free.len() >= self.settings.batch;
        if !is_full && free.iter().all(|change| now < self.due(change)) {
            return None;
        }
        let chosen = &free[..free.len().min(self.settings.batch)];
        let items = chosen.iter().map(|c| (c.id.clone(), c.sequence, c.opencode.agreed())).collect();
        let plan = plan(chosen.iter().map(|c| (&c.id, &c.opencode, c.convex)));
        let is_all = chosen.len() == self.queue.len() && matches!(self.listing, Listing::Rests(_));
        let synced_until = self.cursor.once_done().filter(|_| is_all);
        Some(Batch { plan, synced_until, items })
    }

    fn due(&self, change: &Change) -> Duration {
        (change.since + self.settings.coalesce).max(self.quiet_until)
    }

    /// Returns true if the session may be one that is being created for a chat right now.
    fn is_held(&self, change: &Change) -> bool {
        let is_linked = matches!(change.convex, InConvex::Titled(_));
        !is_linked && self.creations.first().is_some_and(|first| *first < change.before_creation)
    }

    fn read(&mut self, now: Duration) -> Option<Step> {
        let has_room = |more: usize| self.queue.is_empty() || self.queue.len() + more <= QUEUE;
        if self.listing == Listing::Due || matches!(self.listing, Listing::Rests(until) if now >= until) {
            let Some(synced) = self.cursor.synced() else { return Some(Step::Load) };
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
        // Once a server is gone the cursor moves no more.
        (!server || now >= self.cursor.saved_at() + CHECKPOINT).then_some(Step::Save(moment))
    }

    /// If nothing is under way, everything that was listed is done.
    fn advance_cursor(&mut self) {
        if self.queue.is_empty() && matches!(self.listing, Listing::Rests(_)) {
            self.cursor.advance();
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
        let is_due = server && self.cursor.will_be_unsaved();
        let save = is_due.then_some(self.cursor.saved_at() + CHECKPOINT);
        apply.chain(listing).chain(scrub).chain(save).min()
    }
}

/// Sessions used in the same millisecond as the last of a page may be on the next one: it begins with that millisecond
/// again. If that is a whole page, pages grow until it fits or is given up.
pub(super) fn next_page(page: Page, oldest: u64, usual: usize) -> Page {
    const LARGEST: usize = 1_000;
    let cursor = Some(oldest + 1);
    match () {
        () if page.cursor != cursor => Page { cursor, limit: usual, ..page },
        () if page.limit < LARGEST => Page { limit: page.limit * 2, ..page },
        () => Page { cursor: Some(oldest), limit: usual, ..page },
    }
}
