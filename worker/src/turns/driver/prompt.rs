//! From a claimed turn to a prompt that OpenCode has: the server, the session, and that the turn is still ours.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;

use super::{Driver, error::TurnError};
use crate::{
    backoff::exponential,
    env::{Env, moment::Moment},
    opencode::{
        ActivePrompt, ApiError, EventReceiver, Lease, MessageInfo, ModelRef, OpencodeSessionId, SessionEvent,
        prompt_id,
    },
    telemetry::count,
    turns::{failure::Failure, state::Turn},
};

/// First pause before another attempt to create a session; doubles up to [`CREATE_BACKOFF_MAX`], with jitter.
const CREATE_BACKOFF_MIN: Duration = Duration::from_millis(500);
const CREATE_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A turn belongs to this process for sure if the backend was asked so lately. A process that stood still meanwhile may
/// have a successor, which has told the person that the turn expired; one whose machine slept may find it ended by the
/// backend. So the time counts by both clocks.
const CONFIRMED_FOR: Duration = Duration::from_secs(1);
/// Messages among which the model is looked for that answered last.
const RECENT: usize = 16;
/// Events that may come while a prompt is handed over. More are taken for a gap, after which the session is read again.
const MAX_EARLY: usize = 256;

/// A prompt that OpenCode has, perhaps.
pub(super) struct Prompted {
    pub(super) lease: Lease,
    pub(super) session: OpencodeSessionId,
    pub(super) active: ActivePrompt,
    pub(super) events: EventReceiver,
    /// What has come already.
    pub(super) early: Vec<SessionEvent>,
    pub(super) turn: Turn,
    pub(super) started: Instant,
}

impl<E: Env> Driver<'_, E> {
    /// Hands the prompt over, in a session that exists and is the worker's. One that OpenCode does not know any more is
    /// made anew.
    pub(super) async fn prompt(
        &mut self,
        content: &str,
        model: Option<&ModelRef>,
        title: &str,
        session: Option<OpencodeSessionId>,
    ) -> Result<Prompted, TurnError> {
        Box::pin(self.still_ours()).await?;
        let lease = self.unless_ended(self.shared.server.acquire()).await?;
        let lease = lease.map_err(|error| Failure::server_start(&error))?;
        let mut lost = None;
        let mut session = Box::pin(self.ours(&lease, session, &mut lost)).await?;
        let mut may_be_missing = session.is_some();
        let healed = self.heal(&lease, &mut session, &mut lost, model).await;
        let model = model.or(healed.as_ref());
        loop {
            let id = match session.take() {
                Some(id) => id,
                None => self.create(&lease, title, model, lost.as_ref()).await?,
            };
            if !Box::pin(self.unless_ended(lease.wait_until_idle(&id))).await? {
                return Err(Failure::session_busy().into());
            }
            Box::pin(self.still_ours()).await?;
            self.remember(&id);
            let mut events = lease.events(&id);
            let prompt = prompt_id::new(&self.shared.env);
            let started = Instant::now();
            let turn = Turn::new(prompt.clone(), &self.shared.settings, Duration::ZERO);
            let active = lease.begin(&id);
            let sending = lease.client().prompt_async(&id, &prompt, content, model);
            let (sent, early) = drained(sending, &mut events).await;
            match sent {
                Err(error) if error.is_not_found() && may_be_missing => {
                    active.finish();
                    tracing::info!(session = %self.row.session, opencode = %id, "OpenCode lost the session");
                    self.shared.cache().forget(&self.row.session);
                    may_be_missing = false;
                    lost = Some(id);
                }
                // It may have been taken all the same: the events tell. It is never sent a second time.
                Err(error) if !error.may_have_happened() => {
                    active.finish();
                    return Err(Failure::prompt(&error).into());
                }
                _ => return Ok(Prompted { lease, session: id, active, events, early, turn, started }),
            }
        }
    }

    /// Returns the chat's session unless it is of another directory: OpenCode takes a prompt for any session, and works on
    /// it in that one's directory. Asked once for each session that is remembered.
    async fn ours(
        &self,
        lease: &Lease,
        session: Option<OpencodeSessionId>,
        lost: &mut Option<OpencodeSessionId>,
    ) -> Result<Option<OpencodeSessionId>, TurnError> {
        let Some(id) = session else { return Ok(None) };
        if self.shared.cache().get(&self.row.session) == Some(&id) {
            return Ok(Some(id));
        }
        let look = || lease.client().is_elsewhere(&id);
        let look = look.retry(self.backoff()).when(ApiError::is_retryable);
        if !self.unless_ended(look).await?.map_err(|error| Failure::prompt(&error))? {
            return Ok(Some(id));
        }
        tracing::warn!(session = %self.row.session, opencode = %id, "the chat's OpenCode session is of another directory; it gets one of its own");
        *lost = Some(id);
        Ok(None)
    }

    /// A session keeps the model that it was prompted with last, also one that does not exist, and then refuses whatever
    /// names no model (measured). The model that answered last in it is named instead; a session in which none ever
    /// answered is deleted, so that another one takes its place.
    async fn heal(
        &self,
        lease: &Lease,
        session: &mut Option<OpencodeSessionId>,
        lost: &mut Option<OpencodeSessionId>,
        model: Option<&ModelRef>,
    ) -> Option<ModelRef> {
        if model.is_some() || !self.shared.cache().is_spoiled(&self.row.session) {
            return None;
        }
        let (id, client) = (session.as_ref()?, lease.client());
        let look = client.messages_before(id, RECENT, None).await;
        let page = look.inspect_err(|error| tracing::warn!(%error, "no model is known to answer")).ok()?;
        let has_answered = |info: &MessageInfo| info.completed.is_some() && info.error.is_none();
        let mut answers = page.messages.into_iter().rev().filter(|message| has_answered(&message.info));
        let answered = answers.find_map(|message| message.info.model).map(|model| *model);
        if answered.is_none() && page.older.is_none() {
            match client.delete_session(id).await {
                Err(error) if !error.is_not_found() => {
                    tracing::warn!(%error, "the session keeps a model that does not exist");
                }
                _ => *lost = session.take(),
            }
        }
        answered
    }

    /// Makes an OpenCode session, through the throttle, and links it, in place of the one that was `lost`.
    async fn create(
        &mut self,
        lease: &Lease,
        title: &str,
        model: Option<&ModelRef>,
        lost: Option<&OpencodeSessionId>,
    ) -> Result<OpencodeSessionId, TurnError> {
        let creation = self.shared.sync.creating();
        let attempt = || async {
            let _permit = self.shared.gate.enter().await;
            lease.client().create_session(title, model).await
        };
        let created = attempt.retry(self.backoff()).when(ApiError::is_retryable);
        let session = self.unless_ended(created).await?.map_err(|error| Failure::create(&error))?;
        count(&self.shared.status.sessions_created);
        self.confirmed_at = Moment::now(&self.shared.env);
        self.shared.backend.session_ready(&self.row.session, session.id.as_str()).await?;
        creation.linked(&session.id, title, lost);
        Ok(session.id)
    }

    /// The pauses between attempts at what a turn cannot do without, and how many there are.
    pub(super) fn backoff(&self) -> ExponentialBuilder {
        let attempts = self.shared.settings.sessions.create_attempts.max(1);
        exponential(&self.shared.env, CREATE_BACKOFF_MIN, CREATE_BACKOFF_MAX).with_max_times(attempts - 1)
    }

    /// Makes sure that the turn is still in progress, and this process's, before something is asked of OpenCode on its
    /// behalf.
    async fn still_ours(&mut self) -> Result<(), TurnError> {
        if self.confirmed_at.age(&self.shared.env) <= CONFIRMED_FOR {
            return Ok(());
        }
        let asked = Moment::now(&self.shared.env);
        let is_in_progress = self.shared.backend.is_in_progress(&self.row.turn).await?;
        self.confirmed_at = asked;
        if is_in_progress { Ok(()) } else { Err(Failure::gone().into()) }
    }

    fn remember(&self, id: &OpencodeSessionId) {
        let mut cache = self.shared.cache();
        cache.insert(self.row.session.clone(), id.clone());
        self.shared.status.set_sessions_cached(cache.len());
    }

    /// Waits for `work` unless the turn is to end before.
    async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.control.cancel.cancelled() => Err(Failure::cancelled()),
            () = self.control.stop.cancelled() => Err(Failure::stopping()),
            result = work => Ok(result),
        }
    }
}

/// Waits for `work`, and meanwhile takes what the session's events say: the stream, which is everybody's, must not wait.
async fn drained<T>(work: impl Future<Output = T>, events: &mut EventReceiver) -> (T, Vec<SessionEvent>) {
    let mut early = Vec::new();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            result = &mut work => return (result, early),
            event = events.recv(), if !matches!(early.last(), Some(SessionEvent::ServerLost { .. })) => {
                if early.len() == MAX_EARLY {
                    early = vec![SessionEvent::Gap];
                }
                early.push(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::opencode::{
        Event, EventKind,
        registry::{RECEIVER_QUEUE, Registry},
    };

    #[tokio::test(start_paused = true)]
    async fn a_prompt_that_takes_long_holds_up_nobodys_events() {
        let (registry, session) = (Arc::new(Registry::default()), OpencodeSessionId::new("ses_1").unwrap());
        let mut events = registry.subscribe(&session);
        let stream = async {
            for _ in 0..3 * RECEIVER_QUEUE {
                let event = Event { session: Some(session.clone()), kind: EventKind::Heartbeat };
                registry.deliver(event).await;
            }
            Instant::now()
        };
        let sending = tokio::time::sleep(Duration::from_secs(30));
        let begun = Instant::now();
        let (((), early), delivered) = tokio::join!(drained(sending, &mut events), stream);
        assert_eq!(delivered, begun, "the stream waited for the prompt");
        assert!(early.len() <= MAX_EARLY + 1 && early[0] == SessionEvent::Gap, "{} events", early.len());
    }
}
