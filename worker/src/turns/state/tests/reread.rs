use super::*;

/// The messages as OpenCode has them when the reply is `text`.
fn whole_reply(text: &str) -> TurnEvent {
    let answer = Message { info: info(true, None), parts: vec![text_part(text, true)] };
    TurnEvent::Reread(Ok(vec![user_message(), answer]))
}

#[test]
fn a_prompt_that_shows_no_effect_is_looked_after_and_failed_if_it_is_not_there() {
    let mut test = Test::new();
    assert_eq!(test.wait(), [reread()]);
    let actions = test.send(TurnEvent::Reread(Ok(vec![])));
    assert_eq!(test.broken_off(actions).code, "prompt_lost");
}

#[test]
fn a_prompt_whose_events_were_lost_is_found_and_its_reply_completed() {
    let mut test = Test::new();
    assert_eq!(test.wait(), [reread()]);
    let reply = Message { info: info(true, None), parts: vec![text_part("whole", true)] };
    assert_eq!(test.send(TurnEvent::Reread(Ok(vec![user_message(), reply]))), [COMPLETED]);
    assert_eq!(test.rest(), "whole");
}

#[test]
fn after_a_gap_the_reread_and_the_parts_end_supply_what_was_missed() {
    let mut test = Test::after([busy(), answer(false), part("", false), delta("one ")]);
    test.gap();
    test.send(delta("four"));
    let live = Message { info: info(false, None), parts: vec![text_part("", false)] };
    assert_eq!(test.send(TurnEvent::Reread(Ok(vec![user_message(), live]))), []);
    assert_eq!(test.send(part("one two three four", true)), []);
    test.send(answer(true));
    let actions = test.send(idle());
    let actions = if actions == [reread()] {
        let whole = Message { info: info(true, None), parts: vec![text_part("one two three four", true)] };
        test.send(TurnEvent::Reread(Ok(vec![user_message(), whole])))
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
            Some(TurnAction::Reread { .. }) => {
                let whole = Message { info: info(true, None), parts: vec![text_part("all", true)] };
                test.send(TurnEvent::Reread(Ok(vec![user_message(), whole])))
            }
            Some(TurnAction::Write(_)) => test.send(TurnEvent::Written(Written::Written)),
            _ => test.wait(),
        };
    }
    assert_eq!(actions, [COMPLETED]);
    assert!(test.now < 60_000, "it took {} ms", test.now);
}

#[test]
fn a_reply_of_which_no_event_told_is_read_before_the_turn_completes() {
    let mut test = Test::after([busy(), answer(true)]);
    assert_eq!(test.send(event(EventKind::Status(SessionStatus::Idle))), [reread()]);
    assert_eq!(test.send(idle()), []);
    assert_eq!(test.send(whole_reply("unheard")), [COMPLETED]);
    assert_eq!(test.rest(), "unheard");
}

#[test]
fn a_reply_whose_end_no_event_told_is_read_before_the_turn_completes() {
    let mut test = Test::after([busy(), answer(false), part("", false), delta("Hi"), answer(true)]);
    assert_eq!(test.send(event(EventKind::Status(SessionStatus::Idle))), [reread()]);
    assert_eq!(test.send(idle()), []);
    assert_eq!(test.send(whole_reply("Hi there")), [COMPLETED]);
    assert_eq!(test.rest(), "Hi there");
}

#[test]
fn an_empty_reply_is_read_once_and_believed() {
    let mut test = Test::after([busy(), answer(true)]);
    assert_eq!(test.send(event(EventKind::Status(SessionStatus::Idle))), [reread()]);
    assert_eq!(test.send(idle()), []);
    let empty = Message { info: info(true, None), parts: vec![] };
    assert_eq!(test.send(TurnEvent::Reread(Ok(vec![user_message(), empty]))), [COMPLETED]);
}

#[test]
fn a_reply_that_cannot_be_read_again_is_not_believed() {
    let mut test = Test::after([busy(), answer(true)]);
    assert_eq!(test.send(idle()), [reread()]);
    assert_eq!(test.send(TurnEvent::Reread(Err("no answer".into()))), []);
    assert_eq!(test.wait(), [reread()]);
    assert_eq!(test.send(whole_reply("late")), [COMPLETED]);
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
        TurnEvent::Reread(Ok(vec![user_message(), first, second]))
    };
    test.send(steps(false));
    test.send(event(EventKind::Part(text_of_step("msg_3", "prt_2", "second", true))));
    test.send(event(EventKind::Message(step("msg_3", true, Some("stop")))));
    let mut actions = test.send(idle());
    if actions == [reread()] {
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
    test.send(TurnEvent::Reread(Ok(vec![user_message(), older])));
    test.send(answer(true));
    assert_eq!(test.send(idle()), [reread()]);
    let whole = Message { info: info(true, None), parts: vec![text_part("all", true)] };
    assert_eq!(test.send(TurnEvent::Reread(Ok(vec![user_message(), whole]))), [COMPLETED]);
    assert_eq!(test.rest(), "all");
}

#[test]
fn a_turn_outlives_any_number_of_gaps_as_long_as_something_comes_between_them() {
    let mut test = Test::after([busy(), answer(false), part("", false)]);
    for _ in 0..20 {
        test.gap();
        let live = Message { info: info(false, None), parts: vec![text_part("", false)] };
        assert_eq!(test.send(TurnEvent::Reread(Ok(vec![user_message(), live]))), []);
        test.send(busy());
    }
}

#[test]
fn messages_that_cannot_be_read_at_the_end_are_asked_for_again_after_a_pause() {
    let mut test = Test::after([busy(), answer(false), part("", false)]);
    test.gap();
    let live = Message { info: info(false, None), parts: vec![text_part("", false)] };
    test.send(TurnEvent::Reread(Ok(vec![user_message(), live])));
    test.send(answer(true));
    assert_eq!(test.send(idle()), [reread()]);
    for _ in 1..5 {
        assert_eq!(test.send(TurnEvent::Reread(Err("503".into()))), []);
        assert_eq!(test.wait(), [reread()]);
    }
    let actions = test.send(TurnEvent::Reread(Err("503".into())));
    assert_eq!(test.broken_off(actions).code, "no_reply");
    assert!(test.now > 8_000, "it gave up after {} ms", test.now);
}

#[test]
fn an_error_that_a_gap_swallowed_is_not_waited_for_until_the_turn_is_silent() {
    let mut test = Test::after([busy()]);
    assert_eq!(test.send(TurnEvent::Opencode(SessionEvent::Gap)), [TurnAction::ListQuestions, reread()]);
    test.send(TurnEvent::Reread(Ok(vec![user_message()])));
    test.send(TurnEvent::Status(Ok(None)));
    let mut actions = test.wait();
    while actions == [reread()] {
        test.send(TurnEvent::Reread(Ok(vec![user_message()])));
        actions = test.wait();
    }
    assert_eq!(test.broken_off(actions).code, "no_reply");
    assert!(test.now < 30_000, "it took {} ms", test.now);
}

#[test]
fn a_refusal_that_a_gap_swallowed_is_learned_from_the_status() {
    let mut test = Test::after([busy(), answer(false)]);
    test.send(TurnEvent::Opencode(SessionEvent::Gap));
    let status = SessionStatus::Retry { attempt: 9, message: "overloaded".into() };
    assert_eq!(test.send(TurnEvent::Status(Ok(Some(status)))), [TurnAction::Abort]);
}

#[test]
fn what_can_never_be_read_ends_the_turn_and_says_so() {
    let mut test = Test::after([busy(), answer(false)]);
    test.send(TurnEvent::Opencode(SessionEvent::Gap));
    let actions = test.send(TurnEvent::Unreadable("it is more than 1024 messages".into()));
    let failure = test.broken_off(actions);
    assert_eq!(failure.code, "reply_unreadable");
    assert!(failure.message.contains("more than 1024 messages"), "{}", failure.message);
}
