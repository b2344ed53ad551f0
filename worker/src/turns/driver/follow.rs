//! From a prompt that OpenCode has to the end of its turn: events in, the turn decides, its actions are carried out.

use std::time::Duration;

use backon::Retryable;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::sleep;

use super::{Driver, prompt::Prompted, reread};
use crate::{
    convex::api::{AnswerWatch, Asked, PermissionAnswer},
    env::Env,
    error::CallError,
    opencode::{ApiError, Lease, OpencodeSessionId, PermissionAsked, PermissionReply, ToolCall},
    stream::Reply,
    telemetry::count,
    turns::{
        failure::Failure,
        permissions::{NotAsked, PermissionAction, shown},
        state::{Ending, Turn, TurnAction, TurnEvent},
    },
};

/// How often, and how long apart, it is looked what a tool was given that asks.
const CALL_LOOKS: usize = 20;
const CALL_PAUSE: Duration = Duration::from_millis(100);

/// What a call that runs beside the events leads to.
type Call<'a> = BoxFuture<'a, Result<Option<TurnEvent>, CallError>>;

impl<E: Env> Driver<'_, E> {
    /// Follows the reply until its end, and stores what comes.
    pub(super) async fn follow(&self, prompted: Prompted) -> Result<(Ending, Reply), CallError> {
        let Prompted { lease, session, active, mut events, early, mut turn, started } = prompted;
        let mut early = early.into_iter();
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
            if early.len() == 0 {
                // A turn lives long; its first events need no room any more.
                early = Vec::new().into_iter();
            }
            let event = match early.next() {
                Some(event) => TurnEvent::Opencode(event),
                None => tokio::select! {
                    Some(done) = calls.next() => match done? {
                        Some(event) => event,
                        None => continue,
                    },
                    event = events.recv() => TurnEvent::Opencode(event),
                    answer = next_answer(&mut answers) => match answer {
                        Err(error) if error.concerns_worker() => return Err(error),
                        Err(error) => {
                            tracing::warn!(%error, "the answers to permission questions cannot be seen");
                            TurnEvent::NoAnswers
                        }
                        Ok(answer) => TurnEvent::Decided { id: answer.request, allow: answer.allow },
                    },
                    () = wake, if deadline.is_some() => TurnEvent::Tick,
                    () = self.control.cancel.cancelled(), if !cancelled => {
                        cancelled = true;
                        TurnEvent::Cancel
                    }
                    () = self.control.stop.cancelled(), if !stopped => {
                        stopped = true;
                        TurnEvent::Stop
                    }
                },
            };
            for action in turn.apply(event, started.elapsed()) {
                match action {
                    TurnAction::End(ending) => {
                        // The stream, which is everybody's, must not wait for a write of a turn that is over.
                        drop(events);
                        if turn.is_stuck() {
                            active.abandon()
                        } else {
                            active.finish()
                        }
                        let failure = self.flush(&mut calls, &mut turn).await?;
                        return Ok((failure.map_or(ending, Ending::from), turn.reply));
                    }
                    action => calls.push(self.call(&lease, &session, action)),
                }
            }
        }
    }

    /// Waits until the chunk that is being written is stored, or cannot be.
    async fn flush(
        &self,
        calls: &mut FuturesUnordered<Call<'_>>,
        turn: &mut Turn,
    ) -> Result<Option<Failure>, CallError> {
        while turn.reply.is_writing() {
            match calls.next().await.expect("a write is under way")? {
                Some(TurnEvent::Written(_)) => turn.reply.written(),
                Some(TurnEvent::NotWritten(failure)) => {
                    turn.reply.abandon();
                    return Ok(Some(failure));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Starts what an action asks for. At most one write, one re-read and one abort run at a time, and one answer
    /// to each question that the turn asks.
    fn call<'a>(&'a self, lease: &'a Lease, session: &'a OpencodeSessionId, action: TurnAction) -> Call<'a> {
        Box::pin(async move {
            Ok(match action {
                TurnAction::Write(chunk) => {
                    let backend = &self.shared.backend;
                    Some(match backend.write_chunk(&self.row.turn, chunk.sequence, chunk.text).await {
                        Err(error) if error.concerns_worker() => return Err(error),
                        // One reply that cannot be stored, not a worker that cannot work.
                        Err(error) => TurnEvent::NotWritten(Failure::not_stored(&error)),
                        Ok(written) => TurnEvent::Written(written),
                    })
                }
                TurnAction::Reread { since } => Some(reread::reread(lease.client(), session, &since).await),
                TurnAction::AskStatus => {
                    let statuses = lease.client().statuses().await;
                    let status = statuses.map(|mut all| all.remove(session));
                    Some(TurnEvent::Status(status.map_err(|error| error.to_string())))
                }
                TurnAction::Abort => {
                    report("abort", lease.client().abort(session).await);
                    None
                }
                TurnAction::ListQuestions => {
                    let questions = lease.questions(session).await;
                    Some(TurnEvent::Asking(questions.map_err(|error| error.to_string())))
                }
                TurnAction::Permission(action) => self.permit(lease, action).await?,
                TurnAction::End(_) => None,
            })
        })
    }

    async fn permit(&self, lease: &Lease, action: PermissionAction) -> Result<Option<TurnEvent>, CallError> {
        let (status, backend) = (&self.shared.status, &self.shared.backend);
        match action {
            PermissionAction::Reply { id, reply } => {
                let refused = reply == PermissionReply::Reject;
                count(if refused { &status.permissions_refused } else { &status.permissions_allowed });
                match lease.client().reply_permission(&id, reply).await {
                    // Somebody else was faster, or this is the answer's second copy.
                    Err(error) if error.is_not_found() => {}
                    result => report("answer a permission question", result),
                }
            }
            PermissionAction::Relay(asked) => return self.relay(lease, asked).await,
            PermissionAction::Withdraw { id } => {
                match backend.withdraw_permission(&self.row.turn, &id).await {
                    Err(error) if error.concerns_worker() => return Err(error),
                    Err(error) => tracing::warn!(%error, "a permission question cannot be withdrawn"),
                    Ok(()) => {}
                }
            }
        }
        Ok(None)
    }

    /// Shows a question, the whole of it, to the person who owns the session.
    async fn relay(&self, lease: &Lease, asked: PermissionAsked) -> Result<Option<TurnEvent>, CallError> {
        let not_asked = |why| Ok(Some(TurnEvent::NotRelayed { id: asked.id.clone(), why }));
        let call = match self.tool_call(lease, &asked).await {
            Ok(call) => call,
            Err(why) => return not_asked(why),
        };
        let question = match shown::question(&asked, call.as_ref()) {
            Ok(question) => question,
            Err(error) => {
                tracing::warn!(%error, "a permission question is refused");
                return not_asked(NotAsked::TooLarge);
            }
        };
        let timeout = self.shared.settings.opencode.permission_timeout;
        match self.shared.backend.ask_permission(&self.row.turn, question, timeout).await {
            Ok(Asked::Asked) => Ok(None),
            Ok(Asked::TooLarge) => not_asked(NotAsked::TooLarge),
            Ok(Asked::Ended) => not_asked(NotAsked::Unreachable),
            Err(error) if error.concerns_worker() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "a permission question cannot be shown to anybody");
                not_asked(NotAsked::Unreachable)
            }
        }
    }

    /// The call for which a tool asks, if OpenCode says that it is for one.
    async fn tool_call(&self, lease: &Lease, asked: &PermissionAsked) -> Result<Option<ToolCall>, NotAsked> {
        let (Some(session), Some(tool)) = (&asked.session, &asked.tool) else { return Ok(None) };
        let read = || lease.client().tool_call(session, tool);
        // A tool may ask before OpenCode has stored what it was given.
        for _ in 0..CALL_LOOKS {
            match read.retry(self.backoff()).when(ApiError::is_retryable).await {
                Ok(Some(call)) => return Ok(Some(call)),
                Ok(None) => sleep(CALL_PAUSE).await,
                Err(error) => {
                    tracing::warn!(%error, "a permission question is refused");
                    return Err(NotAsked::Unknown);
                }
            }
        }
        tracing::warn!(
            call = tool.call,
            "a permission question is refused: OpenCode does not tell what is called"
        );
        Err(NotAsked::Unknown)
    }
}

/// The next answer of a person, or never.
async fn next_answer(answers: &mut Option<AnswerWatch>) -> Result<PermissionAnswer, CallError> {
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
