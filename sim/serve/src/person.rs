//! What a person may do: the backend's public functions, called as a signed-in person's browser would.

use std::collections::BTreeMap;

use convex::Value;
use serde::{Deserialize, de::DeserializeOwned};

use fake_convex::{CallError, Convex, Identity, Kind};

/// As whom the calls are observed.
const CALLER: &str = "person";
/// Rows of one page.
const PAGE: f64 = 100.0;

/// Why a person's call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallFailed {
    /// The function failed or refused.
    #[error("`{path}` failed: {source}")]
    Refused {
        /// Which one.
        path: &'static str,
        /// Why.
        source: CallError,
    },
    /// The function answered something else than it should.
    #[error("`{path}` gave an unexpected answer: {source}")]
    Shape {
        /// Which one.
        path: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A turn is not in the newest page of its session.
    #[error("turn {turn} is not among the newest {PAGE} of its session")]
    Lost {
        /// Which one.
        turn: String,
    },
}

/// A worker, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// Its document.
    #[serde(rename = "_id")]
    pub id: String,
    /// Its name on its machine.
    pub worker_id: String,
    /// `pending`, `approved` or `revoked`.
    pub approval: String,
    /// `offline` or `online`.
    pub status: String,
}

/// A session, of which only the title matters here.
#[derive(Deserialize)]
struct Session {
    #[serde(default)]
    title: String,
}

/// A turn, as the person who sent it sees it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Turn {
    /// Its document.
    #[serde(rename = "_id")]
    pub id: String,
    /// `pending`, `claimed`, `completed`, `failed` or `expired`.
    pub state: String,
    /// When it was sent, in milliseconds since the Unix epoch.
    #[serde(rename = "_creationTime")]
    pub sent_at: f64,
    /// When it ended, likewise.
    pub ended_at: Option<f64>,
    /// How many chunks its reply has, once it has ended.
    pub chunks: Option<f64>,
    /// Why it did not complete.
    pub error: Option<TurnError>,
}

/// Why a turn did not complete.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TurnError {
    /// For programs.
    pub code: String,
    /// For the person.
    pub message: String,
}

/// A part of a reply.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Chunk {
    /// The text.
    pub text: String,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The rows.
    pub page: Vec<T>,
    /// Whether it is the last one for now.
    pub is_done: bool,
    /// Where the next one begins.
    pub continue_cursor: String,
}

/// A signed-in person.
#[derive(Debug, Clone)]
pub struct Person {
    convex: Convex,
    identity: Identity,
}

impl Person {
    /// The person that `identity` names.
    #[must_use]
    pub fn new(convex: Convex, identity: Identity) -> Self {
        Self { convex, identity }
    }

    /// Adds a machine and returns its id.
    ///
    /// # Errors
    /// If the function fails; likewise below.
    pub async fn create_machine(&self, name: &str) -> Result<String, CallFailed> {
        self.call(Kind::Mutation, "workers:createMachine", [("name", name.into())]).await
    }

    /// Lets workers register on a machine for as long as that can be said at once: 15 minutes.
    pub async fn open_enrolment(&self, machine: &str) -> Result<(), CallFailed> {
        let args = [("machine", machine.into()), ("minutes", 15.0.into())];
        let opened: BTreeMap<String, f64> = self.call(Kind::Mutation, "workers:openEnrolment", args).await?;
        drop(opened);
        Ok(())
    }

    /// The person's workers.
    pub async fn workers(&self) -> Result<Vec<Worker>, CallFailed> {
        self.call(Kind::Query, "workers:list", []).await
    }

    /// Lets a worker work.
    pub async fn approve(&self, worker: &str) -> Result<(), CallFailed> {
        self.call(Kind::Mutation, "workers:approve", [("worker", worker.into())]).await
    }

    /// Takes a worker's access away.
    pub async fn revoke(&self, worker: &str) -> Result<(), CallFailed> {
        self.call(Kind::Mutation, "workers:revoke", [("worker", worker.into())]).await
    }

    /// Has a worker start OpenCode and publish its models.
    pub async fn request_connect(&self, worker: &str) -> Result<(), CallFailed> {
        self.call(Kind::Mutation, "workers:requestConnect", [("worker", worker.into())]).await
    }

    /// The models that a worker has published.
    pub async fn models(&self, worker: &str) -> Result<Vec<String>, CallFailed> {
        self.call(Kind::Query, "workerModels:list", [("worker", worker.into())]).await
    }

    /// Opens a session with a worker and returns its id.
    pub async fn start_session(&self, worker: &str, title: &str) -> Result<String, CallFailed> {
        let args = [("worker", worker.into()), ("title", title.into())];
        self.call(Kind::Mutation, "chat:startSession", args).await
    }

    /// The titles of the newest sessions, newest first.
    pub async fn titles(&self) -> Result<Vec<String>, CallFailed> {
        let sessions: Page<Session> =
            self.call(Kind::Query, "chat:listSessions", [("paginationOpts", options(None))]).await?;
        Ok(sessions.page.into_iter().map(|session| session.title).collect())
    }

    /// Ends a session; what waits in it fails soon.
    pub async fn end_session(&self, session: &str) -> Result<(), CallFailed> {
        let ended: BTreeMap<String, bool> =
            self.call(Kind::Mutation, "chat:endSession", [("session", session.into())]).await?;
        drop(ended);
        Ok(())
    }

    /// Sends a message and returns the id of its turn.
    pub async fn send(&self, session: &str, text: &str) -> Result<String, CallFailed> {
        let args = [("session", session.into()), ("content", text.into())];
        self.call(Kind::Mutation, "chat:sendMessage", args).await
    }

    /// One of the newest turns of a session.
    pub async fn turn(&self, session: &str, turn: &str) -> Result<Turn, CallFailed> {
        let args = [("session", session.into()), ("paginationOpts", options(None))];
        let turns: Page<Turn> = self.call(Kind::Query, "chat:listTurns", args).await?;
        let found = turns.page.into_iter().find(|candidate| candidate.id == turn);
        found.ok_or_else(|| CallFailed::Lost { turn: turn.to_owned() })
    }

    /// A page of a reply.
    pub async fn chunks(&self, turn: &str, cursor: Option<&str>) -> Result<Page<Chunk>, CallFailed> {
        let args = [("turn", turn.into()), ("paginationOpts", options(cursor))];
        self.call(Kind::Query, "chat:listChunks", args).await
    }

    async fn call<T: DeserializeOwned, const N: usize>(
        &self,
        kind: Kind,
        path: &'static str,
        args: [(&str, Value); N],
    ) -> Result<T, CallFailed> {
        let called = self.convex.call(kind, path, object(args), Some(self.identity.clone()), CALLER).await;
        let value = called.map_err(|source| CallFailed::Refused { path, source })?;
        serde_json::from_value(value.export()).map_err(|source| CallFailed::Shape { path, source })
    }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn options(cursor: Option<&str>) -> Value {
    object([("numItems", PAGE.into()), ("cursor", cursor.map_or(Value::Null, Value::from))])
}
