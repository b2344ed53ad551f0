use super::*;

fn rejected(id: &str) -> TurnAction {
    let reply = crate::opencode::PermissionReply::Reject;
    TurnAction::Permission(PermissionAction::Reply { id: id.into(), reply })
}

fn asked(id: &str) -> PermissionAsked {
    let (permission, metadata) = ("bash".into(), serde_json::Map::new());
    PermissionAsked { id: id.into(), session: None, permission, patterns: Vec::new(), metadata, tool: None }
}

#[test]
fn a_permission_question_is_refused_so_that_it_never_hangs_a_turn() {
    let mut test = Test::after([busy()]);
    assert_eq!(test.send(event(EventKind::PermissionAsked(asked("per_1")))), [rejected("per_1")]);
}

#[test]
fn a_question_that_a_gap_hid_is_found_and_answered() {
    let mut test = Test::after([busy(), answer(false)]);
    test.send(TurnEvent::Opencode(SessionEvent::Gap));
    let actions = test.send(TurnEvent::Asking(Ok(vec![asked("per_1")])));
    assert_eq!(actions, [TurnAction::AskStatus, rejected("per_1")]);
}

#[test]
fn a_silent_turn_looks_for_questions_long_before_it_is_given_up() {
    let mut test = Test::after([busy(), answer(false)]);
    assert_eq!(test.wait(), [TurnAction::ListQuestions]);
    assert!(test.now < 31_000, "it looked after {} ms", test.now);
    assert_eq!(test.send(TurnEvent::Asking(Err("503".into()))), [TurnAction::AskStatus]);
    assert_eq!(test.wait(), [TurnAction::ListQuestions]);
    assert_eq!(test.send(TurnEvent::Asking(Ok(vec![]))), [TurnAction::AskStatus]);
    while test.wait() == [TurnAction::ListQuestions] {
        test.send(TurnEvent::Asking(Ok(vec![])));
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
    assert_eq!(relayed, [TurnAction::Permission(PermissionAction::Relay(asked("per_1")))]);
    let withdraw = TurnAction::Permission(PermissionAction::Withdraw { id: "per_1".into() });
    assert_eq!(test.wait(), [rejected("per_1"), withdraw]);
    assert!(test.now > 3_000_000, "it was refused after {} ms", test.now);
    assert!(!test.turn.waits_for_a_person());
    assert_eq!(test.wait(), [TurnAction::ListQuestions], "the silence begins anew");
}

/// A turn whose last step called tools, and after which nothing comes.
fn stops_after_tools(mut test: Test) -> &'static str {
    let last = || step(ANSWER, true, Some("tool-calls"));
    test.send(event(EventKind::Message(last())));
    assert_eq!(test.send(idle()), []);
    assert_eq!(test.wait(), [reread()]);
    let messages = vec![user_message(), Message { info: last(), parts: vec![] }];
    failed(&test.send(TurnEvent::Reread(Ok(messages))))
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
