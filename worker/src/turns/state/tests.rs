use std::time::Duration;

use super::*;
use crate::opencode::{Event as OpencodeEvent, OpencodeSessionId};

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
        finish: None,
        error: error.map(remote_error),
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
        assert_eq!(actions, [Action::ListQuestions, Action::Reread]);
        assert_eq!(self.send(Event::Asking(Ok(vec![]))), []);
    }

    /// Lets time pass until the turn's own deadline.
    fn wait(&mut self) -> Vec<Action> {
        let deadline = self.turn.deadline().expect("the turn waits for nothing");
        self.now = u64::try_from(deadline.as_millis()).unwrap();
        self.turn.apply(Event::Tick, deadline)
    }

    fn rest(&mut self) -> String {
        let (chunk, last) = self.turn.reply.finish(Duration::ZERO);
        assert!(last);
        chunk.text
    }
}

fn rejected(id: &str) -> Action {
    let reply = crate::opencode::PermissionReply::Reject;
    Action::Permission(permissions::Action::Reply { id: id.into(), reply })
}

fn failed(actions: &[Action]) -> &'static str {
    match actions.last() {
        Some(Action::End(Ending::Failed(failure))) => failure.code,
        other => panic!("the turn did not fail but: {other:?}"),
    }
}

const COMPLETED: Action = Action::End(Ending::Completed);

#[test]
fn a_turn_completes_when_its_last_message_is_complete_and_the_session_idle() {
    let mut test = Test::after([busy(), answer(false), part("", false), delta("Hi"), part("Hi!", true)]);
    assert_eq!(test.send(answer(true)), []);
    assert_eq!(test.send(idle()), [COMPLETED]);
    assert_eq!(test.rest(), "Hi!");
}

#[test]
fn idleness_before_any_work_belongs_to_an_earlier_turn() {
    let mut test = Test::after([idle(), idle(), busy(), answer(false), part("ok", true), answer(true)]);
    assert_eq!(test.send(idle()), [COMPLETED]);
}

#[test]
fn messages_that_answer_another_prompt_are_ignored() {
    let stranger = MessageInfo { parent: Some("msg_0".into()), ..info(true, Some("old")) };
    let mut test =
        Test::after([event(EventKind::Message(stranger)), part("old", true), busy(), answer(false)]);
    test.send(part("new", true));
    test.send(answer(true));
    assert_eq!(test.send(idle()), [COMPLETED]);
    assert_eq!(test.rest(), "new");
}

#[test]
fn a_models_error_ends_the_turn_when_the_last_message_tells_it_after_the_idleness() {
    let mut test = Test::after([busy(), answer(false), part("", false), delta("par")]);
    assert_eq!(test.send(event(EventKind::Error(remote_error("overloaded")))), []);
    assert_eq!(test.send(idle()), []);
    assert_eq!(test.send(part("part", true)), []);
    let actions = test.send(event(EventKind::Message(info(true, Some("overloaded")))));
    assert_eq!(failed(&actions), "model_error");
    assert_eq!(test.rest(), "part");
}

#[test]
fn an_unknown_model_fails_the_turn_though_no_message_ever_comes() {
    let mut test = Test::after([event(EventKind::Error(remote_error("Model not found: x")))]);
    assert_eq!(failed(&test.send(idle())), "model_error");
}

#[test]
fn a_prompt_that_shows_no_effect_is_looked_after_and_failed_if_it_is_not_there() {
    let mut test = Test::new();
    assert_eq!(test.wait(), [Action::Reread]);
    assert_eq!(failed(&test.send(Event::Reread(Ok(vec![])))), "prompt_lost");
}

#[test]
fn a_prompt_whose_events_were_lost_is_found_and_its_reply_completed() {
    let mut test = Test::new();
    assert_eq!(test.wait(), [Action::Reread]);
    let reply = Message { info: info(true, None), parts: vec![text_part("whole", true)] };
    assert_eq!(test.send(Event::Reread(Ok(vec![user_message(), reply]))), [COMPLETED]);
    assert_eq!(test.rest(), "whole");
}

#[test]
fn after_a_gap_the_reread_and_the_parts_end_supply_what_was_missed() {
    let mut test = Test::after([busy(), answer(false), part("", false), delta("one ")]);
    test.gap();
    test.send(delta("four"));
    let live = Message { info: info(false, None), parts: vec![text_part("", false)] };
    assert_eq!(test.send(Event::Reread(Ok(vec![user_message(), live]))), []);
    assert_eq!(test.send(part("one two three four", true)), []);
    test.send(answer(true));
    let actions = test.send(idle());
    let actions = if actions == [Action::Reread] {
        let whole = Message { info: info(true, None), parts: vec![text_part("one two three four", true)] };
        test.send(Event::Reread(Ok(vec![user_message(), whole])))
    } else {
        actions
    };
    assert_eq!(actions, [COMPLETED]);
    assert_eq!(test.rest(), "one two three four");
}

#[test]
fn a_lost_idle_event_does_not_leave_the_turn_waiting_for_ever() {
    let mut test = Test::after([busy(), answer(false), part("all", true), answer(true)]);
    let mut actions = test.wait();
    for _ in 0..4 {
        if actions.contains(&COMPLETED) {
            break;
        }
        actions = match actions.first() {
            Some(Action::Reread) => {
                let whole = Message { info: info(true, None), parts: vec![text_part("all", true)] };
                test.send(Event::Reread(Ok(vec![user_message(), whole])))
            }
            Some(Action::Write(_)) => test.send(Event::Written(Written::Written)),
            _ => test.wait(),
        };
    }
    assert_eq!(actions, [COMPLETED]);
    assert!(test.now < 60_000, "it took {} ms", test.now);
}

#[test]
fn a_silent_session_is_aborted_and_the_turn_failed() {
    let mut test = Test::after([busy(), answer(false)]);
    let mut actions = test.wait();
    while actions == [Action::ListQuestions] {
        test.send(Event::Asking(Ok(vec![])));
        actions = test.wait();
    }
    assert_eq!(actions, [Action::Abort]);
    assert!(test.now >= 300_000, "after {} ms", test.now);
    assert_eq!(failed(&test.wait()), "idle_timeout");
}

#[test]
fn a_cancelled_turn_keeps_what_came_and_tells_why_it_ended() {
    let mut test = Test::after([busy(), answer(false), part("", false), delta("some")]);
    assert_eq!(test.send(Event::Cancel), [Action::Abort]);
    test.send(idle());
    test.send(part("some more", true));
    assert_eq!(failed(&test.send(event(EventKind::Message(info(true, Some("Aborted")))))), "session_ended");
    assert_eq!(test.rest(), "some more");
}

#[test]
fn an_abort_that_is_ignored_has_a_deadline() {
    let mut test = Test::after([busy(), answer(false)]);
    assert_eq!(test.send(Event::Stop), [Action::Abort]);
    assert_eq!(failed(&test.wait()), "worker_stopped");
    assert_eq!(test.now, 3 + 5_000);
}

#[test]
fn a_turn_that_somebody_else_ended_is_aborted_and_not_written_to() {
    let mut test = Test::after([busy(), answer(false), part("", false), delta("x")]);
    assert!(matches!(test.wait()[..], [Action::Write(_)]));
    assert_eq!(test.send(Event::Written(Written::Ended)), [Action::Abort]);
    assert_eq!(test.wait(), [Action::End(Ending::Gone)]);
}

#[test]
fn a_crash_of_the_server_fails_the_turn_at_once() {
    let mut test = Test::after([busy()]);
    let lost = SessionEvent::ServerLost { reason: "killed by signal 9".into() };
    assert_eq!(failed(&test.send(Event::Opencode(lost))), "opencode_lost");
}

fn asked(id: &str) -> PermissionAsked {
    PermissionAsked { id: id.into(), permission: "bash".into(), patterns: vec![] }
}

#[test]
fn a_permission_question_is_refused_so_that_it_never_hangs_a_turn() {
    let mut test = Test::after([busy()]);
    assert_eq!(test.send(event(EventKind::PermissionAsked(asked("per_1")))), [rejected("per_1")]);
}

#[test]
fn a_question_that_a_gap_hid_is_found_and_answered() {
    let mut test = Test::after([busy(), answer(false)]);
    test.send(Event::Opencode(SessionEvent::Gap));
    assert_eq!(test.send(Event::Asking(Ok(vec![asked("per_1")]))), [rejected("per_1")]);
}

#[test]
fn a_silent_turn_looks_for_questions_long_before_it_is_given_up() {
    let mut test = Test::after([busy(), answer(false)]);
    assert_eq!(test.wait(), [Action::ListQuestions]);
    assert!(test.now < 31_000, "it looked after {} ms", test.now);
    assert_eq!(test.send(Event::Asking(Err("503".into()))), []);
    assert_eq!(test.wait(), [Action::ListQuestions]);
    assert_eq!(test.send(Event::Asking(Ok(vec![]))), []);
    while test.wait() == [Action::ListQuestions] {
        test.send(Event::Asking(Ok(vec![])));
    }
    let idle_timeout = u64::try_from(Settings::default().turns.idle_timeout.as_millis()).unwrap();
    assert!((idle_timeout..idle_timeout + 10).contains(&test.now), "it was given up after {} ms", test.now);
}

#[test]
fn a_turn_that_waits_for_a_person_is_not_silent() {
    let mut settings = Settings::default();
    settings.opencode.permissions = crate::config::PermissionPolicy::Relay;
    settings.opencode.permission_timeout = Duration::from_secs(3_000);
    let mut test = Test { turn: Turn::new(PROMPT.into(), &settings, Duration::ZERO), now: 0 };
    test.send(busy());
    let relayed = test.send(event(EventKind::PermissionAsked(asked("per_1"))));
    assert_eq!(relayed, [Action::Permission(permissions::Action::Relay(asked("per_1")))]);
    let withdraw = Action::Permission(permissions::Action::Withdraw { id: "per_1".into() });
    assert_eq!(test.wait(), [rejected("per_1"), withdraw]);
    assert!(test.now > 3_000_000, "it was refused after {} ms", test.now);
    assert!(!test.turn.waits_for_a_person());
    assert_eq!(test.wait(), [Action::ListQuestions], "the silence begins anew");
}

/// A turn whose last step called tools, and after which nothing comes.
fn stops_after_tools(mut test: Test) -> &'static str {
    let last = || step(ANSWER, true, Some("tool-calls"));
    test.send(event(EventKind::Message(last())));
    assert_eq!(test.send(idle()), []);
    assert_eq!(test.wait(), [Action::Reread]);
    let messages = vec![user_message(), Message { info: last(), parts: vec![] }];
    failed(&test.send(Event::Reread(Ok(messages))))
}

#[test]
fn a_turn_that_stops_after_its_tools_says_so() {
    assert_eq!(stops_after_tools(Test::after([busy()])), "stopped_after_tools");
}

#[test]
fn a_turn_that_stops_because_of_a_refusal_says_so() {
    let mut test = Test::after([busy()]);
    test.send(event(EventKind::PermissionAsked(asked("per_1"))));
    assert_eq!(stops_after_tools(test), "permission_refused");
}

#[test]
fn a_step_after_the_tools_that_comes_late_is_waited_for() {
    let mut test = Test::after([busy()]);
    test.send(event(EventKind::Message(step(ANSWER, true, Some("tool-calls")))));
    test.send(idle());
    assert_eq!(test.wait(), [Action::Reread]);
    test.send(busy());
    let tools = || Message { info: step(ANSWER, true, Some("tool-calls")), parts: vec![] };
    let last = || step("msg_3", true, Some("stop"));
    assert_eq!(test.send(Event::Reread(Ok(vec![user_message(), tools()]))), []);
    test.send(event(EventKind::Message(last())));
    // No part of it was heard, so it is read before it is believed.
    assert_eq!(test.send(idle()), [Action::Reread]);
    let messages = vec![user_message(), tools(), Message { info: last(), parts: vec![] }];
    assert_eq!(test.send(Event::Reread(Ok(messages))), [COMPLETED]);
}

/// The messages as OpenCode has them when the reply is `text`.
fn whole_reply(text: &str) -> Event {
    let answer = Message { info: info(true, None), parts: vec![text_part(text, true)] };
    Event::Reread(Ok(vec![user_message(), answer]))
}

#[test]
fn a_reply_of_which_no_event_told_is_read_before_the_turn_completes() {
    let mut test = Test::after([busy(), answer(true)]);
    assert_eq!(test.send(event(EventKind::Status(Status::Idle))), [Action::Reread]);
    assert_eq!(test.send(idle()), []);
    assert_eq!(test.send(whole_reply("unheard")), [COMPLETED]);
    assert_eq!(test.rest(), "unheard");
}

#[test]
fn a_reply_whose_end_no_event_told_is_read_before_the_turn_completes() {
    let mut test = Test::after([busy(), answer(false), part("", false), delta("Hi"), answer(true)]);
    assert_eq!(test.send(event(EventKind::Status(Status::Idle))), [Action::Reread]);
    assert_eq!(test.send(idle()), []);
    assert_eq!(test.send(whole_reply("Hi there")), [COMPLETED]);
    assert_eq!(test.rest(), "Hi there");
}

#[test]
fn an_empty_reply_is_read_once_and_believed() {
    let mut test = Test::after([busy(), answer(true)]);
    assert_eq!(test.send(event(EventKind::Status(Status::Idle))), [Action::Reread]);
    assert_eq!(test.send(idle()), []);
    let empty = Message { info: info(true, None), parts: vec![] };
    assert_eq!(test.send(Event::Reread(Ok(vec![user_message(), empty]))), [COMPLETED]);
}

#[test]
fn a_reply_that_cannot_be_read_again_is_not_believed() {
    let mut test = Test::after([busy(), answer(true)]);
    assert_eq!(test.send(idle()), [Action::Reread]);
    assert_eq!(test.send(Event::Reread(Err("no answer".into()))), []);
    assert_eq!(test.wait(), [Action::Reread]);
    assert_eq!(test.send(whole_reply("late")), [COMPLETED]);
}

fn step(id: &str, completed: bool, finish: Option<&str>) -> MessageInfo {
    MessageInfo { id: id.into(), finish: finish.map(Into::into), ..info(completed, None) }
}

fn text_of_step(message: &str, id: &str, text: &str, ended: bool) -> Part {
    Part { id: id.into(), message: message.into(), ..text_part(text, ended) }
}

#[test]
fn a_step_that_a_gap_hid_keeps_its_place_before_the_one_that_was_seen() {
    let mut test = Test::after([busy()]);
    test.gap();
    test.send(event(EventKind::Message(step("msg_3", false, None))));
    test.send(event(EventKind::Part(text_of_step("msg_3", "prt_2", "", false))));
    let delta = crate::opencode::events::Delta {
        message: "msg_3".into(),
        part: "prt_2".into(),
        field: "text".into(),
        delta: "seco".into(),
    };
    test.send(event(EventKind::Delta(delta)));
    let steps = |ended: bool| {
        let first = Message {
            info: step("msg_2", true, Some("tool-calls")),
            parts: vec![text_of_step("msg_2", "prt_1", "first", true)],
        };
        let text = if ended { "second" } else { "" };
        let second = Message {
            info: step("msg_3", ended, ended.then_some("stop")),
            parts: vec![text_of_step("msg_3", "prt_2", text, ended)],
        };
        Event::Reread(Ok(vec![user_message(), first, second]))
    };
    test.send(steps(false));
    test.send(event(EventKind::Part(text_of_step("msg_3", "prt_2", "second", true))));
    test.send(event(EventKind::Message(step("msg_3", true, Some("stop")))));
    let mut actions = test.send(idle());
    if actions == [Action::Reread] {
        actions = test.send(steps(true));
    }
    assert_eq!(actions, [COMPLETED]);
    assert_eq!(test.rest(), "first\n\nsecond");
}

#[test]
fn a_part_that_came_and_went_while_the_messages_were_read_again_is_not_lost() {
    let mut test = Test::after([busy()]);
    test.gap();
    // Its message was made during the gap, so it belongs to nobody yet; the answer is older than the part.
    test.send(part("all", true));
    let older = Message { info: info(false, None), parts: vec![] };
    test.send(Event::Reread(Ok(vec![user_message(), older])));
    test.send(answer(true));
    assert_eq!(test.send(idle()), [Action::Reread]);
    let whole = Message { info: info(true, None), parts: vec![text_part("all", true)] };
    assert_eq!(test.send(Event::Reread(Ok(vec![user_message(), whole]))), [COMPLETED]);
    assert_eq!(test.rest(), "all");
}

#[test]
fn a_turn_outlives_any_number_of_gaps_as_long_as_something_comes_between_them() {
    let mut test = Test::after([busy(), answer(false), part("", false)]);
    for _ in 0..20 {
        test.gap();
        let live = Message { info: info(false, None), parts: vec![text_part("", false)] };
        assert_eq!(test.send(Event::Reread(Ok(vec![user_message(), live]))), []);
        test.send(busy());
    }
}

#[test]
fn messages_that_cannot_be_read_at_the_end_are_asked_for_again_after_a_pause() {
    let mut test = Test::after([busy(), answer(false), part("", false)]);
    test.gap();
    let live = Message { info: info(false, None), parts: vec![text_part("", false)] };
    test.send(Event::Reread(Ok(vec![user_message(), live])));
    test.send(answer(true));
    assert_eq!(test.send(idle()), [Action::Reread]);
    for _ in 1..5 {
        assert_eq!(test.send(Event::Reread(Err("503".into()))), []);
        assert_eq!(test.wait(), [Action::Reread]);
    }
    assert_eq!(failed(&test.send(Event::Reread(Err("503".into())))), "no_reply");
    assert!(test.now > 8_000, "it gave up after {} ms", test.now);
}

#[test]
fn work_that_goes_on_after_an_idleness_is_waited_for() {
    let mut test = Test::after([busy(), idle(), busy(), answer(false), part("", false)]);
    for _ in 0..100 {
        test.now += 1_000;
        let sent = test.send(delta("."));
        if sent.iter().any(|action| matches!(action, Action::Write(_))) {
            test.send(Event::Written(Written::Written));
        }
        assert!(test.turn.deadline().unwrap() > Duration::from_millis(test.now), "it is due for a check");
    }
}

#[test]
fn the_late_end_of_an_aborted_turn_does_not_fail_the_next_one() {
    let aborted = RemoteError { name: "MessageAbortedError".into(), ..remote_error("Aborted") };
    let mut test = Test::after([event(EventKind::Error(aborted)), idle(), idle(), busy()]);
    test.send(answer(false));
    test.send(part("ok", true));
    test.send(answer(true));
    assert_eq!(test.send(idle()), [COMPLETED]);
}

#[test]
fn a_session_that_opencode_does_not_have_any_more_ends_the_turn_with_advice() {
    let mut test = Test::after([busy(), answer(false)]);
    let actions = test.send(Event::Deleted);
    let [Action::End(Ending::Failed(failure))] = &*actions else { panic!("{actions:?}") };
    assert_eq!(failure.code, "session_deleted");
    assert!(failure.message.contains("Send the message again"), "{}", failure.message);
}
