//! The backend's functions, as `worker/convex/*.ts` define them.

use std::time::Duration;

use convex::Value;
use serde::Deserialize;

use super::{
    driver::{ConvexClient, Subscription},
    values::{Args, args, number, read},
};
use crate::{config::Token, error::CallError, opencode::OpencodeSessionId};

/// What this worker and the functions must agree on. `worker/convex/lib/protocol.ts` has its history.
const PROTOCOL: u64 = 2;
/// The code of functions that know less; they themselves say `worker_too_old`.
pub(crate) const FUNCTIONS_TOO_OLD: &str = "functions_too_old";
const DEPLOY: &str = "the backend's functions are older than this worker; deploy those of its version first, as docs/upgrade.md says";

/// The function that takes a turn.
pub(crate) const CLAIM: &str = "chat:claim";

/// A session's id in Convex.
pub type SessionId = String;
/// A turn's id in Convex.
pub type TurnId = String;

/// What `workers.register` returns.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// This process's incarnation.
    pub epoch: f64,
    /// Whether the worker may work.
    pub approval: Approval,
    /// The protocol that the functions speak; those before the second do not say.
    #[serde(default)]
    pub protocol: Option<f64>,
    /// The digest that was published with the models last.
    #[serde(default)]
    pub models_digest: Option<String>,
}

/// Whether a worker may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// Its owner has not decided yet.
    Pending,
    /// It may.
    Approved,
    /// It may no more.
    Revoked,
}

/// What the worker subscribes to: the sessions that are ready, oldest first, and the turns to be stopped.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Window {
    /// At most as many as the subscription asked for.
    pub ready: Vec<ReadySession>,
    /// Running turns whose session a person has ended.
    pub cancelled: Vec<TurnId>,
    /// When a person last asked this process to connect (ms).
    #[serde(default, rename = "connectRequestedAt")]
    pub connect_requested_at: Option<f64>,
}

/// A session with a pending turn and none running.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ReadySession {
    /// The session.
    pub session: SessionId,
    /// Its oldest pending turn.
    pub turn: TurnId,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Claim {
    /// The turn is this worker's now, and nobody else's ever.
    #[serde(rename_all = "camelCase")]
    Claimed {
        /// What the person wrote.
        content: String,
        /// `provider/model`, if the person chose one.
        model: Option<String>,
        /// The session's title, if it has one.
        title: Option<String>,
        /// The OpenCode session that was made for it, if any.
        opencode_session_id: Option<String>,
    },
    /// It was stale and has been marked so.
    Expired,
    /// It was not pending any more.
    Gone,
}

/// What became of a write to a running turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Written {
    /// It is stored (now, or by an earlier copy of this call).
    #[serde(alias = "completed", alias = "failed")]
    Written,
    /// The turn had ended meanwhile; nothing was stored.
    Ended,
}

/// One text, and what it is: `command`, `diff`, `url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What it is.
    pub label: String,
    /// The whole of it.
    pub text: String,
}

/// A permission question as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Names it in OpenCode.
    pub id: String,
    /// What is to be allowed, such as `bash`.
    pub permission: String,
    /// To what it would apply, as OpenCode's rules see it: often a part of what happens.
    pub patterns: Vec<String>,
    /// What would happen.
    pub shown: Vec<Shown>,
}

/// What becomes of a question for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Asked {
    /// It is shown (now, or by an earlier copy of this call).
    Asked,
    /// It is too large to be shown whole; nothing is.
    TooLarge,
    /// The turn had ended meanwhile.
    Ended,
}

/// What `chat.expireStale` returns.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expired {
    /// Turns that this page marked.
    pub expired: f64,
    /// Whether it was the last page.
    pub is_done: bool,
}

/// Sessions that are linked with OpenCode sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Linked {
    /// The OpenCode sessions' ids; of a page, in their order.
    pub ids: Vec<String>,
    /// The sessions' titles, as many; some may be empty.
    pub titles: Vec<String>,
    /// Of a page: whether it was the last one.
    #[serde(default)]
    pub is_done: bool,
}

impl Linked {
    /// Each id with its title.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ids.iter().zip(&self.titles).map(|(id, title)| (id.as_str(), title.as_str()))
    }
}

/// A session and its title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TitledSession {
    /// Its OpenCode id.
    pub id: OpencodeSessionId,
    /// Its title.
    pub title: String,
}

/// What has to change in Convex. All of it may be done twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncPlan {
    /// Sessions whose title changed.
    pub name_updates: Vec<TitledSession>,
    /// Sessions that OpenCode does not have any more.
    pub deletions: Vec<OpencodeSessionId>,
    /// Sessions that Convex may not have yet.
    pub new_sessions: Vec<TitledSession>,
}

/// What `sync.applyPlan` returns: how many changes changed something.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Applied {
    /// Sessions made.
    pub created: f64,
    /// Titles changed.
    pub renamed: f64,
    /// Links removed.
    pub deleted: f64,
}

#[derive(Deserialize)]
struct Record {
    approval: Approval,
}

/// The backend as one incarnation of one worker sees it. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    client: ConvexClient,
    token: Token,
    epoch: f64,
}

impl Backend {
    /// Before registration: only [`Backend::register`] and [`Backend::watch_approval`] make sense.
    pub fn new(client: ConvexClient, token: Token) -> Self {
        Self { client, token, epoch: 0.0 }
    }

    /// The same worker, as the incarnation that `epoch` names.
    pub fn with_epoch(&self, epoch: f64) -> Self {
        Self { epoch, ..self.clone() }
    }

    /// Begins a new incarnation: everything of an earlier process of this worker counts no more from now on. Sessions that
    /// have ended are kept for so many days from now on, or for ever.
    pub async fn register(
        &self,
        accept_unclaimed_within_ms: u64,
        retention_days: Option<u32>,
    ) -> Result<Registration, CallError> {
        const PATH: &str = "workers:register";
        let plain = || {
            args([("who", self.identity()), ("acceptUnclaimedWithinMs", number(accept_unclaimed_within_ms))])
        };
        let mut all = plain();
        all.insert("protocol".into(), number(PROTOCOL));
        all.extend(retention_days.map(|days| ("retentionDays".into(), number(days.into()))));
        let value = match self.client.mutation(PATH, all).await {
            // Functions that know no protocol refuse the word, and a production deployment does not say why.
            Err(error @ CallError::Failed { .. }) => {
                let value = self.client.mutation(PATH, plain()).await?;
                // These know it: it was something else, and what was to be said has to be said again.
                if read::<Registration>(PATH, value.clone())?.protocol.is_some() {
                    return Err(error);
                }
                value
            }
            result => result?,
        };
        let registration: Registration = read(PATH, value)?;
        if registration.protocol.is_some_and(|protocol| protocol >= PROTOCOL as f64) {
            return Ok(registration);
        }
        Err(CallError::Refused { path: PATH, code: FUNCTIONS_TOO_OLD.into(), message: DEPLOY.into() })
    }

    /// Follows the worker's own record.
    pub fn watch_approval(&self) -> ApprovalWatch {
        ApprovalWatch(self.client.subscribe(ApprovalWatch::PATH, args([("who", self.identity())])))
    }

    /// Expires one page of what is left behind: stale turns, and claimed ones that are not among the `running`.
    pub async fn expire_stale(&self, limit: usize, running: Vec<TurnId>) -> Result<Expired, CallError> {
        const PATH: &str = "chat:expireStale";
        let running = Value::Array(running.into_iter().map(Value::String).collect());
        let args = self.args([("limit", number(limit as u64)), ("running", running)]);
        read(PATH, self.client.mutation(PATH, args).await?)
    }

    /// Says that this worker is there, and will say so again within `interval`.
    pub async fn mark_connected(&self, interval: Duration) -> Result<(), CallError> {
        self.beat("workers:markConnected", interval).await
    }

    /// Says that this worker still lives, and will say so again within `interval`.
    pub async fn heartbeat(&self, interval: Duration) -> Result<(), CallError> {
        self.beat("workers:heartbeat", interval).await
    }

    async fn beat(&self, path: &'static str, interval: Duration) -> Result<(), CallError> {
        let interval = number(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).min(1 << 50));
        self.client.mutation(path, self.args([("intervalMs", interval)])).await.map(drop)
    }

    /// Says that this worker stops.
    pub async fn set_offline(&self) -> Result<(), CallError> {
        self.client.mutation("workers:setOffline", self.args([])).await.map(drop)
    }

    /// Publishes the models that OpenCode offers. Registration returns the `digest`.
    pub async fn update_models(&self, models: Vec<String>, digest: String) -> Result<(), CallError> {
        let models = Value::Array(models.into_iter().map(Value::String).collect());
        let args = self.args([("models", models), ("digest", digest.into())]);
        self.client.mutation("workerModels:updateModels", args).await.map(drop)
    }

    /// Subscribes to at most `limit` ready sessions.
    pub fn watch_window(&self, limit: usize) -> WindowWatch {
        let args = self.args([("limit", number(limit as u64))]);
        WindowWatch(self.client.subscribe(WindowWatch::PATH, args))
    }

    /// Takes a turn.
    pub async fn claim(&self, turn: &str) -> Result<Claim, CallError> {
        read(CLAIM, self.client.mutation(CLAIM, self.args([("turn", turn.into())])).await?)
    }

    /// Links a session to its OpenCode session.
    pub async fn session_ready(&self, session: &str, opencode: &str) -> Result<(), CallError> {
        let args = self.args([("session", session.into()), ("opencodeSessionId", opencode.into())]);
        self.client.mutation("chat:sessionReady", args).await.map(drop)
    }

    /// Appends to a turn's reply.
    pub async fn write_chunk(&self, turn: &str, sequence: u64, text: String) -> Result<Written, CallError> {
        self.append("chat:writeChunk", turn, sequence, text).await
    }

    /// Appends what is left of a turn's reply, which may be nothing, and completes the turn.
    pub async fn complete(&self, turn: &str, sequence: u64, text: String) -> Result<Written, CallError> {
        self.append("chat:completeMessage", turn, sequence, text).await
    }

    /// Shows a running turn's permission question to the person who owns its session.
    pub async fn ask_permission(
        &self,
        turn: &str,
        question: Question,
        timeout: Duration,
    ) -> Result<Asked, CallError> {
        const PATH: &str = "permissions:ask";
        let shown = |Shown { label, text }| args([("label", label.into()), ("text", text.into())]);
        let shown = question.shown.into_iter().map(|one| Value::Object(shown(one)));
        let args = self.args([
            ("turn", turn.into()),
            ("request", question.id.into()),
            ("permission", question.permission.into()),
            ("patterns", Value::Array(question.patterns.into_iter().map(Value::String).collect())),
            ("shown", Value::Array(shown.collect())),
            ("timeoutMs", number(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))),
        ]);
        read(PATH, self.client.mutation(PATH, args).await?)
    }

    /// Shows a permission question no more.
    pub async fn withdraw_permission(&self, turn: &str, request: &str) -> Result<(), CallError> {
        let args = self.args([("turn", turn.into()), ("request", request.into())]);
        self.client.mutation("permissions:withdraw", args).await.map(drop)
    }

    /// Follows what people answer to a running turn's permission questions.
    pub fn watch_answers(&self, turn: &str) -> AnswerWatch {
        let args = self.args([("turn", turn.into())]);
        AnswerWatch { answers: self.client.subscribe(AnswerWatch::PATH, args), seen: Vec::new() }
    }

    /// Returns true if a turn that this worker claimed is still in progress.
    pub async fn is_in_progress(&self, turn: &str) -> Result<bool, CallError> {
        const PATH: &str = "chat:isInProgress";
        read(PATH, self.query(PATH, self.args([("turn", turn.into())])).await?)
    }

    /// Ends a turn with an error that a person reads.
    pub async fn fail(&self, turn: &str, code: &str, message: &str) -> Result<Written, CallError> {
        const PATH: &str = "chat:failMessage";
        let error = Value::Object(args([("code", code.into()), ("message", message.into())]));
        let args = self.args([("turn", turn.into()), ("error", error)]);
        read(PATH, self.client.mutation(PATH, args).await?)
    }

    async fn append(
        &self,
        path: &'static str,
        turn: &str,
        sequence: u64,
        text: String,
    ) -> Result<Written, CallError> {
        let sequence = number(sequence);
        let args = self.args([("turn", turn.into()), ("sequence", sequence), ("text", text.into())]);
        read(path, self.client.mutation(path, args).await?)
    }

    /// Makes the changes of a plan, and notes with them up to when Convex is synced, if that is given (ms).
    pub async fn apply_plan(&self, plan: &SyncPlan, synced_until: Option<u64>) -> Result<Applied, CallError> {
        const PATH: &str = "sync:applyPlan";
        let deletions = plan.deletions.iter().map(|id| id.as_str().into()).collect();
        let mut args = self.args([
            ("newSessions", named(&plan.new_sessions)),
            ("nameUpdates", named(&plan.name_updates)),
            ("deletions", Value::Array(deletions)),
        ]);
        args.extend(synced_until.map(|moment| ("syncedUntil".to_owned(), number(moment))));
        read(PATH, self.client.mutation(PATH, args).await?)
    }

    /// Up to when Convex is synced (OpenCode's clock, ms); 0 if it never was.
    pub async fn last_sync_timestamp(&self) -> Result<u64, CallError> {
        const PATH: &str = "sync:getLastSyncTimestamp";
        let moment: Option<f64> = read(PATH, self.query(PATH, self.args([])).await?)?;
        Ok(moment.unwrap_or_default().max(0.0) as u64)
    }

    /// Notes up to when Convex is synced.
    pub async fn update_last_sync_timestamp(&self, moment: u64) -> Result<(), CallError> {
        let args = self.args([("timestamp", number(moment))]);
        self.client.mutation("sync:updateLastSyncTimestamp", args).await.map(drop)
    }

    /// Those of at most 100 OpenCode sessions that are linked.
    pub async fn linked_sessions(&self, ids: Vec<String>) -> Result<Linked, CallError> {
        const PATH: &str = "sync:linkedSessions";
        let ids = Value::Array(ids.into_iter().map(Value::String).collect());
        read(PATH, self.query(PATH, self.args([("opencodeSessionIds", ids)])).await?)
    }

    /// At most `limit` (up to 100) linked sessions whose OpenCode ids come after `after`.
    pub async fn page_of_linked_sessions(&self, after: &str, limit: usize) -> Result<Linked, CallError> {
        const PATH: &str = "sync:pageOfLinkedSessions";
        let args = self.args([("after", after.into()), ("limit", number(limit as u64))]);
        read(PATH, self.query(PATH, args).await?)
    }

    /// Asks once: subscribes, and gives the subscription up with the first result.
    async fn query(&self, path: &'static str, args: Args) -> Result<Value, CallError> {
        self.client.subscribe(path, args).next().await
    }

    fn identity(&self) -> Value {
        Value::Object(self.identity_fields())
    }

    fn identity_fields(&self) -> Args {
        args([
            ("machineId", self.token.machine_id.as_str().into()),
            ("workerId", self.token.worker_id.as_str().into()),
            ("secret", self.token.expose_secret().into()),
        ])
    }

    /// Arguments of a function that only the current incarnation may call.
    fn args<const N: usize>(&self, pairs: [(&str, Value); N]) -> Args {
        let mut who = self.identity_fields();
        who.insert("epoch".to_owned(), Value::Float64(self.epoch));
        let mut all = args(pairs);
        all.insert("who".to_owned(), Value::Object(who));
        all
    }
}

fn named(sessions: &[TitledSession]) -> Value {
    let named = |TitledSession { id, title }: &TitledSession| {
        let fields = [("opencodeSessionId", id.as_str().into()), ("title", title.as_str().into())];
        Value::Object(args(fields))
    };
    Value::Array(sessions.iter().map(named).collect())
}

/// A subscription to the window.
pub struct WindowWatch(Subscription);

impl WindowWatch {
    const PATH: &str = "chat:subscribeToWorkerMessages";

    /// The window, as soon as it differs from the last one returned. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Window, CallError> {
        read(Self::PATH, self.0.next().await?)
    }
}

/// What a person answered to a permission question.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PermissionAnswer {
    /// Names the question in OpenCode (`per…`).
    pub request: String,
    /// Whether it may be done.
    pub allow: bool,
}

/// A subscription to people's answers to one turn's questions.
pub struct AnswerWatch {
    answers: Subscription,
    /// The rest of the last result; the backend bounds it.
    seen: Vec<PermissionAnswer>,
}

impl AnswerWatch {
    const PATH: &str = "permissions:subscribeToAnswers";

    /// The next answer; it comes again until its question is withdrawn. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<PermissionAnswer, CallError> {
        loop {
            if let Some(answer) = self.seen.pop() {
                return Ok(answer);
            }
            self.seen = read(Self::PATH, self.answers.next().await?)?;
        }
    }
}

/// A subscription to the worker's own approval.
pub struct ApprovalWatch(Subscription);

impl ApprovalWatch {
    const PATH: &str = "workers:getByMachineAndWorker";

    /// The approval, as soon as the record differs from the last one seen; pending if there is no record.
    pub async fn next(&mut self) -> Result<Approval, CallError> {
        let record: Option<Record> = read(Self::PATH, self.0.next().await?)?;
        Ok(record.map_or(Approval::Pending, |record| record.approval))
    }
}
