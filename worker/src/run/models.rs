//! What a person can ask of a worker before the first message: a server that runs, and a list of its models.

use std::sync::PoisonError;

use super::Worker;
use crate::{convex::Backend, env::Env, opencode::Server, sync::plan::fingerprint};

impl<E: Env> Worker<E> {
    /// A person wants to work with this worker: OpenCode is started before the first message, and its models are
    /// published. Without a turn it is stopped again for being idle.
    pub(super) fn connect(&mut self, requested_at: Option<f64>) {
        if requested_at.is_none() || requested_at == self.connect_request || self.inbox.is_closed() {
            return;
        }
        self.connect_request = requested_at;
        self.use_server("the request to connect cannot be met");
    }

    /// The digest of the models that the backend has, as far as registration told.
    fn known_models(&self) -> Option<String> {
        self.models_digest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Once per start, when a turn has shown that the server runs.
    pub(super) fn publish_models(&mut self) {
        if self.models_published || self.inbox.is_closed() || self.status.server.generation() == 0 {
            return;
        }
        self.use_server("the models are not published");
    }

    /// Starts the server if it does not run, and publishes its models the first time.
    fn use_server(&mut self, if_it_fails: &'static str) {
        let publish = !std::mem::replace(&mut self.models_published, true);
        let known = self.known_models();
        let (server, backend) = (self.server.clone(), self.backend.clone());
        self.calls.push(Box::pin(async move {
            let result = match publish {
                true => publish_models(&server, &backend, known).await,
                false => server.acquire().await.map(drop).map_err(Into::into),
            };
            if let Err(error) = result {
                tracing::warn!(%error, "{if_it_fails}");
            }
            None
        }));
    }
}

/// Lists the models and publishes them, unless they are those that the backend has. Until the next start people choose
/// from that list, also while no server runs.
async fn publish_models(server: &Server, backend: &Backend, known: Option<String>) -> anyhow::Result<()> {
    let lease = server.acquire().await?;
    let models = lease.client().models().await?;
    drop(lease);
    let models: Vec<_> = models.iter().map(ToString::to_string).collect();
    let digest = format!("{:016x}", fingerprint(&models.join("\n")));
    if known.as_deref() == Some(&*digest) {
        return Ok(());
    }
    Ok(backend.update_models(models, digest).await?)
}
