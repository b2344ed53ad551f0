//! Prompts and the run that answers them: one run per busy session, which goes on while there is something to answer.
//!
//! Prompts that come while it runs are stored at once and answered after the reply in progress, all by one reply to
//! the last of them; every caller then gets that same reply (measured).

use std::rc::Rc;

use serde_json::json;
use tokio::sync::Notify;

pub(super) use prompt::{Ask, PromptError};

use self::step::{ReplyPlan, Step, StepEnd};
use super::{
    observation::{Observation, ReplyOutcome},
    script::Prompt,
    state::{Run, RunEnd, ServerState, Waiter, pause},
    wire::{Info, Message, Model, Session, Summary, UserInfo, UserSummary, unknown_error},
};

mod compaction;
mod prompt;
mod retry;
mod step;
mod tool;

impl ServerState {
    /// Stores a prompt and sees that it is answered. Returns the user message.
    pub(super) fn prompt(
        self: &Rc<Self>,
        session: &str,
        ask: &Ask,
        waiter: Waiter,
    ) -> Result<Message, PromptError> {
        let message = self.store_prompt(session, ask)?;
        if !ask.no_reply {
            let (id, text) = (message.info.id(), message.text());
            self.machine.observe(&Observation::Prompted { session, message: id, text: &text });
            self.join_or_start(session, waiter);
        }
        Ok(message)
    }

    /// Changes a session, sets its time of update and publishes it.
    fn touch(&self, session: &str, change: impl FnOnce(&mut Session)) {
        let now = self.machine.now();
        let updated = self.machine.store.borrow_mut().update(session, |session| {
            change(session);
            session.time.updated = now;
        });
        if let Some(updated) = updated {
            self.emit_session("session.updated", &updated);
        }
    }

    fn join_or_start(self: &Rc<Self>, session: &str, waiter: Waiter) {
        let mut runs = self.runs.borrow_mut();
        if let Some(run) = runs.get_mut(session) {
            run.fresh = true;
            run.waiters.push(waiter);
            return;
        }
        let (abort, status) = (Rc::new(Notify::new()), json!({ "type": "busy" }));
        let run = Run { abort: abort.clone(), waiters: vec![waiter], fresh: false, settling: false, status };
        runs.insert(session.into(), run);
        self.spawn(drive(self.clone(), session.into(), abort));
    }

    /// Asks a run to end. Nothing running is fine too: then the session is reported idle once more.
    pub(super) fn abort(&self, session: &str) {
        self.machine.observe(&Observation::Aborted { session });
        match self.runs.borrow().get(session) {
            Some(run) if !run.settling && self.faults().ignores_abort() => return,
            Some(run) if !run.settling => return run.abort.notify_one(),
            Some(_) => return,
            None => {}
        }
        self.emit_idle(session);
    }

    fn unanswered(&self, session: &str) -> Option<UserInfo> {
        self.machine.store.borrow().unanswered(session)
    }

    /// What the model answers to this message.
    fn plan(&self, user: &UserInfo) -> ReplyPlan {
        let text = self.machine.store.borrow().message(&user.session_id, &user.id).map(Message::text);
        let prompt = Prompt {
            session: &user.session_id,
            message: &user.id,
            text: text.as_deref().unwrap_or_default(),
            model: &user.model,
        };
        ReplyPlan::new(user.clone(), (self.machine.options.script)(&prompt))
    }

    fn knows(&self, model: &Model) -> bool {
        let name = format!("{}/{}", model.provider_id, model.model_id);
        self.machine.options.models.contains(&name)
    }

    /// An unknown model: an error event, idle once, no assistant message at all.
    fn reject(&self, session: &str, user: &UserInfo) {
        let what = format!("Model not found: {}/{}.", user.model.provider_id, user.model.model_id);
        self.emit_error(session, &unknown_error(&what));
        let waiters = self.runs.borrow_mut().remove(session).map(|run| run.waiters);
        self.emit_idle(session);
        let (text, outcome) = ("", ReplyOutcome::UnknownModel);
        self.machine.observe(&Observation::ReplyEnded { session, message: &user.id, text, outcome });
        for waiter in waiters.unwrap_or_default() {
            match waiter {
                Waiter::Caller(caller) => drop(caller.send(None)),
                Waiter::Nobody => {
                    self.emit_late_error(session, &format!("ProviderModelNotFoundError: {what}"))
                }
            }
        }
    }

    /// The second error that a failed `prompt_async` publishes, with a stack trace.
    pub(super) fn emit_late_error(&self, session: &str, what: &str) {
        self.emit_error(
            session,
            &unknown_error(&format!("{what}\n    at SessionPrompt.prompt (definition)")),
        );
    }

    /// Nothing left to answer: idle, once, then what the session has become.
    fn finish_run(self: &Rc<Self>, session: &str, last_user: UserInfo) {
        let waiters = self.runs.borrow_mut().remove(session).map(|run| run.waiters);
        self.emit_idle(session);
        self.answer(session, waiters.unwrap_or_default());
        self.summarise_session(session);
        let (server, session) = (self.clone(), session.to_owned());
        self.spawn(async move {
            pause(server.latencies().summary).await;
            server.summarise_message(&session, last_user);
        });
    }

    /// All callers get the last assistant message, whichever prompt was theirs.
    fn answer(&self, session: &str, waiters: Vec<Waiter>) {
        let last = self.last_reply(session);
        for waiter in waiters {
            if let Waiter::Caller(caller) = waiter {
                // A caller that went away does not end the run, and is not missed.
                let _ = caller.send(last.clone());
            }
        }
    }

    fn last_reply(&self, session: &str) -> RunEnd {
        let store = self.machine.store.borrow();
        let messages = store.messages(session)?;
        messages.iter().rfind(|message| matches!(message.info, Info::Assistant(_))).cloned()
    }

    /// Publishes the session with a summary, and its diff.
    fn summarise_session(&self, session: &str) {
        if self.machine.store.borrow().get(session).is_some() {
            self.touch(session, |session| session.summary = Some(Summary::default()));
            self.emit("session.diff", &json!({ "sessionID": session, "diff": [] }));
        }
    }

    /// Stores and publishes the user message with a summary.
    fn summarise_message(&self, session: &str, user: UserInfo) {
        if self.machine.store.borrow().get(session).is_some() {
            let info = Info::User(UserInfo { summary: Some(UserSummary::default()), ..user });
            self.machine.store.borrow_mut().set_info(session, info.clone());
            self.emit_message(session, &info);
        }
    }
}

/// Answers what there is to answer in one session, then ends.
async fn drive(server: Rc<ServerState>, session: String, abort: Rc<Notify>) {
    let mut plan: Option<ReplyPlan> = None;
    loop {
        server.emit_status(&session, "busy");
        let Some(user) = server.unanswered(&session) else { break };
        if !server.knows(&user.model) {
            return server.reject(&session, &user);
        }
        // What a step sums up is the message that the step before answered (measured on merged prompts).
        let before = plan.as_ref().map_or(&user, ReplyPlan::user).clone();
        let current = match plan.take() {
            Some(plan) if plan.answers(&user) => plan,
            _ => server.plan(&user),
        };
        let mut step = Step::begin(&server, &session, plan.insert(current), before);
        let end = tokio::select! {
            biased;
            () = abort.notified() => StepEnd::Aborted,
            end = step.play() => end,
        };
        match end {
            StepEnd::Replied | StepEnd::CalledTool | StepEnd::TooLong
                if step.plan.reply.compaction.is_some() =>
            {
                step.compact().await;
            }
            StepEnd::Replied | StepEnd::CalledTool | StepEnd::TooLong => {}
            StepEnd::Refused => break,
            StepEnd::Aborted | StepEnd::Failed(_) => {
                settle(&server, &session, step, end).await;
                plan = None;
                if !server.go_on(&session) {
                    return;
                }
            }
        }
    }
    match plan {
        Some(plan) => server.finish_run(&session, plan.into_user()),
        None => server.finish_silently(&session),
    }
}

/// An abort or a model error: error and idle first, then the last part and the end of the message, then idle again.
async fn settle(server: &Rc<ServerState>, session: &str, mut step: Step<'_>, end: StepEnd) {
    if step.is_put_off {
        // Then there is nothing to settle, and no error (measured).
        step.cut_off();
        let waiters = server.begin_settling(session);
        step.ended(ReplyOutcome::Aborted);
        server.emit_idle(session);
        return server.answer(session, waiters);
    }
    server.emit_error(session, &end.error());
    let waiters = server.begin_settling(session);
    server.emit_idle(session);
    pause(server.latencies().settle).await;
    step.fail(end);
    server.emit_idle(session);
    server.answer(session, waiters);
}

impl ServerState {
    fn begin_settling(&self, session: &str) -> Vec<Waiter> {
        let mut runs = self.runs.borrow_mut();
        let run = runs.get_mut(session).expect("a run stays registered until it removes itself");
        (run.settling, run.fresh) = (true, false);
        std::mem::take(&mut run.waiters)
    }

    /// After an abort, the run goes on only for prompts that came since.
    fn go_on(&self, session: &str) -> bool {
        let mut runs = self.runs.borrow_mut();
        let run = runs.get_mut(session).expect("a run stays registered until it removes itself");
        run.settling = false;
        let fresh = run.fresh;
        if !fresh {
            runs.remove(session);
        }
        fresh
    }

    /// The session was deleted before its run began.
    fn finish_silently(&self, session: &str) {
        let waiters = self.runs.borrow_mut().remove(session).map(|run| run.waiters);
        self.emit_idle(session);
        self.answer(session, waiters.unwrap_or_default());
    }
}
