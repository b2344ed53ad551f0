mod abort;
mod ending;
mod questions;
mod reread;
mod retry;
mod thread;

use std::time::Duration;

use super::*;
use crate::{
    convex::api::Written,
    opencode::{
        Event as OpencodeEvent, EventKind, MessageInfo, OpencodeSessionId, Part, PartKind, Role, Status,
    },
};

const PROMPT: &str = "msg_1";
const ANSWER: &str = "msg_2";

fn session() -> OpencodeSessionId {
    OpencodeSessionId::new("ses_1").unwrap()
}

fn event(kind: EventKind) -> Event {
    Event::Opencode(SessionEvent::Event(OpencodeEvent { session: Some(session()), kind }))
}

fn busy() -> Event {
    event(EventKind::Status(Status::Busy))
}

fn idle() -> Event {
    event(EventKind::Idle)
}

fn info(completed: bool, error: Option<&str>) -> MessageInfo {
    MessageInfo {
        id: ANSWER.into(),
        session: session(),
        role: Role::Assistant,
        parent: Some(PROMPT.into()),
        created: 1,
        completed: completed.then_some(2),
        finish: (completed && error.is_none()).then(|| "stop".into()),
        error: error.map(remote_error),
        model: None,
        is_summary: false,
    }
}

fn remote_error(message: &str) -> RemoteError {
    RemoteError { name: "APIError".into(), message: message.into(), status: Some(400), retryable: false }
}

fn answer(completed: bool) -> Event {
    event(EventKind::Message(info(completed, None)))
}

fn text_part(text: &str, ended: bool) -> Part {
    let kind = PartKind::Text { text: text.into(), ended, synthetic: false };
    Part { id: "prt_1".into(), message: ANSWER.into(), session: session(), kind }
}

fn part(text: &str, ended: bool) -> Event {
    event(EventKind::Part(text_part(text, ended)))
}

fn delta(text: &str) -> Event {
    event(EventKind::Delta(crate::opencode::events::Delta {
        message: ANSWER.into(),
        part: "prt_1".into(),
        field: "text".into(),
        delta: text.into(),
    }))
}

fn user_message() -> Message {
    let info = MessageInfo { id: PROMPT.into(), role: Role::User, parent: None, ..info(true, None) };
    Message { info, parts: vec![] }
}

/// A turn under test; `now` is in milliseconds.
struct Test {
    turn: Turn,
    now: u64,
}

impl Test {
    fn new() -> Self {
        Self { turn: Turn::new(PROMPT.into(), &Settings::default(), Duration::ZERO), now: 0 }
    }

    fn after(events: impl IntoIterator<Item = Event>) -> Self {
        let mut test = Self::new();
        for event in events {
            assert_eq!(test.send(event), [], "while the turn is prepared");
        }
        test
    }

    fn send(&mut self, event: Event) -> Vec<Action> {
        self.now += 1;
        self.turn.apply(event, Duration::from_millis(self.now))
    }

    /// A gap after which no question is found to be open.
    fn gap(&mut self) {
        let actions = self.send(Event::Opencode(SessionEvent::Gap));
        assert_eq!(actions, [Action::ListQuestions, reread()]);
        assert_eq!(self.send(Event::Asking(Ok(vec![]))), [Action::AskStatus]);
        assert_eq!(self.send(Event::Status(Ok(Some(Status::Busy)))), []);
    }

    /// Lets time pass until the turn's own deadline.
    fn wait(&mut self) -> Vec<Action> {
        let deadline = self.turn.deadline().expect("the turn waits for nothing");
        self.now = u64::try_from(deadline.as_millis()).unwrap();
        self.turn.apply(Event::Tick, deadline)
    }

    /// `actions` break the turn off; how it ends when OpenCode has stopped.
    fn broken_off(&mut self, actions: Vec<Action>) -> Failure {
        assert_eq!(actions, [Action::Abort]);
        let mut actions = self.send(idle());
        while !matches!(actions.last(), Some(Action::End(_))) {
            actions = match actions.first() {
                Some(Action::Write(_)) => self.send(Event::Written(Written::Written)),
                _ => self.wait(),
            };
        }
        assert!(!self.turn.is_stuck());
        match &*actions {
            [Action::End(Ending::Failed(failure))] => failure.clone(),
            _ => panic!("the turn did not fail but: {actions:?}"),
        }
    }

    fn rest(&mut self) -> String {
        let (chunk, last) = self.turn.reply.finish(Duration::ZERO);
        assert!(last);
        chunk.text
    }
}

fn reread() -> Action {
    Action::Reread { since: PROMPT.into() }
}

fn failed(actions: &[Action]) -> &'static str {
    match actions.last() {
        Some(Action::End(Ending::Failed(failure))) => failure.code,
        other => panic!("the turn did not fail but: {other:?}"),
    }
}

const COMPLETED: Action = Action::End(Ending::Completed);

fn step(id: &str, completed: bool, finish: Option<&str>) -> MessageInfo {
    MessageInfo { id: id.into(), finish: finish.map(Into::into), ..info(completed, None) }
}
