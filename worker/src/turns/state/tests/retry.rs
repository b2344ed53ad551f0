use super::*;

fn refusal(attempt: u64) -> TurnEvent {
    let message = "Rate limit reached: 3 requests per day\nat <anonymous>".into();
    event(EventKind::Status(SessionStatus::Retry { attempt, message }))
}

/// The end of an answer that was aborted while the model was to be asked again: without an error (measured).
fn cut_off() -> TurnEvent {
    event(EventKind::Message(MessageInfo { finish: None, ..info(true, None) }))
}

#[test]
fn a_model_that_refuses_again_and_again_is_given_up_and_its_words_are_told() {
    let mut test = Test::after([busy(), answer(false)]);
    for attempt in 1..=8 {
        assert_eq!(test.send(refusal(attempt)), []);
        assert_eq!(test.send(busy()), []);
    }
    assert_eq!(test.send(refusal(9)), [TurnAction::Abort]);
    let actions = test.send(cut_off());
    let [TurnAction::End(Ending::Failed(failure))] = &*actions else { panic!("{actions:?}") };
    assert_eq!(failure.code, "model_unavailable");
    let said = "asked it again and again: Rate limit reached: 3 requests per day. Send";
    assert!(failure.message.contains(said), "{}", failure.message);
}

#[test]
fn a_model_that_is_to_be_asked_again_in_an_hour_is_given_up_when_the_time_is_over() {
    let mut test = Test::after([busy(), answer(false), refusal(1)]);
    let mut actions = test.wait();
    while actions == [TurnAction::ListQuestions] {
        test.send(TurnEvent::Asking(Ok(vec![])));
        test.send(TurnEvent::Status(Ok(Some(SessionStatus::Busy))));
        actions = test.wait();
    }
    assert_eq!(actions, [TurnAction::Abort]);
    assert_eq!(test.now, 3 + 120_000);
    assert_eq!(failed(&test.send(cut_off())), "model_unavailable");
}

#[test]
fn a_model_that_answers_in_the_end_is_followed_and_its_refusals_are_forgotten() {
    let mut test = Test::after([busy(), answer(false), refusal(7), busy(), part("", false)]);
    test.now += 119_000;
    assert!(matches!(test.send(delta("a"))[..], []));
    assert!(matches!(test.wait()[..], [TurnAction::Write(_)]));
    test.send(TurnEvent::Written(Written::Written));
    test.now += 10_000;
    assert_eq!(test.send(refusal(1)), []);
    test.send(part("a", true));
    assert_eq!(test.send(answer(true)), []);
    assert_eq!(test.send(idle()), [COMPLETED]);
}

#[test]
fn a_silence_after_a_refusal_is_laid_to_the_model() {
    let mut settings = Settings::default();
    settings.turns.idle_timeout = Duration::from_secs(20);
    let mut test = Test { turn: Turn::new(PROMPT.into(), &settings, Duration::ZERO), now: 0 };
    for event in [busy(), answer(false), refusal(1)] {
        assert_eq!(test.send(event), []);
    }
    assert_eq!(test.wait(), [TurnAction::Abort]);
    assert_eq!(failed(&test.send(cut_off())), "model_unavailable");
}
