//! What a person can ask of a worker before the first message: a server that runs, and a list of its models.

use std::sync::PoisonError;

use tokio::time::Instant;

use super::worker::Worker;
use crate::env::Env;

impl<E: Env> Worker<E> {
    /// A person wants to work with this worker: OpenCode is started before the first message, and its models are
    /// published. Without a turn it is stopped again for being idle.
    pub(super) fn connect(&mut self, requested_at: Option<f64>) {
        if requested_at.is_none() || requested_at == self.connect_request || self.inbox.is_closed() {
            return;
        }
        self.connect_request = requested_at;
        self.asked_to_connect = Some(Instant::now());
        self.quicken();
        self.use_server("the request to connect cannot be met");
    }

    /// The digest of the models that the backend has, as far as registration told.
    fn known_models(&self) -> Option<String> {
        self.models_digest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Until it succeeds, when a turn has shown that the server runs.
    pub(super) fn publish_models(&mut self) {
        if !self.models.is_due() || self.inbox.is_closed() || self.status.server.generation() == 0 {
            return;
        }
        self.use_server("the models are not published");
    }

    /// Starts the server if it does not run, and publishes its models unless they are.
    fn use_server(&mut self, if_it_fails: &'static str) {
        let (models, known) = (self.models.clone(), self.known_models());
        let (server, backend) = (self.server.clone(), self.backend.clone());
        let attempt = models.begin();
        self.calls.push(Box::pin(async move {
            let result = match attempt {
                Some(begun) => models.attempt(begun, &server, &backend, known).await,
                None => server.acquire().await.map(drop).map_err(Into::into),
            };
            if let Err(error) = result {
                tracing::warn!(%error, "{if_it_fails}");
            }
            None
        }));
    }
}
