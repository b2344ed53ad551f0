//! How far Convex is synced, by OpenCode's clock (ms).

use std::time::Duration;

/// The cursor of one worker. It never goes back.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// Everything before this moment is in Convex; `None` until it was loaded from there.
    synced: Option<u64>,
    /// What Convex has saved of that.
    saved: u64,
    /// When it was saved, as a duration since any fixed point.
    saved_at: Duration,
    /// The latest use of a session that was listed. Events do not move it: what another process did before them is not
    /// heard of, and the next listing must still find it.
    listed: u64,
}

impl Cursor {
    /// From where a listing begins, if that was loaded.
    pub(super) fn synced(&self) -> Option<u64> {
        self.synced
    }

    /// Returns the moment that it comes to once everything that was listed is done.
    pub(super) fn once_done(&self) -> Option<u64> {
        self.synced.map(|synced| synced.max(self.listed))
    }

    /// Returns when it was saved last.
    pub(super) fn saved_at(&self) -> Duration {
        self.saved_at
    }

    /// Convex says where it was.
    pub(super) fn load(&mut self, moment: u64) {
        self.synced = Some(self.synced.unwrap_or(0).max(moment));
        self.saved = self.saved.max(moment);
    }

    /// Convex has saved it.
    pub(super) fn save(&mut self, moment: u64, now: Duration) {
        self.saved = self.saved.max(moment);
        self.saved_at = now;
    }

    /// A page was listed with a session that was used at this moment.
    pub(super) fn list(&mut self, newest: u64) {
        self.listed = self.listed.max(newest);
    }

    /// Everything that was listed is done.
    pub(super) fn advance(&mut self) {
        self.synced = self.once_done();
    }

    /// Returns the moment that Convex should save, if it has not.
    pub(super) fn unsaved(&self) -> Option<u64> {
        self.synced.filter(|synced| *synced > self.saved)
    }

    /// Returns true if there will be something to save.
    pub(super) fn will_be_unsaved(&self) -> bool {
        self.once_done().is_some_and(|synced| synced > self.saved)
    }
}
