//! What came of a step: what was read of both sides, what was written, what failed.

use std::time::Duration;

use super::{Batch, Listing, Page, Stamp, State, next::next_page};
use crate::{
    opencode::OpencodeSessionId,
    sync::plan::{InConvex, InOpencode},
};

/// Pause after a failure; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(5 * 60);
/// Failures in a row after which a batch is given up: the next scrub finds what it held.
pub(super) const MAX_FAILURES: u32 = 4;

impl State {
    /// Taken before a read of either side is begun.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp(self.sequence)
    }

    /// Convex was read since `stamp`, and has this. What is known here is no older.
    pub(crate) fn remember(&mut self, id: &OpencodeSessionId, convex: InConvex, stamp: Stamp) {
        if self.convex.get(id) == InConvex::Unknown && !self.has_changed(id, stamp) {
            self.convex.put_listed(id, convex);
        }
    }

    fn has_changed(&self, id: &OpencodeSessionId, stamp: Stamp) -> bool {
        self.recent.iter().any(|(recent, sequence)| recent == id && *sequence > stamp.0)
    }

    /// Compares what was read of one session since `stamp`. Later events win.
    pub(crate) fn compare(
        &mut self,
        id: &OpencodeSessionId,
        opencode: InOpencode,
        convex: InConvex,
        stamp: Stamp,
        now: Duration,
    ) {
        if !self.has_changed(id, stamp) {
            self.enqueue(id, opencode, convex, now);
        }
    }

    /// A batch is done.
    pub(crate) fn applied(&mut self, batch: &Batch, now: Duration) {
        self.succeeded();
        self.quiet_until = now + self.settings.coalesce;
        for (id, sequence, convex) in &batch.items {
            self.convex.put(id, *convex);
            let Some(place) = self.queue.iter().position(|change| change.id == *id) else { continue };
            self.queue[place].convex = *convex;
            // It may have changed meanwhile.
            if self.queue[place].sequence == *sequence || self.queue[place].opencode.agreed() == *convex {
                self.queue.remove(place);
            }
        }
        if let Some(moment) = batch.synced_until {
            self.saved(moment, now);
        }
    }

    /// Up to when Convex says that it is synced.
    pub(crate) fn loaded(&mut self, moment: u64) {
        self.succeeded();
        self.cursor.load(moment);
    }

    /// Convex has saved the cursor.
    pub(crate) fn saved(&mut self, moment: u64, now: Duration) {
        self.succeeded();
        self.cursor.save(moment, now);
    }

    /// `page` was listed: it had `length` sessions, the last of them used at `oldest` (ms).
    pub(crate) fn listed(
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
        self.cursor.list(newest.unwrap_or(0));
        self.listing = match oldest {
            Some(oldest) if length >= page.limit => Listing::At(next_page(page, oldest, self.settings.page)),
            _ => Listing::Rests(now + self.settings.scrub_interval * 3),
        };
    }

    /// The page after `after` was compared; `last` is its last id, if it was not the last page.
    pub(crate) fn scrubbed(&mut self, last: Option<String>, now: Duration) {
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
                self.look_again(now);
            }
        }
    }

    /// OpenCode cannot show a session of the page that is compared.
    pub(crate) fn left_out(&mut self) {
        self.scrub.left_out = true;
    }

    /// After a pass that left something out, another one comes ever later: whatever it was may be over by then.
    fn look_again(&mut self, now: Duration) {
        if !std::mem::take(&mut self.scrub.left_out) {
            self.scrub.incomplete = 0;
            return;
        }
        let pause = self.settings.scrub_interval.saturating_mul(1 << self.scrub.incomplete.min(16));
        self.scrub.incomplete += 1;
        self.scrub.next = self.scrub.next.min(now + pause);
    }

    /// A step failed. A batch that fails again and again is given up.
    pub(crate) fn failed(&mut self, batch: Option<&Batch>, now: Duration) {
        self.failures += 1;
        self.retry_at = now + (RETRY_MIN * 2_u32.pow(self.failures.min(10) - 1)).min(RETRY_MAX);
        if let Some(batch) = batch
            && self.failures >= MAX_FAILURES
        {
            self.queue.retain(|change| {
                !batch.items.iter().any(|(id, sequence, _)| *id == change.id && *sequence == change.sequence)
            });
            self.failures = 0;
            self.scrub.passes = self.scrub.passes.max(1);
        }
    }

    /// Returns true if the same step has failed so often that what it cannot do is to be left out.
    pub(crate) fn is_stuck(&self) -> bool {
        self.failures >= MAX_FAILURES
    }

    fn succeeded(&mut self) {
        self.failures = 0;
    }
}
