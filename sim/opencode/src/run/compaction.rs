//! A model whose context is full: OpenCode has the history summed up and lets it go on, all within one run.
//!
//! A user message that holds a `compaction` part asks for the summary; an assistant message with `summary: true` is it;
//! then a user message of the server's own follows, which asks to continue or repeats the prompt that was too long. The
//! rest of the reply answers that one (measured on 1.18.33).

use std::time::Duration;

use serde_json::{Value, json};

use super::step::{Step, assistant};
use crate::{
    script::Compaction,
    sessions,
    state::pause,
    wire::{Info, Message, PartBody, SNAPSHOT, Span, Tokens, UserInfo},
};

/// How long the model takes to sum up.
const SUMMARY: Duration = Duration::from_millis(300);
/// What the server asks when the model is to go on.
const CONTINUE: &str =
    "Continue if you have next steps, or stop and ask for clarification if you are unsure how to proceed.";

impl Step<'_> {
    /// Sums up, and makes what follows part of the same reply.
    pub(super) async fn compact(&mut self) {
        let was_refused = self.plan.reply.compaction.take() == Some(Compaction::Refused);
        if was_refused {
            self.server.emit_error(self.session, &too_long());
            self.cut_off();
        }
        let request = self.server_message(PartBody::Compaction { auto: true, overflow: was_refused });
        self.server.emit_status(self.session, "busy");
        self.sum_up(&request).await;
        let body = if was_refused { PartBody::of_text(self.prompt_text(), None) } else { self.go_on() };
        self.plan.user = self.server_message(body);
        self.server.emit("session.compacted", &json!({ "sessionID": self.session }));
    }

    /// A user message that nobody wrote.
    fn server_message(&mut self, body: PartBody) -> UserInfo {
        let (server, now) = (self.server, self.server.machine.now());
        let id = server.machine.store.borrow_mut().ids.ascending("msg", now);
        let user = UserInfo {
            id: id.clone(),
            time: sessions::created(now),
            summary: None,
            ..self.plan.user.clone()
        };
        server.machine.store.borrow_mut().push_message(self.session, Info::User(user.clone()));
        server.emit_message(self.session, &Info::User(user.clone()));
        let part = server.machine.store.borrow_mut().part(self.session, &id, body, now);
        self.store(part);
        user
    }

    fn go_on(&self) -> PartBody {
        let now = self.server.machine.now();
        PartBody::Text {
            text: CONTINUE.into(),
            time: Some(Span { start: now, end: Some(now) }),
            synthetic: Some(true),
            metadata: Some(json!({ "compaction_continue": true })),
        }
    }

    fn prompt_text(&self) -> String {
        let store = self.server.machine.store.borrow();
        let prompt = store.message(self.session, &self.plan.user.id);
        prompt.map(Message::text).unwrap_or_default()
    }

    async fn sum_up(&mut self, request: &UserInfo) {
        let now = self.server.machine.now();
        let mut info = assistant(self.server, self.session, request, now);
        (info.summary, info.mode, info.agent) = (Some(true), "compaction".into(), "compaction".into());
        self.server.machine.store.borrow_mut().push_message(self.session, Info::Assistant(info.clone()));
        self.info = info;
        self.server.emit_message(self.session, &Info::Assistant(self.info.clone()));
        self.server.emit_status(self.session, "busy");
        self.add(PartBody::StepStart { snapshot: SNAPSHOT });
        let span = Span { start: self.server.machine.now(), end: None };
        let part = self.open(PartBody::of_text(String::new(), Some(span)));
        pause(SUMMARY).await;
        self.say(&part, "What was said before, in short.");
        self.close_part();
        self.finish("stop", Tokens { total: Some(16), input: 11, output: 5, ..Tokens::default() });
    }
}

fn too_long() -> Value {
    json!({ "name": "ContextOverflowError", "data": {
        "message": "This model's maximum context length is 8192 tokens.",
        "responseBody": "{\"error\": {\"message\": \"This model's maximum context length is 8192 tokens.\"}}",
    } })
}
