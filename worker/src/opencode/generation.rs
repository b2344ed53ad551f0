//! One start of the server.

use std::sync::Arc;

use tokio::sync::watch;

use super::{http::Client, maybe_busy::MaybeBusy, registry::Registry};

/// One start of the server. Handles of an old generation never reach a newer server.
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) client: Client,
    pub(crate) registry: Arc<Registry>,
    /// How many leases are held.
    pub(crate) users: watch::Sender<usize>,
    /// Sessions that nobody follows and that are perhaps busy.
    pub(super) maybe_busy: MaybeBusy,
}

impl Generation {
    /// Tells all receivers, and cuts all connections.
    pub(crate) fn lose(&self, reason: &str) {
        self.registry.lose(reason);
        self.client.close();
    }
}
