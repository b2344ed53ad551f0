//! One start: launch, health, version, event stream. Only then is the server handed out.

use std::{path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};

use tracing::warn;

use crate::{
    config::OpencodeSettings,
    env::{Env, Launch, LaunchError, ServerProcess},
    opencode::{
        generation::Generation,
        http::Client,
        maybe_busy::MaybeBusy,
        reader::Reader,
        registry::{Registry, Tap, TapEvent},
        stats::ServerStats,
        supervisor::Input,
    },
};

/// The major version that this worker speaks.
const SUPPORTED_MAJOR: u32 = 1;
/// The pause between two questions for the health of a server that has just been started.
const HEALTH_PAUSE: Duration = Duration::from_millis(250);
/// A server that ran for this long is no part of a crash loop.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// What every start needs.
pub(super) struct Start<E> {
    pub(super) env: E,
    pub(super) directory: PathBuf,
    pub(super) settings: OpencodeSettings,
    pub(super) stats: Arc<ServerStats>,
    pub(super) tap: Option<mpsc::Sender<TapEvent>>,
}

/// Why a start failed.
#[derive(Debug)]
pub(super) struct StartFailure {
    pub(super) reason: String,
    pub(super) hopeless: bool,
}

impl StartFailure {
    fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hopeless: false }
    }

    fn hopeless(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hopeless: true }
    }
}

impl From<LaunchError> for StartFailure {
    fn from(error: LaunchError) -> Self {
        // People read the reason, so what the server printed goes to the log alone.
        if let LaunchError::Exited { binary, status, output } = &error {
            warn!(output, "what OpenCode printed before it ended");
            let reason = format!(
                "`{binary}` ended before it was ready ({status}); the worker's log has what it printed"
            );
            return Self::passing(reason);
        }
        Self { hopeless: matches!(error, LaunchError::Spawn { .. }), reason: error.to_string() }
    }
}

/// A server that serves.
pub(super) struct RunningServer<P> {
    pub(super) process: P,
    pub(super) generation: Arc<Generation>,
    users: watch::Receiver<usize>,
    wedged: oneshot::Receiver<String>,
    since: Instant,
    _connections: Connections,
}

/// Cuts a generation's connections when it is dropped, whatever path led there.
struct Connections(Client);

impl Drop for Connections {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<P: ServerProcess> RunningServer<P> {
    /// Waits for what happens next to it. Safe to cancel.
    pub(super) async fn next(&mut self) -> Input {
        let stable = self.since.elapsed() >= STABLE_AFTER;
        tokio::select! {
            biased;
            status = self.process.exited() => Input::Exited { reason: format!("its process ended: {status}"), stable },
            Ok(reason) = &mut self.wedged => Input::Wedged { reason, stable },
            Ok(()) = self.users.changed() => {
                if *self.users.borrow_and_update() > 0 { Input::InUse } else { Input::Unused }
            }
        }
    }
}

impl<E: Env> Start<E> {
    /// Starts generation `number`; ends what it started if anything fails, or if it is dropped.
    pub(super) async fn run(self: Arc<Self>, number: u64) -> Result<RunningServer<E::Server>, StartFailure> {
        let password = self.password();
        let launch = Launch {
            binary: self.settings.binary.clone(),
            directory: self.directory.clone(),
            data_directory: self.settings.data_directory.clone(),
            password: password.clone(),
            startup_timeout: self.settings.startup_timeout,
        };
        let mut process = self.env.launch(launch).await?;
        let (env, limit) = (self.env.clone(), self.settings.request_timeout);
        let client = Client::new(env, process.address(), &self.directory, &password, limit)
            .told_to(self.stats.clone());
        let connections = Connections(client.clone());
        let prepared = tokio::select! {
            biased;
            status = process.exited() => Err(StartFailure::passing(format!("it ended after its start: {status}"))),
            prepared = self.prepare(&client) => prepared,
        };
        let (registry, wedged) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                process.stop(Duration::ZERO).await;
                return Err(failure);
            }
        };
        let (sender, users) = watch::channel(0);
        let generation = Arc::new(Generation {
            number,
            client,
            registry,
            users: sender,
            maybe_busy: MaybeBusy::default(),
        });
        let since = Instant::now();
        Ok(RunningServer { process, generation, users, wedged, since, _connections: connections })
    }

    async fn prepare(
        &self,
        client: &Client,
    ) -> Result<(Arc<Registry>, oneshot::Receiver<String>), StartFailure> {
        let limit = self.settings.startup_timeout;
        let mut last = "no answer".to_owned();
        match timeout(limit, wait_until_healthy(client, &mut last)).await {
            Ok(result) => result?,
            Err(_) => {
                let text =
                    format!("it was not healthy within {}s of its ready line: {last}", limit.as_secs());
                return Err(StartFailure::passing(text));
            }
        }
        let registry = Arc::new(Registry::default());
        let (ready, opened) = oneshot::channel();
        let (wedge, mut wedged) = oneshot::channel();
        client.spawn(self.reader(client, &registry).run(ready, wedge));
        tokio::select! {
            Ok(()) = opened => Ok((registry, wedged)),
            Ok(reason) = &mut wedged => Err(StartFailure::passing(reason)),
            () = sleep(limit) => Err(StartFailure::passing("its event stream did not open")),
        }
    }

    fn reader(&self, client: &Client, registry: &Arc<Registry>) -> Reader {
        Reader {
            client: client.clone(),
            registry: registry.clone(),
            tap: Tap::new(self.tap.clone()),
            stats: self.stats.clone(),
            silence: self.settings.event_silence,
            seed: Box::new({
                let env = self.env.clone();
                move || seed(&env)
            }),
        }
    }

    /// 32 random bytes: 43 characters that are safe in a header and in an environment.
    fn password(&self) -> SecretString {
        let mut bytes = [0; 32];
        self.env.random(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes).into()
    }
}

/// Draws a seed for a jittered pause.
pub(super) fn seed<E: Env>(env: &E) -> u64 {
    let mut bytes = [0; 8];
    env.random(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Asks until the server calls itself healthy. Ends early if it never will.
async fn wait_until_healthy(client: &Client, last: &mut String) -> Result<(), StartFailure> {
    loop {
        match client.health().await {
            Ok(health) if health.major() != Some(SUPPORTED_MAJOR) => {
                let version: String = health.version.chars().take(40).collect();
                return Err(StartFailure::hopeless(format!(
                    "OpenCode {version} is not supported; install version 1.18 (`npm install -g opencode-ai@1.18`)"
                )));
            }
            Ok(health) if health.healthy => return Ok(()),
            Ok(_) => "it calls itself unhealthy".clone_into(last),
            Err(error) if error.is_retryable() => *last = error.to_string(),
            Err(error) => return Err(StartFailure::passing(error.to_string())),
        }
        sleep(HEALTH_PAUSE).await;
    }
}
