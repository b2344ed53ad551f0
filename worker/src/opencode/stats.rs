//! What is counted over all starts of the server.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Counts for telemetry. Made by the caller, shared with the server.
#[derive(Debug, Default)]
pub struct ServerStats {
    starts: AtomicU64,
    failed_starts: AtomicU64,
    losses: AtomicU64,
    generation: AtomicU64,
    open_streams: AtomicU64,
    healthy: AtomicBool,
    skipped_events: AtomicU64,
}

impl ServerStats {
    /// Starts tried.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Starts that failed.
    pub fn failed_starts(&self) -> u64 {
        self.failed_starts.load(Ordering::Relaxed)
    }

    /// Running servers that ended by themselves or were ended because they no longer served.
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// The generation that runs, or 0.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Event streams that are open: 0 or 1.
    pub fn open_streams(&self) -> u64 {
        self.open_streams.load(Ordering::Relaxed)
    }

    /// Returns true if a server's process runs.
    pub fn is_alive(&self) -> bool {
        self.generation() != 0
    }

    /// Returns true if it says what happens: its event stream is open.
    pub fn is_ready(&self) -> bool {
        self.is_alive() && self.open_streams() != 0
    }

    /// Returns true if it did what it was asked last, in time. Nothing is asked for this, and nothing follows from it:
    /// a server that is slow once is busy.
    pub fn is_healthy(&self) -> bool {
        self.is_alive() && self.healthy.load(Ordering::Relaxed)
    }

    /// Events that could not be read.
    pub fn skipped_events(&self) -> u64 {
        self.skipped_events.load(Ordering::Relaxed)
    }

    pub(crate) fn start_tried(&self) {
        self.starts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn start_failed(&self) {
        self.failed_starts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, well: bool) {
        self.healthy.store(well, Ordering::Relaxed);
    }

    pub(crate) fn runs(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    pub(crate) fn event_skipped(&self) {
        self.skipped_events.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a stream as open until the guard is dropped.
    pub(crate) fn stream_opened(self: &Arc<Self>) -> OpenStream {
        self.open_streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }
}

/// An open event stream.
pub(crate) struct OpenStream(Arc<ServerStats>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Ordering::Relaxed);
    }
}
