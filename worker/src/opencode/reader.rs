//! The one event stream of a generation: always open, always drained.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use sse_stream::SseStream;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tracing::{debug, warn};

use super::{
    body::{StreamFault, Watched},
    events::{self, EventKind},
    http::Client,
    registry::{Registry, Tap},
    stats::ServerStats,
    supervisor::backoff,
};

/// Attempts in a row to open the stream after which the server counts as wedged. With the backoff between them they
/// take more than 10 s if the server refuses, and minutes if it is silent: one slow answer never restarts a server.
const WEDGED_AFTER: u32 = 6;

/// A stream that lived for this long is no part of a row of failures; one that ends at once is.
const STABLE_AFTER: Duration = Duration::from_secs(2);

/// Reads a generation's event stream until the generation ends.
pub(crate) struct Reader {
    pub(crate) client: Client,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tap: Tap,
    pub(crate) stats: Arc<ServerStats>,
    /// An open stream without a byte for this long is taken for dead.
    pub(crate) silence: Duration,
    /// Draws a seed for the jitter of a pause.
    pub(crate) seed: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Reader {
    /// Opens the stream, again and again. Resolves `ready` when it is open for the first time, `wedged` when it cannot
    /// be opened any more.
    pub(crate) async fn run(mut self, ready: oneshot::Sender<()>, wedged: oneshot::Sender<String>) {
        let mut ready = Some(ready);
        let mut failures = 0;
        loop {
            let (mut was_open, begun) = (false, Instant::now());
            let fault = self.read_once(&mut ready, &mut was_open).await;
            let was_stable = was_open && begun.elapsed() >= STABLE_AFTER;
            failures = if was_stable { 1 } else { failures + 1 };
            debug!(%fault, failures, "the event stream ended");
            if failures >= WEDGED_AFTER {
                let reason = format!("its event stream failed {failures} times in a row: {fault}");
                let _ = wedged.send(reason);
                return;
            }
            tokio::time::sleep(backoff(failures, (self.seed)())).await;
        }
    }

    /// Reads one stream to its end and says why it ended.
    async fn read_once(&mut self, ready: &mut Option<oneshot::Sender<()>>, was_open: &mut bool) -> String {
        let begun = Instant::now();
        let response = match timeout(self.silence, self.client.open_events()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return StreamFault::Silent(self.silence).to_string(),
        };
        let _open = self.stats.stream_opened();
        let mut stream = SseStream::new(Watched::new(response.into_body(), self.silence, begun));
        while let Some(block) = stream.next().await {
            match block {
                Ok(block) => self.take(block.data.unwrap_or_default(), ready, was_open).await,
                Err(sse_stream::Error::Body(fault)) => return fault.to_string(),
                Err(other) => return other.to_string(),
            }
        }
        "the server closed it".into()
    }

    async fn take(&mut self, data: String, ready: &mut Option<oneshot::Sender<()>>, was_open: &mut bool) {
        if data.is_empty() {
            return;
        }
        let event = match events::parse(data) {
            Ok(event) => event,
            Err(error) => {
                self.stats.event_skipped();
                warn!(%error, "skipped an event");
                return;
            }
        };
        if event.kind == EventKind::Connected && !std::mem::replace(was_open, true) {
            self.connected(ready).await;
        }
        self.tap.offer(&event);
        self.registry.deliver(event).await;
    }

    async fn connected(&mut self, ready: &mut Option<oneshot::Sender<()>>) {
        self.tap.gap();
        match ready.take() {
            Some(ready) => drop(ready.send(())),
            None => self.registry.gap().await,
        }
    }
}
