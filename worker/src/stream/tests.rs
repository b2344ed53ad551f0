use proptest::prelude::*;

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn reply() -> Reply {
    Reply::new(&TurnSettings::default())
}

/// Everything that is left, as the backend would store it.
fn drain(reply: &mut Reply) -> String {
    let mut text = String::new();
    loop {
        if reply.is_writing() {
            reply.written();
        }
        let (chunk, last) = reply.finish(ms(0));
        text += &chunk.text;
        if last {
            return text;
        }
    }
}

#[test]
fn deltas_are_collected_until_the_interval_has_passed() {
    let mut reply = reply();
    reply.begin("p");
    reply.delta("p", "Hel", ms(0));
    assert_eq!(reply.due(ms(249)), None);
    reply.delta("p", "lo", ms(249));
    assert_eq!(reply.due(ms(250)), Some(Chunk { sequence: 0, text: "Hello".into() }));
}

#[test]
fn many_bytes_do_not_wait_for_the_interval() {
    let mut reply = reply();
    reply.begin("p");
    reply.delta("p", &"x".repeat(4_096), ms(0));
    assert_eq!(reply.due(ms(0)).map(|chunk| chunk.text.len()), Some(4_096));
}

#[test]
fn nothing_is_handed_out_while_a_chunk_is_being_written() {
    let mut reply = reply();
    reply.begin("p");
    reply.delta("p", "a", ms(0));
    assert!(reply.due(ms(250)).is_some());
    reply.delta("p", "b", ms(251));
    assert_eq!(reply.due_at(), None);
    reply.written();
    assert_eq!(reply.due(ms(501)), Some(Chunk { sequence: 1, text: "b".into() }));
}

#[test]
fn after_a_gap_the_whole_text_supplies_the_rest_and_stray_deltas_are_dropped() {
    let mut reply = reply();
    reply.begin("p");
    reply.delta("p", "one ", ms(0));
    reply.gap();
    reply.delta("p", "four", ms(1));
    assert!(reply.is_incomplete());
    reply.end("p", "one two three four", ms(2));
    assert_eq!(drain(&mut reply), "one two three four");
}

#[test]
fn a_whole_text_that_contradicts_its_deltas_is_remembered_and_what_was_written_stays() {
    for whole in ["two three", "on", "", "one-"] {
        let mut reply = reply();
        reply.begin("p");
        reply.delta("p", "one two", ms(0));
        reply.end("p", whole, ms(1));
        assert_eq!(reply.diverged(), Some(&Diverged { part: "p".into(), taken: 7 }), "{whole:?}");
        reply.begin("q");
        reply.delta("q", "more", ms(2));
        assert_eq!(drain(&mut reply), "one two\n\nmore");
    }
}

#[test]
fn a_whole_text_may_end_in_other_white_space_than_its_deltas() {
    for whole in ["Hi", "Hi\n", "Hi \n\n", "Hi \n\n\n"] {
        let mut reply = reply();
        reply.begin("p");
        for delta in ["Hi", " \n", "\n"] {
            reply.delta("p", delta, ms(0));
        }
        reply.end("p", whole, ms(1));
        assert_eq!(reply.diverged(), None, "{whole:?}");
        assert!(reply.is_whole());
    }
}

#[test]
fn a_reply_of_more_parts_than_are_remembered_is_cut_and_says_so() {
    let mut reply = reply();
    for number in 0..MAX_PARTS + 10 {
        let id = format!("p{number}");
        reply.begin(&id);
        reply.end(&id, "x", ms(0));
    }
    assert_eq!(reply.parts.len(), MAX_PARTS);
    let text = drain(&mut reply);
    assert!(text.ends_with(CUT_MARKER) && text.matches('x').count() == MAX_PARTS, "{}", text.len());
}

#[test]
fn text_parts_are_separated_by_an_empty_line_and_keep_their_order() {
    let mut reply = reply();
    reply.begin("p1");
    reply.delta("p1", "first", ms(0));
    reply.begin("p2");
    reply.delta("p2", "sec", ms(0));
    reply.end("p2", "second", ms(1));
    assert!(reply.is_incomplete(), "the second part ended before the first");
    reply.reread([("p1", Some("first!")), ("p2", Some("second"))].into_iter(), ms(2));
    assert!(!reply.is_incomplete());
    assert_eq!(drain(&mut reply), "first!\n\nsecond");
}

#[test]
fn a_reply_that_is_too_long_is_cut_at_a_character_with_a_marker() {
    let mut reply = Reply::new(&TurnSettings { max_reply_bytes: 5, ..TurnSettings::default() });
    reply.begin("p");
    reply.delta("p", "abcdé", ms(0));
    reply.delta("p", "more", ms(0));
    assert_eq!(drain(&mut reply), format!("abcd{CUT_MARKER}"));
}

proptest! {
    #[test]
    fn chunks_concatenate_to_the_reply_wherever_the_stream_breaks(
        words in prop::collection::vec("[a-zé☃ ]{0,9}", 0..60),
        gap_at in 0_usize..80,
        written_every in 1_usize..5,
    ) {
        let whole = words.concat();
        let mut reply = reply();
        let mut stored = String::new();
        let mut expected_sequence = 0;
        reply.begin("p");
        for (index, word) in words.iter().enumerate() {
            let now = ms(100 * index as u64);
            if index == gap_at {
                reply.gap();
            }
            reply.delta("p", word, now);
            if let Some(chunk) = reply.due(now) {
                prop_assert_eq!(chunk.sequence, expected_sequence);
                expected_sequence += 1;
                stored += &chunk.text;
                prop_assert!(whole.starts_with(&stored));
            }
            if reply.is_writing() && index % written_every == 0 {
                reply.written();
            }
        }
        reply.end("p", &whole, ms(60_000));
        stored += &drain(&mut reply);
        prop_assert_eq!(stored, whole);
    }
}
