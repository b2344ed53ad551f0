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
    opencode::{Event, EventKind, MessageInfo, OpencodeSessionId, Part, PartKind, Role, SessionStatus},
};

const PROMPT: &str = "msg_1";
const ANSWER: &str = "msg_2";

fn session() -> OpencodeSessionId {
    OpencodeSessionId::new("ses_1").unwrap()
}

fn event(kind: EventKind) -> TurnEvent {
    TurnEvent::Opencode(SessionEvent::Event(Event { session: Some(session()), kind }))
}

fn busy() -> TurnEvent {
    event(EventKind::Status(SessionStatus::Busy))
}

fn idle() -> TurnEvent {
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

fn answer(completed: bool) -> TurnEvent {
    event(EventKind::Message(info(completed, None)))
}

fn text_part(text: &str, ended: bool) -> Part {
    let kind = PartKind::Text { text: text.into(), ended, synthetic: false };
    Part { id: "prt_1".into(), message: ANSWER.into(), session: session(), kind }
}

fn part(text: &str, ended: bool) -> TurnEvent {
    event(EventKind::Part(text_part(text, ended)))
}

fn delta(text: &str) -> TurnEvent {
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

    fn after(events: impl IntoIterator<Item = TurnEvent>) -> Self {
        let mut test = Self::new();
        for event in events {
            assert_eq!(test.send(event), [], "while the turn is prepared");
        }
        test
    }

    fn send(&mut self, event: TurnEvent) -> Vec<TurnAction> {
        self.now += 1;
        self.turn.apply(event, Duration::from_millis(self.now))
    }

    /// A gap after which no question is found to be open.
    fn gap(&mut self) {
        let actions = self.send(TurnEvent::Opencode(SessionEvent::Gap));
        assert_eq!(actions, [TurnAction::ListQuestions, reread()]);
        assert_eq!(self.send(TurnEvent::Asking(Ok(vec![]))), [TurnAction::AskStatus]);
        assert_eq!(self.send(TurnEvent::Status(Ok(Some(SessionStatus::Busy)))), []);
    }

    /// Lets time pass until the turn's own deadline.
    fn wait(&mut self) -> Vec<TurnAction> {
        let deadline = self.turn.deadline().expect("the turn waits for nothing");
        self.now = u64::try_from(deadline.as_millis()).unwrap();
        self.turn.apply(TurnEvent::Tick, deadline)
    }

    /// `actions` break the turn off; how it ends when OpenCode has stopped.
    fn broken_off(&mut self, actions: Vec<TurnAction>) -> Failure {
        assert_eq!(actions, [TurnAction::Abort]);
        let mut actions = self.send(idle());
        while !matches!(actions.last(), Some(TurnAction::End(_))) {
            actions = match actions.first() {
                Some(TurnAction::Write(_)) => self.send(TurnEvent::Written(Written::Written)),
                _ => self.wait(),
            };
        }
        assert!(!self.turn.is_stuck());
        match &*actions {
            [TurnAction::End(Ending::Failed(failure))] => failure.clone(),
            _ => panic!("the turn did not fail but: {actions:?}"),
        }
    }

    fn rest(&mut self) -> String {
        let (chunk, last) = self.turn.reply.finish(Duration::ZERO);
        assert!(last);
        chunk.text
    }
}

fn reread() -> TurnAction {
    TurnAction::Reread { since: PROMPT.into() }
}

fn failed(actions: &[TurnAction]) -> &'static str {
    match actions.last() {
        Some(TurnAction::End(Ending::Failed(failure))) => failure.code,
        other => panic!("the turn did not fail but: {other:?}"),
    }
}

const COMPLETED: TurnAction = TurnAction::End(Ending::Completed);

fn step(id: &str, completed: bool, finish: Option<&str>) -> MessageInfo {
    MessageInfo { id: id.into(), finish: finish.map(Into::into), ..info(completed, None) }
}
