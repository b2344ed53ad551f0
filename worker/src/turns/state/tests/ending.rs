use super::*;

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
fn an_error_fails_the_turn_though_no_message_ever_comes() {
    let mut test = Test::after([event(EventKind::Error(remote_error("Agent not found: x")))]);
    assert_eq!(failed(&test.send(idle())), "model_error");
}

#[test]
fn a_crash_of_the_server_fails_the_turn_at_once() {
    let mut test = Test::after([busy()]);
    let lost = SessionEvent::ServerLost { reason: "killed by signal 9".into() };
    assert_eq!(failed(&test.send(TurnEvent::Opencode(lost))), "opencode_lost");
}

#[test]
fn a_step_after_the_tools_that_comes_late_is_waited_for() {
    let mut test = Test::after([busy()]);
    test.send(event(EventKind::Message(step(ANSWER, true, Some("tool-calls")))));
    test.send(idle());
    assert_eq!(test.wait(), [reread()]);
    test.send(busy());
    let tools = || Message { info: step(ANSWER, true, Some("tool-calls")), parts: vec![] };
    let last = || step("msg_3", true, Some("stop"));
    assert_eq!(test.send(TurnEvent::Reread(Ok(vec![user_message(), tools()]))), []);
    test.send(event(EventKind::Message(last())));
    // No part of it was heard, so it is read before it is believed.
    assert_eq!(test.send(idle()), [reread()]);
    let messages = vec![user_message(), tools(), Message { info: last(), parts: vec![] }];
    assert_eq!(test.send(TurnEvent::Reread(Ok(messages))), [COMPLETED]);
}

#[test]
fn work_that_goes_on_after_an_idleness_is_waited_for() {
    let mut test = Test::after([busy(), idle(), busy(), answer(false), part("", false)]);
    for _ in 0..100 {
        test.now += 1_000;
        let sent = test.send(delta("."));
        if sent.iter().any(|action| matches!(action, TurnAction::Write(_))) {
            test.send(TurnEvent::Written(Written::Written));
        }
        assert!(test.turn.deadline().unwrap() > Duration::from_millis(test.now), "it is due for a check");
    }
}

#[test]
fn a_session_that_opencode_does_not_have_any_more_ends_the_turn_with_advice() {
    let mut test = Test::after([busy(), answer(false)]);
    let actions = test.send(TurnEvent::Deleted);
    let failure = test.broken_off(actions);
    assert_eq!(failure.code, "session_deleted");
    assert!(failure.message.contains("Send the message again"), "{}", failure.message);
}

#[test]
fn a_reply_that_opencode_changed_goes_on_to_its_end_and_does_not_count_as_whole() {
    let mut test = Test::after([busy(), answer(false), part("", false), delta("one")]);
    assert_eq!(test.send(part("another", true)), []);
    test.send(answer(true));
    assert_eq!(failed(&test.send(idle())), "reply_changed");
    assert_eq!(test.rest(), "one");
}

#[test]
fn an_answer_that_was_stopped_without_a_word_is_no_whole_reply() {
    let cut_off = MessageInfo { finish: None, ..info(true, None) };
    let mut test = Test::after([busy(), answer(false), event(EventKind::Message(cut_off)), idle()]);
    assert_eq!(failed(&test.wait()), "aborted");
}

#[test]
fn an_unknown_model_has_a_code_and_advice_of_its_own() {
    let mut test = Test::after([event(EventKind::Error(remote_error("Model not found: zzz/nope.")))]);
    let actions = test.send(idle());
    let [TurnAction::End(Ending::Failed(failure))] = &*actions else { panic!("{actions:?}") };
    assert!(failure.spoils_session());
    assert!(
        failure.message.contains("(Model not found: zzz/nope). Choose another model"),
        "{}",
        failure.message
    );
}
