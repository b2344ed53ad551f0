//! One step of a reply: one assistant message, from its creation to its end.
//!
//! A step may be dropped at any await (abort, crash). What is on disk then is what the real server leaves: a text
//! part without text, a tool part that runs for ever. [`Step::fail`] is what an abort adds.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::{
    events::Delta,
    observation::{Observation, ReplyOutcome},
    script::{Compaction, Content, Outcome, Reply},
    sessions::{self, DEFAULT_TITLE},
    state::{ServerState, pause},
    wire::{AssistantInfo, Info, Message, Part, PartBody, Paths, SNAPSHOT, Session, Span, Tokens, UserInfo},
};

/// The reply to one user message, and how far it has come.
pub(super) struct ReplyPlan {
    /// What is being answered: the prompt, or what the server put there after a summary.
    pub(super) user: UserInfo,
    /// The prompt's id.
    prompt: String,
    pub(super) reply: Reply,
    pub(super) tools_done: usize,
    /// The text of all steps so far.
    text: String,
}

impl ReplyPlan {
    pub(super) fn new(user: UserInfo, reply: Reply) -> Self {
        Self { prompt: user.id.clone(), user, reply, tools_done: 0, text: String::new() }
    }

    pub(super) fn answers(&self, user: &UserInfo) -> bool {
        self.user.id == user.id
    }

    pub(super) fn user(&self) -> &UserInfo {
        &self.user
    }

    pub(super) fn into_user(self) -> UserInfo {
        self.user
    }

    /// Distinguishes this reply from all others.
    pub(super) fn tag(&self) -> &str {
        let id = &self.user.id;
        id.get(id.len().saturating_sub(8)..).unwrap_or(id)
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum StepEnd {
    /// The model stopped: the reply is complete.
    Replied,
    /// The model called a tool, and will go on with its output.
    CalledTool,
    /// Somebody refused the tool; the turn is over.
    Refused,
    /// The model refused the prompt: it is too long.
    TooLong,
    /// The model answered with this HTTP status.
    Failed(u16),
    /// A client aborted the session.
    Aborted,
}

impl StepEnd {
    /// What `session.error` and the message say.
    pub(super) fn error(self) -> Value {
        match self {
            Self::Failed(status) => json!({ "name": "APIError", "data": {
                "message": "scripted failure",
                "statusCode": status,
                "isRetryable": false,
                "responseHeaders": {
                    "content-length": "43", "content-type": "application/json",
                    "date": "Thu, 01 Jan 1970 00:00:00 GMT", "server": "scripted",
                },
                "responseBody": "{\"error\": {\"message\": \"scripted failure\"}}",
                "metadata": { "url": "http://127.0.0.1:1/v1/chat/completions" },
            } }),
            _ => json!({ "name": "MessageAbortedError", "data": { "message": "Aborted" } }),
        }
    }
}

/// An assistant message that is being written.
pub(super) struct Step<'a> {
    pub(super) server: &'a Rc<ServerState>,
    pub(super) session: &'a str,
    pub(super) plan: &'a mut ReplyPlan,
    pub(super) info: Box<AssistantInfo>,
    /// The part in progress, with all that it holds by now; the disk has it as it began.
    pub(super) open: Option<Part>,
    /// Whether the model is to be asked again.
    pub(super) is_put_off: bool,
}

impl<'a> Step<'a> {
    /// Adds the message and publishes what comes before the model is asked; `before` is the message to sum up.
    pub(super) fn begin(
        server: &'a Rc<ServerState>,
        session: &'a str,
        plan: &'a mut ReplyPlan,
        before: UserInfo,
    ) -> Self {
        let now = server.machine.now();
        let info = assistant(server, session, &plan.user, now);
        server.machine.store.borrow_mut().push_message(session, Info::Assistant(info.clone()));
        server.emit_message(session, &Info::Assistant(info.clone()));
        server.title(session);
        server.summarise_session(session);
        server.summarise_message(session, before);
        Self { server, session, plan, info, open: None, is_put_off: false }
    }

    /// Writes the message to its end.
    pub(super) async fn play(&mut self) -> StepEnd {
        self.server.warm_up().await;
        self.server.emit_status(self.session, "busy");
        pause(self.plan.reply.first_token_after).await;
        self.server.while_it_hangs().await;
        self.wait_while_put_off().await;
        if self.plan.reply.compaction == Some(Compaction::Refused) {
            return StepEnd::TooLong;
        }
        let call = self.plan.reply.tools.get(self.plan.tools_done).cloned();
        if let (None, Outcome::ModelError(status)) = (&call, self.plan.reply.outcome) {
            return StepEnd::Failed(status);
        }
        self.add(PartBody::StepStart { snapshot: SNAPSHOT });
        match call {
            Some(call) => self.call_tool(&call).await,
            None => self.write().await,
        }
    }

    async fn write(&mut self) -> StepEnd {
        let reasoning = self.plan.reply.reasoning_deltas;
        if reasoning > 0 {
            let time = self.span();
            let content = Content::Generated { deltas: reasoning, delta_bytes: 16 };
            self.stream(PartBody::Reasoning { text: String::new(), time }, &content).await;
            self.close_part();
        }
        let content = self.plan.reply.content.clone();
        if content.deltas() > 0 {
            let body = PartBody::of_text(String::new(), Some(self.span()));
            if !self.plan.text.is_empty() {
                self.plan.text.push_str("\n\n");
            }
            self.stream(body, &content).await;
        }
        if self.plan.reply.outcome == Outcome::Hangs {
            std::future::pending::<()>().await;
        }
        self.close_part();
        let output = content.deltas() + reasoning;
        self.finish("stop", Tokens { total: Some(11 + output), input: 11, output, ..Tokens::default() });
        if self.plan.reply.compaction.is_none() {
            self.ended(ReplyOutcome::Completed);
        }
        StepEnd::Replied
    }

    fn span(&self) -> Span {
        Span { start: self.server.machine.now(), end: None }
    }

    /// Publishes an empty part and then its deltas. The part stays open.
    async fn stream(&mut self, body: PartBody, content: &Content) {
        let is_text = matches!(body, PartBody::Text { .. });
        let tag = self.plan.tag().to_owned();
        let id = self.open(body);
        for index in 0..content.deltas() {
            self.server.while_it_hangs().await;
            let delta = content.delta(&tag, index);
            self.say(&id, &delta);
            if is_text {
                self.plan.text.push_str(&delta);
                let (message, bytes) = (self.plan.prompt.as_str(), delta.len());
                self.server.machine.observe(&Observation::Said { session: self.session, message, bytes });
            }
            pause(self.plan.reply.pace).await;
        }
    }

    /// Appends to the open part and publishes it.
    pub(super) fn say(&mut self, part: &str, delta: &str) {
        let (session, message) = (self.session, self.info.id.as_str());
        let event = Delta { session, message, part, field: "text", delta };
        self.server.emit("message.part.delta", &event);
        if let Some(part) = &mut self.open {
            part.body.push_str(delta);
        }
    }

    /// Stores and publishes a part that stays open. Returns its id.
    pub(super) fn open(&mut self, body: PartBody) -> String {
        let part = self.add(body);
        let id = part.id.clone();
        self.open = Some(part);
        id
    }

    /// Ends the open part: only now does the disk get its text.
    pub(super) fn close_part(&mut self) {
        let Some(mut part) = self.open.take() else { return };
        part.body.end(self.server.machine.now());
        self.store(part);
    }

    pub(super) fn add(&mut self, body: PartBody) -> Part {
        let now = self.server.machine.now();
        let part = self.server.machine.store.borrow_mut().part(self.session, &self.info.id, body, now);
        self.store(part.clone());
        part
    }

    pub(super) fn store(&self, part: Part) {
        if self.is_deleted() {
            return;
        }
        self.server.emit_part(&part);
        self.server.machine.store.borrow_mut().set_part(part);
    }

    /// The end of a step comes as two updates: with `finish`, then with `time.completed`.
    pub(super) fn finish(&mut self, reason: &'static str, tokens: Tokens) {
        self.add(PartBody::StepFinish { reason, snapshot: SNAPSHOT, tokens, cost: 0 });
        (self.info.finish, self.info.tokens) = (Some(reason), tokens);
        self.server.machine.store.borrow_mut().update(self.session, |session| session.tokens.add(tokens));
        self.publish();
        self.info.time.completed = Some(self.server.machine.now());
        self.publish();
    }

    fn publish(&self) {
        if self.is_deleted() {
            return;
        }
        let info = Info::Assistant(self.info.clone());
        self.server.machine.store.borrow_mut().set_info(self.session, info.clone());
        self.server.emit_message(self.session, &info);
    }

    /// Ends the message without a word about why.
    pub(super) fn cut_off(&mut self) {
        self.info.time.completed = Some(self.server.machine.now());
        self.publish();
    }

    /// Ends the message after an abort or a model error: what was written is kept.
    pub(super) fn fail(mut self, end: StepEnd) {
        self.fail_tool("Tool execution aborted");
        self.close_part();
        self.info.time.completed = Some(self.server.machine.now());
        self.info.error = Some(end.error());
        self.publish();
        self.ended(match end {
            StepEnd::Failed(status) => ReplyOutcome::ModelError(status),
            _ => ReplyOutcome::Aborted,
        });
    }

    fn is_deleted(&self) -> bool {
        self.server.machine.store.borrow().get(self.session).is_none()
    }

    pub(super) fn ended(&self, outcome: ReplyOutcome) {
        let outcome = if self.is_deleted() { ReplyOutcome::SessionDeleted } else { outcome };
        let (session, message, text) = (self.session, self.plan.prompt.as_str(), self.plan.text.as_str());
        self.server.machine.observe(&Observation::ReplyEnded { session, message, text, outcome });
    }
}

pub(super) fn assistant(
    server: &ServerState,
    session: &str,
    user: &UserInfo,
    now: u64,
) -> Box<AssistantInfo> {
    let mut store = server.machine.store.borrow_mut();
    let directory = store.directory().to_owned();
    Box::new(AssistantInfo {
        id: store.ids.ascending("msg", now),
        session_id: session.into(),
        role: "assistant",
        time: sessions::created(now),
        parent_id: user.id.clone(),
        model: user.model.clone(),
        mode: user.agent.clone(),
        agent: user.agent.clone(),
        path: Paths { cwd: directory.clone(), root: directory },
        cost: 0,
        tokens: Tokens::default(),
        finish: None,
        error: None,
        summary: None,
    })
}

impl ServerState {
    /// A session with the default title gets one at its first prompt. Its time of update stays as it is.
    fn title(&self, session: &str) {
        let titled = {
            let mut store = self.machine.store.borrow_mut();
            let Some(title) = title_for(store.get(session), store.messages(session)) else { return };
            store.update(session, |session| session.title = title)
        };
        if let Some(titled) = titled {
            self.machine.observe_session(&titled);
            self.emit_session("session.updated", &titled);
        }
    }

    /// The first prompt of a process loads plugins and catalogues.
    async fn warm_up(&self) {
        if self.warm.replace(true) {
            return;
        }
        pause(self.latencies().warm_up).await;
        self.emit("plugin.added", &json!({ "id": "openai-compatible" }));
        for kind in ["catalog.updated", "reference.updated", "integration.updated"] {
            self.emit(kind, &json!({}));
        }
    }
}

fn title_for(session: Option<&Session>, messages: Option<&[Message]>) -> Option<String> {
    let (session, messages) = (session?, messages?);
    let mut prompts = messages.iter().filter(|message| matches!(message.info, Info::User(_)));
    let first = prompts.next()?;
    let untitled = session.title.starts_with(DEFAULT_TITLE) && session.parent_id.is_none();
    let words: Vec<_> = first.text().split_whitespace().take(6).map(str::to_owned).collect();
    (untitled && prompts.next().is_none()).then(|| format!("About {}", words.join(" ")))
}

impl PartBody {
    fn push_str(&mut self, delta: &str) {
        if let Self::Text { text, .. } | Self::Reasoning { text, .. } = self {
            text.push_str(delta);
        }
    }

    fn end(&mut self, now: u64) {
        if let Self::Text { time: Some(time), .. } | Self::Reasoning { time, .. } = self {
            time.end = Some(now);
        }
    }
}

impl Tokens {
    fn add(&mut self, more: Self) {
        self.input += more.input;
        self.output += more.output;
    }
}
