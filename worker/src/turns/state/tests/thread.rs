use super::*;

/// A message that OpenCode puts into the session by itself.
fn by_opencode(id: &str) -> MessageInfo {
    MessageInfo { id: id.into(), ..user_message().info }
}

fn request(id: &str) -> Part {
    let kind = PartKind::Compaction { auto: true };
    Part { id: format!("prt_of_{id}"), message: id.into(), session: session(), kind }
}

fn answer_to(id: &str, parent: &str, finish: Option<&str>) -> MessageInfo {
    let completed = finish.is_some();
    MessageInfo { parent: Some(parent.into()), ..step(id, completed, finish) }
}

fn text_of(message: &str, text: &str) -> Part {
    Part { id: format!("prt_{message}"), message: message.into(), ..text_part(text, true) }
}

/// A step that called tools and filled the context, the summary, and what lets the model go on.
fn compacted() -> Vec<TurnEvent> {
    let summary = |finish| MessageInfo { is_summary: true, ..answer_to("msg_4", "msg_3", finish) };
    vec![
        busy(),
        event(EventKind::Message(answer_to(ANSWER, PROMPT, None))),
        event(EventKind::Part(text_of(ANSWER, "before"))),
        event(EventKind::Message(answer_to(ANSWER, PROMPT, Some("tool-calls")))),
        event(EventKind::Message(by_opencode("msg_3"))),
        event(EventKind::Part(request("msg_3"))),
        busy(),
        event(EventKind::Message(summary(None))),
        event(EventKind::Part(text_of("msg_4", "SUMMARY"))),
        // News of older messages come at any time (measured).
        event(EventKind::Message(by_opencode(PROMPT))),
        event(EventKind::Message(summary(Some("stop")))),
        event(EventKind::Message(by_opencode("msg_5"))),
        event(EventKind::Message(by_opencode("msg_3"))),
        busy(),
    ]
}

#[test]
fn what_follows_a_summary_is_part_of_the_reply_and_the_summary_is_not() {
    let mut test = Test::after(compacted());
    test.send(event(EventKind::Message(answer_to("msg_6", "msg_5", None))));
    test.send(event(EventKind::Part(text_of("msg_6", "after"))));
    test.send(event(EventKind::Message(answer_to("msg_6", "msg_5", Some("stop")))));
    assert_eq!(test.send(idle()), [COMPLETED]);
    assert_eq!(test.rest(), "before\n\nafter");
}

#[test]
fn a_reply_is_not_whole_while_it_is_being_summed_up() {
    for known in 4..compacted().len() {
        let mut test = Test::after(compacted().into_iter().take(known));
        let last = test.send(event(EventKind::Message(answer_to(ANSWER, PROMPT, Some("stop")))));
        assert_eq!(last, []);
        let is_asked = known > 5;
        assert_eq!(test.turn.is_answered(), !is_asked, "after {known} events");
    }
}

#[test]
fn a_summary_that_a_gap_swallowed_is_found_when_the_messages_are_read_again() {
    let mut test = Test::after(compacted().into_iter().take(4));
    test.gap();
    let with = |info: MessageInfo, parts: Vec<Part>| Message { info, parts };
    let messages = vec![
        with(answer_to("msg_0", "msg_00", Some("stop")), vec![text_of("msg_0", "of an earlier turn")]),
        user_message(),
        with(answer_to(ANSWER, PROMPT, Some("tool-calls")), vec![text_of(ANSWER, "before")]),
        with(by_opencode("msg_3"), vec![request("msg_3")]),
        with(
            MessageInfo { is_summary: true, ..answer_to("msg_4", "msg_3", Some("stop")) },
            vec![text_of("msg_4", "SUMMARY")],
        ),
        with(by_opencode("msg_5"), vec![]),
        with(answer_to("msg_6", "msg_5", None), vec![]),
    ];
    assert_eq!(test.send(TurnEvent::Reread(Ok(messages))), []);
    test.send(event(EventKind::Part(text_of("msg_6", "after"))));
    test.send(event(EventKind::Message(answer_to("msg_6", "msg_5", Some("stop")))));
    let actions = test.send(idle());
    assert_eq!(actions, [COMPLETED]);
    assert_eq!(test.rest(), "before\n\nafter");
}

#[test]
fn a_prompt_of_somebody_else_is_not_taken_for_a_continuation() {
    let mut test = Test::after(compacted().into_iter().take(4));
    test.send(event(EventKind::Message(by_opencode("msg_7"))));
    test.send(event(EventKind::Message(answer_to("msg_8", "msg_7", None))));
    test.send(event(EventKind::Part(text_of("msg_8", "stranger"))));
    assert_eq!(test.rest(), "before");
}
