//! Runs one turn: claim, then server, session and prompt (`prompt`), the reply (`follow`), and the end.

mod error;
mod follow;
mod prompt;
mod reread;

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use self::error::TurnError;
use super::{failure::Failure, state::Ending};
use crate::{
    config::Settings,
    convex::{Backend, Claim, ReadySession, api::Written},
    env::{Env, moment::Moment},
    error::CallError,
    opencode::{ModelRef, OpencodeSessionId, Server},
    session::{cache::SessionCache, creator::Gate},
    stream::{Chunk, Reply},
    sync::SyncHandle,
    telemetry::{Status, count},
};

/// What all turns of one worker share.
pub(crate) struct TurnContext<E> {
    /// The world.
    pub env: E,
    /// The settings.
    pub settings: Settings,
    /// The backend, as this incarnation.
    pub backend: Backend,
    /// The OpenCode server, started on the first need.
    pub server: Server,
    /// Through which every session creation passes.
    pub gate: Gate,
    /// Which OpenCode sessions are known. Never held across an await.
    pub cache: Mutex<SessionCache>,
    /// To be told which sessions are ours.
    pub sync: SyncHandle,
    /// What the outside sees.
    pub status: Arc<Status>,
}

impl<E> TurnContext<E> {
    /// The cache.
    pub(crate) fn cache(&self) -> MutexGuard<'_, SessionCache> {
        // Nothing here panics half-way through a change.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty cache of the configured size, at least one session for each turn that may run.
    pub(crate) fn new_cache(settings: &Settings) -> Mutex<SessionCache> {
        let capacity = settings.sessions.cache_capacity.max(settings.turns.max_concurrent);
        Mutex::new(SessionCache::new(NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN)))
    }
}

/// How a turn is asked to end early.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    /// A person ended the session.
    pub cancel: CancellationToken,
    /// The worker stops, and the grace period is over.
    pub stop: CancellationToken,
}

/// Runs the session's head turn to its end. `Err`: a call failed in a way that concerns the whole worker.
pub(crate) async fn run<E: Env>(
    shared: &TurnContext<E>,
    row: &ReadySession,
    control: &Control,
) -> Result<(), CallError> {
    let confirmed_at = Moment::now(&shared.env);
    let claim = shared.backend.claim(&row.turn).await?;
    let Claim::Claimed { content, model, title, opencode_session_id } = claim else {
        tracing::debug!(turn = %row.turn, ?claim, "not claimed");
        return Ok(());
    };
    count(&shared.status.turns_claimed);
    let linked = opencode_session_id.and_then(|id| OpencodeSessionId::new(&id).ok());
    if let Some(id) = &linked {
        shared.sync.linked(id, title.as_deref().unwrap_or_default());
    }
    let known = shared.cache().get(&row.session).cloned();
    let driver = Driver { shared, row, control, confirmed_at, reply: Reply::new(&shared.settings.turns) };
    match Box::pin(driver.drive(content, model, title.unwrap_or_default(), known.or(linked))).await {
        // One reply that cannot be stored, not a worker that cannot work: the turn must end all the same.
        Err(error) if !error.concerns_worker() => {
            let failure = Failure::not_stored(&error);
            shared.backend.fail(&row.turn, failure.code, &failure.message).await.map(drop)
        }
        result => result,
    }
}

struct Driver<'a, E> {
    shared: &'a TurnContext<E>,
    row: &'a ReadySession,
    control: &'a Control,
    /// When the backend last confirmed that this process still owns the turn; taken before it was asked.
    confirmed_at: Moment,
    /// What is not stored yet when the turn ends before its reply has begun.
    reply: Reply,
}

impl<E: Env> Driver<'_, E> {
    async fn drive(
        mut self,
        content: String,
        model: Option<String>,
        title: String,
        session: Option<OpencodeSessionId>,
    ) -> Result<(), CallError> {
        let model = match model.as_deref().map(str::parse::<ModelRef>).transpose() {
            Ok(model) => model,
            Err(error) => return self.end(Failure::model_name(&error).into()).await,
        };
        // Each phase's room is given back when it is over: a turn spends most of its life following its reply.
        match Box::pin(self.prompt(&content, model.as_ref(), &title, session)).await {
            Ok(prompted) => {
                drop(content);
                let (ending, reply) = Box::pin(self.follow(prompted)).await?;
                self.reply = reply;
                self.end(ending).await
            }
            Err(TurnError::Failed(failure)) => self.end(failure.into()).await,
            Err(TurnError::Call(error)) => Err(error),
        }
    }

    /// Stores what is left and ends the turn.
    async fn end(&mut self, ending: Ending) -> Result<(), CallError> {
        let (backend, turn) = (&self.shared.backend, &self.row.turn);
        match ending {
            Ending::Gone => {}
            Ending::Completed => {
                count(&self.shared.status.turns_completed);
                let last = self.store_all_but_last().await?;
                backend.complete(turn, last.sequence, last.text).await?;
            }
            Ending::Failed(failure) => {
                count(&self.shared.status.turns_failed);
                if failure.spoils_session() {
                    self.shared.cache().spoil(&self.row.session);
                }
                tracing::info!(%turn, code = failure.code, message = %failure.message, "turn failed");
                let last = self.store_all_but_last().await?;
                if !last.text.is_empty() {
                    backend.write_chunk(turn, last.sequence, last.text).await?;
                }
                backend.fail(turn, failure.code, &failure.message).await?;
            }
        }
        Ok(())
    }

    async fn store_all_but_last(&mut self) -> Result<Chunk, CallError> {
        loop {
            let (chunk, is_last) = self.reply.finish(Duration::ZERO);
            if is_last {
                return Ok(chunk);
            }
            let written = self.shared.backend.write_chunk(&self.row.turn, chunk.sequence, chunk.text).await?;
            self.reply.written();
            if written == Written::Ended {
                tracing::debug!(turn = %self.row.turn, "ended by somebody else");
            }
        }
    }
}
