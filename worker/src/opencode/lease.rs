//! What the users of a running server hold.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use super::{
    active_prompt::{self, ActivePrompt},
    error::ApiError,
    generation::Generation,
    http::Client,
    id::OpencodeSessionId,
    questions,
    registry::EventReceiver,
    types::PermissionAsked,
};

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
    pub fn begin(&self, session: &OpencodeSessionId) -> ActivePrompt {
        ActivePrompt::new(self.generation.clone(), session)
    }

    /// Returns true if the session may be prompted. If it was left behind, it is waited for until it is idle, for some
    /// seconds. Safe to cancel.
    pub async fn wait_until_idle(&self, session: &OpencodeSessionId) -> bool {
        active_prompt::wait_until_idle(&self.generation, session).await
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
pub struct ServerWatch(watch::Receiver<Option<Arc<Generation>>>);

impl ServerWatch {
    pub(crate) fn new(current: watch::Receiver<Option<Arc<Generation>>>) -> Self {
        Self(current)
    }

    /// The client of the server that runs, if one does. Its calls fail when that server ends.
    pub fn client(&mut self) -> Option<Client> {
        self.0.borrow_and_update().as_ref().map(|generation| generation.client.clone())
    }

    /// Resolves when a server began to run or ended since the last [`ServerWatch::client`]. Safe to cancel.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}
