//! One start of the server: what its users hold, and what is counted over all of them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::{
    error::ApiError,
    events::PermissionAsked,
    http::Client,
    questions,
    registry::{EventReceiver, Registry},
    types::OpencodeSessionId,
    work::{self, Doubted, Work},
};

/// One start of the server. Handles of an old generation never reach a newer server.
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) client: Client,
    pub(crate) registry: Arc<Registry>,
    /// How many leases are held.
    pub(crate) users: watch::Sender<usize>,
    /// Sessions that nobody follows and that are perhaps busy.
    pub(super) doubted: Doubted,
}

impl Generation {
    /// Tells all receivers, and cuts all connections.
    pub(crate) fn lose(&self, reason: &str) {
        self.registry.lose(reason);
        self.client.close();
    }
}

/// The right to use the running server. While one is held, the server is not stopped for being idle.
///
/// When the server ends, receivers get [`SessionEvent::ServerLost`](super::SessionEvent::ServerLost) and the client's
/// calls fail. Drop the lease and acquire another one to reach the next generation.
pub struct Lease {
    generation: Arc<Generation>,
}

impl Lease {
    pub(crate) fn new(generation: Arc<Generation>) -> Self {
        generation.users.send_modify(|users| *users += 1);
        Self { generation }
    }

    /// The HTTP client of this generation.
    pub fn client(&self) -> &Client {
        &self.generation.client
    }

    /// Receives the session's events from now on. Subscribe before the prompt, and keep receiving until the receiver
    /// is dropped: the one event stream waits for the slowest receiver.
    pub fn events(&self, session: &OpencodeSessionId) -> EventReceiver {
        self.generation.registry.subscribe(session)
    }

    /// The session is about to be prompted. Say of what is returned how it ended.
    pub fn begin(&self, session: &OpencodeSessionId) -> Work {
        Work::new(self.generation.clone(), session)
    }

    /// Whether the session may be prompted. If it was left behind, it is waited for until it is idle, for some seconds.
    /// Safe to cancel.
    pub async fn settle(&self, session: &OpencodeSessionId) -> bool {
        work::settle(&self.generation, session).await
    }

    /// The open permission questions of a session whose events are received, and of its children.
    pub async fn questions(&self, session: &OpencodeSessionId) -> Result<Vec<PermissionAsked>, ApiError> {
        questions::of_session(&self.generation.client, &self.generation.registry, session).await
    }

    /// Counts the starts of the server, from 1.
    pub fn generation(&self) -> u64 {
        self.generation.number
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease(generation {})", self.generation.number)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.generation.users.send_modify(|users| *users -= 1);
    }
}

/// Whoever uses the server while it runs anyway: it neither starts one nor keeps one from being stopped.
pub struct Onlooker(watch::Receiver<Option<Arc<Generation>>>);

impl Onlooker {
    pub(crate) fn new(current: watch::Receiver<Option<Arc<Generation>>>) -> Self {
        Self(current)
    }

    /// The client of the server that runs, if one does. Its calls fail when that server ends.
    pub fn client(&mut self) -> Option<Client> {
        self.0.borrow_and_update().as_ref().map(|generation| generation.client.clone())
    }

    /// Resolves when a server began to run or ended since the last [`Onlooker::client`]. Safe to cancel.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

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

    /// Whether a server's process runs.
    pub fn is_alive(&self) -> bool {
        self.generation() != 0
    }

    /// Whether it says what happens: its event stream is open.
    pub fn is_ready(&self) -> bool {
        self.is_alive() && self.open_streams() != 0
    }

    /// Whether it did what it was asked last, in time. Nothing is asked for this, and nothing follows from it: a server
    /// that is slow once is busy.
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
