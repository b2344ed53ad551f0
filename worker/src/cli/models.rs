//! `worker models`: what the local OpenCode can run.

use std::{sync::Arc, time::Duration};

use worker::{
    config::file::Merged,
    env::system::SystemEnv,
    opencode::{Server, ServerStats},
};

/// How long OpenCode may take to end by itself.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(5);

/// An OpenCode server of our own in the config's directory; it starts when it is first needed.
pub(crate) fn server(merged: &Merged) -> anyhow::Result<Server> {
    // Somebody waits before a terminal: no second try.
    let settings = worker::config::OpencodeSettings { start_attempts: 1, ..merged.settings.opencode.clone() };
    Ok(Server::new(SystemEnv, merged.directory()?, settings, Arc::new(ServerStats::default()), None))
}

/// The models, as `provider/model`, sorted.
pub(crate) async fn list(merged: &Merged) -> anyhow::Result<Vec<String>> {
    let server = server(merged)?;
    let models = async {
        let lease = server.acquire().await?;
        let mut models: Vec<String> =
            lease.client().models().await?.iter().map(ToString::to_string).collect();
        models.sort();
        anyhow::Ok(models)
    };
    let models = models.await;
    server.shutdown(STOP_GRACE).await;
    models
}
