//! The predecessor's behaviour, as a worker: the negative control.
//!
//! It reproduces what was measured of the TypeScript worker that this project replaces, fault by fault (numbered
//! as in docs/predecessor.md): it loads all sessions at start (P1), starts OpenCode at once (P2), creates OpenCode
//! sessions without a throttle (P3), prompts old incomplete messages again after each start and throws their
//! replies away (P4, P12), lists everything every 30 s (P5), asks for the models once per session that it finds in
//! OpenCode (P6) and makes another session for each of them (P11), subscribes to all messages of all time (P7),
//! remembers everything for ever (P8), beats in the document that everybody reads (P9) and proves nothing but its id
//! (P10). A simulator whose oracles let it pass would prove nothing about its successor.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::atomic::Ordering,
    time::Duration,
};

use convex::Value;
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::sleep;
use worker::{
    convex::ConvexClient,
    env::{Env, Launch, ServerProcess},
    opencode::{Client, OpencodeSessionId, Role},
};

use crate::hosts::worker::Boot;
use sim_model::trace::Exit;

/// The predecessor's functions, loaded beside the real ones.
pub const SOURCE: (&str, &str) = ("legacy.ts", include_str!("legacy.ts"));

/// Time between two synchronisations.
const SYNC: Duration = Duration::from_secs(30);
/// Time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Time between two looks at a reply.
const POLL: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registration {
    worker: String,
    epoch: f64,
    stale_before: f64,
}

#[derive(Deserialize)]
struct SessionRow {
    session: String,
    opencode: Option<String>,
}

#[derive(Deserialize)]
struct MessageRow {
    turn: String,
    session: String,
    content: String,
    sent: f64,
    completed: bool,
}

/// Runs the predecessor until it is asked to stop.
#[must_use]
pub fn program(boot: Boot) -> Pin<Box<dyn Future<Output = Exit>>> {
    Box::pin(async move {
        let stop = boot.stop.gracefully.clone();
        tokio::select! {
            () = stop.cancelled() => Exit::Stopped,
            result = live(boot) => match result {
                Ok(never) => match never {},
                Err(error) => Exit::Failed(format!("{error:#}")),
            },
        }
    })
}

/// What all its parts share. Nothing in here is ever forgotten (P8).
struct Legacy {
    convex: ConvexClient,
    opencode: Client,
    worker: String,
    /// When its epoch began, by the backend's clock (ms).
    started: f64,
}

async fn live(boot: Boot) -> anyhow::Result<std::convert::Infallible> {
    let Boot { env, config, status, .. } = boot;
    let (convex, _connection) = ConvexClient::start(&env, config.convex_url.clone());
    let who = [
        ("machineId", config.token.machine_id.as_str().into()),
        ("workerId", config.token.worker_id.as_str().into()),
        ("secret", config.token.expose_secret().into()),
    ];
    let identity = ("who", object(who.clone()));
    let registration = arguments([identity, ("acceptUnclaimedWithinMs", Value::Float64(0.0))]);
    let registration: Registration = read(convex.mutation("workers:register", registration).await?)?;

    let password: SecretString = "legacy".to_owned().into();
    let server = env
        .launch(Launch {
            binary: config.settings.opencode.binary.clone(),
            directory: config.directory.clone(),
            data_directory: None,
            password: password.clone(),
            startup_timeout: config.settings.opencode.startup_timeout,
        })
        .await?;
    let (directory, limit) = (&config.directory, Duration::from_secs(300));
    let opencode = Client::new(env.clone(), server.address(), directory, &password, limit);
    let started = registration.stale_before;
    let legacy = Legacy { convex, opencode, worker: registration.worker, started };

    let mut sessions = legacy.load_all().await?;
    status.sessions_cached.store(sessions.len(), Ordering::Relaxed);
    legacy.create_missing(&mut sessions).await?;
    let credentials = who.into_iter().chain([("epoch", Value::Float64(registration.epoch))]);
    legacy.convex.mutation("workers:markConnected", arguments([("who", object(credentials))])).await?;
    tokio::try_join!(legacy.sync(&sessions), legacy.beat(), legacy.answer(&sessions))?;
    anyhow::bail!("its loops never end")
}

impl Legacy {
    /// All sessions, into memory.
    async fn load_all(&self) -> anyhow::Result<BTreeMap<String, Option<OpencodeSessionId>>> {
        let mut subscription = self.convex.subscribe("legacy:getActiveSessions", self.id());
        let rows: Vec<SessionRow> = read(subscription.next().await?)?;
        rows.into_iter()
            .map(|row| Ok((row.session, row.opencode.map(|id| id.parse()).transpose()?)))
            .collect()
    }

    /// All that are missing in OpenCode, at the same time.
    async fn create_missing(
        &self,
        sessions: &mut BTreeMap<String, Option<OpencodeSessionId>>,
    ) -> anyhow::Result<()> {
        let checks = sessions.iter_mut().map(async |(session, opencode)| {
            let known = match opencode {
                Some(id) => self.opencode.session(id).await.is_ok(),
                None => false,
            };
            if !known {
                *opencode = Some(self.create(session).await?);
            }
            anyhow::Ok(())
        });
        join_all(checks).await.into_iter().collect()
    }

    async fn create(&self, session: &str) -> anyhow::Result<OpencodeSessionId> {
        let made = self.opencode.create_session("restored", None).await?;
        let link = arguments([("session", session.into()), ("opencodeSessionId", made.id.as_str().into())]);
        self.convex.mutation("legacy:sessionReady", link).await?;
        Ok(made.id)
    }

    /// Compares everything with everything. Each session that only OpenCode has costs a list of the models and one
    /// more session, which the next round finds again.
    async fn sync(&self, sessions: &BTreeMap<String, Option<OpencodeSessionId>>) -> anyhow::Result<()> {
        let linked: BTreeSet<OpencodeSessionId> = sessions.values().flatten().cloned().collect();
        let mut imported = BTreeSet::new();
        loop {
            let found = self.opencode.sessions(1_000).await?;
            let strangers =
                found.into_iter().filter(|s| !linked.contains(&s.id) && imported.insert(s.id.clone()));
            let imports = strangers.map(async |_| {
                self.opencode.models().await?;
                self.opencode.create_session("imported", None).await
            });
            join_all(imports).await.into_iter().collect::<Result<Vec<_>, _>>()?;
            sleep(SYNC).await;
        }
    }

    async fn beat(&self) -> anyhow::Result<()> {
        loop {
            self.convex.mutation("legacy:heartbeat", self.id()).await?;
            sleep(HEARTBEAT).await;
        }
    }

    /// Prompts whatever is not completed, however old it is, all at once.
    async fn answer(&self, sessions: &BTreeMap<String, Option<OpencodeSessionId>>) -> anyhow::Result<()> {
        let mut messages = self.convex.subscribe("legacy:subscribeToWorkerMessages", self.id());
        let mut processed = BTreeSet::new();
        let mut replies = FuturesUnordered::new();
        loop {
            tokio::select! {
                rows = messages.next() => {
                    let rows: Vec<MessageRow> = read(rows?)?;
                    for row in rows.into_iter().filter(|row| !row.completed) {
                        let Some(Some(session)) = sessions.get(&row.session) else { continue };
                        if processed.insert(row.turn.clone()) {
                            replies.push(self.reply(session.clone(), row));
                        }
                    }
                }
                Some(result) = replies.next() => result?,
            }
        }
    }

    async fn reply(&self, session: OpencodeSessionId, row: MessageRow) -> anyhow::Result<()> {
        let prompt = format!("msg_legacy{}", row.turn);
        self.opencode.prompt_async(&session, &prompt, &row.content, None).await?;
        let text = loop {
            sleep(POLL).await;
            if let Some(text) = self.finished(&session, &prompt).await? {
                break text;
            }
        };
        // What came from before its start is thrown away when it is answered.
        if row.sent < self.started {
            return Ok(());
        }
        let reply = arguments([("turn", row.turn.into()), ("text", text.into())]);
        self.convex.mutation("legacy:completeMessage", reply).await?;
        Ok(())
    }

    async fn finished(&self, session: &OpencodeSessionId, prompt: &str) -> anyhow::Result<Option<String>> {
        let messages = self.opencode.messages(session, 100).await?;
        let answer = messages.iter().rfind(|message| {
            let info = &message.info;
            info.role == Role::Assistant && info.parent.as_deref() == Some(prompt) && info.completed.is_some()
        });
        Ok(answer.map(|message| message.parts.iter().filter_map(worker::opencode::Part::text).collect()))
    }

    fn id(&self) -> BTreeMap<String, Value> {
        arguments([("worker", self.worker.as_str().into())])
    }
}

fn arguments<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> BTreeMap<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(arguments(fields))
}

fn read<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    Ok(serde_json::from_value(value.export())?)
}
