use super::*;

#[test]
fn a_silent_session_is_aborted_and_the_turn_failed() {
    let mut test = Test::after([busy(), answer(false)]);
    let mut actions = test.wait();
    while actions == [TurnAction::ListQuestions] {
        test.send(TurnEvent::Asking(Ok(vec![])));
        test.send(TurnEvent::Status(Ok(Some(SessionStatus::Busy))));
        actions = test.wait();
    }
    assert_eq!(actions, [TurnAction::Abort]);
    assert!(test.now >= 300_000, "after {} ms", test.now);
    assert_eq!(test.send(idle()), []);
    assert_eq!(failed(&test.wait()), "idle_timeout");
}

#[test]
fn a_cancelled_turn_keeps_what_came_and_tells_why_it_ended() {
    let mut test = Test::after([busy(), answer(false), part("", false), delta("some")]);
    assert_eq!(test.send(TurnEvent::Cancel), [TurnAction::Abort]);
    test.send(idle());
    test.send(part("some more", true));
    assert_eq!(failed(&test.send(event(EventKind::Message(info(true, Some("Aborted")))))), "session_ended");
    assert_eq!(test.rest(), "some more");
}

#[test]
fn a_worker_that_stops_asks_once_and_waits_for_five_seconds() {
    let mut test = Test::after([busy(), answer(false)]);
    assert_eq!(test.send(TurnEvent::Stop), [TurnAction::Abort]);
    assert_eq!(failed(&test.wait()), "worker_stopped");
    assert_eq!(test.now, 3 + 5_000);
}

#[test]
fn a_turn_that_somebody_else_ended_is_aborted_and_not_written_to() {
    let mut test = Test::after([busy(), answer(false), part("", false), delta("x")]);
    assert!(matches!(test.wait()[..], [TurnAction::Write(_)]));
    assert_eq!(test.send(TurnEvent::Written(Written::Ended)), [TurnAction::Abort]);
    let aborted = event(EventKind::Message(info(true, Some("Aborted"))));
    assert_eq!(test.send(aborted), [TurnAction::End(Ending::Gone)]);
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
fn an_abort_that_is_ignored_is_repeated_once_and_the_session_is_known_to_be_stuck() {
    let mut test = Test::after([busy(), answer(false)]);
    assert_eq!(test.send(TurnEvent::Cancel), [TurnAction::Abort]);
    assert_eq!(test.wait(), [TurnAction::Abort]);
    assert!(!test.turn.is_stuck());
    assert_eq!(failed(&test.wait()), "session_ended");
    assert!(test.turn.is_stuck());
    assert_eq!(test.now, 3 + 10_000);
}

/// Makes a turn that cannot go on; what it then does.
type Provoke = fn(&mut Test) -> Vec<TurnAction>;

#[test]
fn a_turn_that_cannot_go_on_while_opencode_works_is_broken_off_first() {
    let lost = |test: &mut Test| {
        assert_eq!(test.wait(), [reread()]);
        test.send(TurnEvent::Reread(Ok(vec![])))
    };
    let deleted = |test: &mut Test| {
        test.send(busy());
        test.send(TurnEvent::Deleted)
    };
    let not_stored = |test: &mut Test| {
        for event in [busy(), answer(false), part("", false), delta("one")] {
            test.send(event);
        }
        assert!(matches!(test.wait()[..], [TurnAction::Write(_)]));
        test.send(TurnEvent::NotWritten(Failure::session_busy()))
    };
    let cases: [(&str, Provoke); 3] =
        [("prompt_lost", lost), ("session_deleted", deleted), ("session_busy", not_stored)];
    for (code, provoke) in cases {
        let mut test = Test::new();
        let actions = provoke(&mut test);
        assert_eq!(test.broken_off(actions).code, code);
    }
}

#[test]
fn what_comes_after_the_decision_to_break_off_does_not_change_the_reason() {
    let mut test = Test::after([busy(), answer(false), part("", false), delta("one")]);
    assert_eq!(test.send(TurnEvent::Cancel), [TurnAction::Abort]);
    assert_eq!(test.send(part("another", true)), []);
    let lost = SessionEvent::ServerLost { reason: "killed by signal 9".into() };
    assert_eq!(failed(&test.send(TurnEvent::Opencode(lost))), "session_ended");
}
