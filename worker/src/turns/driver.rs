//! Runs one turn: claim, server, session, prompt, reply, end.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backon::Retryable;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    failure::{Failure, Reason},
    permissions,
    state::{Action, Ending, Event, Turn},
};
use crate::{
    backoff::exponential,
    config::Settings,
    convex::{
        Backend, Claim, ReadySession,
        api::{AnswerWatch, Written},
    },
    env::Env,
    error::CallError,
    opencode::{
        ApiError, EventReceiver, Lease, ModelRef, OpencodeSessionId, PermissionAsked, PermissionReply,
        Server, prompt_id,
    },
    session::{cache::SessionCache, creator::Gate},
    stream::Reply,
    sync::Sync,
    telemetry::{Status, count},
};

/// Messages that a re-read asks for: the prompt and its answers, one per step.
const REREAD: usize = 64;
/// First pause before another attempt to create a session; doubles up to [`CREATE_BACKOFF_MAX`], with jitter.
const CREATE_BACKOFF_MIN: Duration = Duration::from_millis(500);
const CREATE_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What all turns of one worker share.
pub struct Shared<E> {
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
    pub sync: Sync,
    /// What the outside sees.
    pub status: Arc<Status>,
}

impl<E> Shared<E> {
    /// The cache.
    pub fn cache(&self) -> MutexGuard<'_, SessionCache> {
        // Nothing here panics half-way through a change.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty cache of the configured size, at least one session for each turn that may run.
    pub fn new_cache(settings: &Settings) -> Mutex<SessionCache> {
        let capacity = settings.sessions.cache_capacity.max(settings.turns.max_concurrent);
        Mutex::new(SessionCache::new(NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN)))
    }
}

/// A turn belongs to this process for sure if the backend was asked so lately. A process that stood still meanwhile may
/// have a successor, which has told the person that the turn expired.
const SURE: Duration = Duration::from_secs(1);

/// How a turn is asked to end early.
#[derive(Debug, Clone)]
pub struct Control {
    /// A person ended the session.
    pub cancel: CancellationToken,
    /// The worker stops, and the grace period is over.
    pub stop: CancellationToken,
}

/// Runs the session's head turn to its end. `Err`: a call failed in a way that concerns the whole worker.
pub async fn run<E: Env>(shared: &Shared<E>, row: &ReadySession, control: &Control) -> Result<(), CallError> {
    let sure = Instant::now();
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
    let driver = Driver { shared, row, control, sure, reply: Reply::new(&shared.settings.turns) };
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
    shared: &'a Shared<E>,
    row: &'a ReadySession,
    control: &'a Control,
    /// When the backend was last asked something that only the present process is answered.
    sure: Instant,
    /// What is not stored yet when the turn ends before its reply has begun.
    reply: Reply,
}

/// A prompt that OpenCode has, perhaps.
struct Prompted {
    lease: Lease,
    session: OpencodeSessionId,
    events: EventReceiver,
    turn: Turn,
    started: Instant,
}

/// What a call that runs beside the events leads to.
type Call<'a> = BoxFuture<'a, Result<Option<Event>, CallError>>;

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
        match Box::pin(self.prompt(&content, model.as_ref(), &title, session)).await? {
            Ok(prompted) => {
                drop(content);
                let (ending, reply) = Box::pin(self.follow(prompted)).await?;
                self.reply = reply;
                self.end(ending).await
            }
            Err(failure) => self.end(failure.into()).await,
        }
    }

    /// Hands the prompt over, in a session that exists. A session that OpenCode does not know any more is made anew.
    async fn prompt(
        &mut self,
        content: &str,
        model: Option<&ModelRef>,
        title: &str,
        session: Option<OpencodeSessionId>,
    ) -> Result<Result<Prompted, Failure>, CallError> {
        if !Box::pin(self.is_sure()).await? {
            return Ok(Err(self.gone()));
        }
        let lease = match self.unless_ended(self.shared.server.acquire()).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(error)) => return Ok(Err(Failure::server_start(&error))),
            Err(failure) => return Ok(Err(failure)),
        };
        let mut may_be_missing = session.is_some();
        let mut session = session;
        let mut lost = None;
        loop {
            let id = match session.take() {
                Some(id) => id,
                None => match self.create(&lease, title, model, lost.as_ref()).await? {
                    Ok(id) => id,
                    Err(failure) => return Ok(Err(failure)),
                },
            };
            if !Box::pin(self.is_sure()).await? {
                return Ok(Err(self.gone()));
            }
            self.remember(&id);
            let events = lease.events(&id);
            let prompt = prompt_id::new(&self.shared.env);
            let started = Instant::now();
            let turn = Turn::new(prompt.clone(), &self.shared.settings, Duration::ZERO);
            match lease.client().prompt_async(&id, &prompt, content, model).await {
                Err(error) if error.is_not_found() && may_be_missing => {
                    tracing::info!(session = %self.row.session, opencode = %id, "OpenCode lost the session");
                    self.shared.cache().forget(&self.row.session);
                    may_be_missing = false;
                    lost = Some(id);
                }
                // It may have been taken all the same: the events tell. It is never sent a second time.
                Err(error) if !error.may_have_happened() => return Ok(Err(Failure::prompt(&error))),
                _ => return Ok(Ok(Prompted { lease, session: id, events, turn, started })),
            }
        }
    }

    /// Makes an OpenCode session, through the throttle, and links it, in place of the one that was `lost`.
    async fn create(
        &mut self,
        lease: &Lease,
        title: &str,
        model: Option<&ModelRef>,
        lost: Option<&OpencodeSessionId>,
    ) -> Result<Result<OpencodeSessionId, Failure>, CallError> {
        let attempts = self.shared.settings.sessions.create_attempts.max(1);
        let backoff = exponential(&self.shared.env, CREATE_BACKOFF_MIN, CREATE_BACKOFF_MAX)
            .with_max_times(attempts - 1);
        let creation = self.shared.sync.creating();
        let attempt = || async {
            let _permit = self.shared.gate.enter().await;
            lease.client().create_session(title, model).await
        };
        let created = attempt.retry(backoff).when(ApiError::is_retryable);
        match self.unless_ended(created).await {
            Ok(Ok(session)) => {
                count(&self.shared.status.sessions_created);
                self.sure = Instant::now();
                self.shared.backend.session_ready(&self.row.session, session.id.as_str()).await?;
                creation.linked(&session.id, title, lost);
                Ok(Ok(session.id))
            }
            Ok(Err(error)) => Ok(Err(Failure::create(&error))),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// Before something is asked of OpenCode on behalf of the turn: whether it is still in progress, and this process's.
    async fn is_sure(&mut self) -> Result<bool, CallError> {
        if self.sure.elapsed() <= SURE {
            return Ok(true);
        }
        let asked = Instant::now();
        let is_in_progress = self.shared.backend.is_in_progress(&self.row.turn).await?;
        self.sure = asked;
        Ok(is_in_progress)
    }

    fn gone(&self) -> Failure {
        Failure::of(Reason::Gone, self.shared.settings.turns.idle_timeout)
    }

    fn remember(&self, id: &OpencodeSessionId) {
        let mut cache = self.shared.cache();
        cache.insert(self.row.session.clone(), id.clone());
        self.shared.status.set_sessions_cached(cache.len());
    }

    /// Waits for `work` unless the turn is to end before.
    async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let idle_timeout = self.shared.settings.turns.idle_timeout;
        tokio::select! {
            biased;
            () = self.control.cancel.cancelled() => Err(Failure::of(Reason::Cancelled, idle_timeout)),
            () = self.control.stop.cancelled() => Err(Failure::of(Reason::Stopping, idle_timeout)),
            result = work => Ok(result),
        }
    }

    /// Follows the reply until its end, and stores what comes.
    async fn follow(&self, prompted: Prompted) -> Result<(Ending, Reply), CallError> {
        let Prompted { lease, session, mut events, mut turn, started } = prompted;
        let mut calls: FuturesUnordered<Call<'_>> = FuturesUnordered::new();
        let (mut cancelled, mut stopped) = (false, false);
        // Open only while a person is being asked.
        let mut answers: Option<AnswerWatch> = None;
        loop {
            if !turn.waits_for_a_person() {
                answers = None;
            } else if answers.is_none() {
                answers = Some(self.shared.backend.watch_answers(&self.row.turn));
            }
            let deadline = turn.deadline();
            let wake = tokio::time::sleep_until(started + deadline.unwrap_or_default());
            let event = tokio::select! {
                Some(done) = calls.next() => match done? {
                    Some(event) => event,
                    None => continue,
                },
                event = events.recv() => Event::Opencode(event),
                answer = next_answer(&mut answers) => match answer {
                    Err(error) if error.concerns_worker() => return Err(error),
                    Err(error) => {
                        tracing::warn!(%error, "the answers to permission questions cannot be seen");
                        Event::NoAnswers
                    }
                    Ok(answer) => Event::Decided { id: answer.request, allow: answer.allow },
                },
                () = wake, if deadline.is_some() => Event::Tick,
                () = self.control.cancel.cancelled(), if !cancelled => {
                    cancelled = true;
                    Event::Cancel
                }
                () = self.control.stop.cancelled(), if !stopped => {
                    stopped = true;
                    Event::Stop
                }
            };
            for action in turn.apply(event, started.elapsed()) {
                match action {
                    Action::End(ending) => {
                        // The stream, which is everybody's, must not wait for a write of a turn that is over.
                        drop(events);
                        self.settle(&mut calls, &mut turn).await?;
                        return Ok((ending, turn.reply));
                    }
                    action => calls.push(self.call(&lease, &session, action)),
                }
            }
        }
    }

    /// Waits until the chunk that is being written is stored.
    async fn settle(&self, calls: &mut FuturesUnordered<Call<'_>>, turn: &mut Turn) -> Result<(), CallError> {
        while turn.reply.is_writing() {
            if let Some(Event::Written(_)) = calls.next().await.expect("a write is under way")? {
                turn.reply.written();
            }
        }
        Ok(())
    }

    /// Starts what an action asks for. At most one write, one re-read and one abort run at a time, and one answer
    /// to each question that the turn asks.
    fn call<'a>(&'a self, lease: &'a Lease, session: &'a OpencodeSessionId, action: Action) -> Call<'a> {
        Box::pin(async move {
            Ok(match action {
                Action::Write(chunk) => {
                    let backend = &self.shared.backend;
                    let written = backend.write_chunk(&self.row.turn, chunk.sequence, chunk.text).await?;
                    Some(Event::Written(written))
                }
                Action::Reread => {
                    let messages = lease.client().messages(session, REREAD).await;
                    Some(match messages {
                        // No event told of it: a gap, or another OpenCode process on the same disk.
                        Err(error) if error.is_not_found() => Event::Deleted,
                        messages => Event::Reread(messages.map_err(|error| error.to_string())),
                    })
                }
                Action::Abort => {
                    report("abort", lease.client().abort(session).await);
                    None
                }
                Action::ListQuestions => {
                    let questions = lease.questions(session).await;
                    Some(Event::Asking(questions.map_err(|error| error.to_string())))
                }
                Action::Permission(action) => self.permit(lease, action).await?,
                Action::End(_) => None,
            })
        })
    }

    async fn permit(&self, lease: &Lease, action: permissions::Action) -> Result<Option<Event>, CallError> {
        let (status, backend) = (&self.shared.status, &self.shared.backend);
        match action {
            permissions::Action::Reply { id, reply } => {
                let refused = reply == PermissionReply::Reject;
                count(if refused { &status.permissions_refused } else { &status.permissions_allowed });
                match lease.client().reply_permission(&id, reply).await {
                    // Somebody else was faster, or this is the answer's second copy.
                    Err(error) if error.is_not_found() => {}
                    result => report("answer a permission question", result),
                }
            }
            permissions::Action::Relay(asked) => return self.relay(asked).await,
            permissions::Action::Withdraw { id } => {
                match backend.withdraw_permission(&self.row.turn, &id).await {
                    Err(error) if error.concerns_worker() => return Err(error),
                    Err(error) => tracing::warn!(%error, "a permission question cannot be withdrawn"),
                    Ok(()) => {}
                }
            }
        }
        Ok(None)
    }

    /// Shows a question to the person who owns the session.
    async fn relay(&self, asked: PermissionAsked) -> Result<Option<Event>, CallError> {
        let timeout = self.shared.settings.opencode.permission_timeout;
        match self.shared.backend.ask_permission(&self.row.turn, &asked, timeout).await {
            Ok(Written::Written) => Ok(None),
            Ok(Written::Ended) => Ok(Some(Event::NotRelayed { id: asked.id })),
            Err(error) if error.concerns_worker() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "a permission question cannot be shown to anybody");
                Ok(Some(Event::NotRelayed { id: asked.id }))
            }
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

    async fn store_all_but_last(&mut self) -> Result<crate::stream::Chunk, CallError> {
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

/// The next answer of a person, or never.
async fn next_answer(answers: &mut Option<AnswerWatch>) -> Result<crate::convex::api::Answer, CallError> {
    match answers {
        Some(answers) => answers.next().await,
        None => std::future::pending().await,
    }
}

fn report(what: &str, result: Result<(), ApiError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "cannot {what}");
    }
}
