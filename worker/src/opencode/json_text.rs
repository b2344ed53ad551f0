//! A string's text out of a JSON document, in the room that the document has: it may be megabytes. Pure.

use std::ops::Range;

/// Where a JSON document does not hold a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoText {
    #[error("it is no string")]
    NoString,
    #[error("an escape sequence is no character")]
    NoCharacter,
}

/// Returns where `inner`, which is borrowed from `outer`, stands in it.
pub(super) fn place_of(inner: &str, outer: &str) -> Range<usize> {
    let start = inner.as_ptr().addr() - outer.as_ptr().addr();
    start..start + inner.len()
}

/// The text of the string at `place` (with its quotes) in `document`, which was read as JSON before.
pub(super) fn take(document: String, place: Range<usize>) -> Result<String, NoText> {
    let mut bytes = document.into_bytes();
    let json = &bytes[place.clone()];
    if json.len() < 2 || !json.starts_with(b"\"") {
        return Err(NoText::NoString);
    }
    let (mut from, end, mut to) = (place.start + 1, place.end - 1, 0);
    // What is written never reaches what is still to be read: an escape sequence is longer than its character.
    while from < end {
        let run = bytes[from..end].iter().position(|byte| *byte == b'\\').unwrap_or(end - from);
        bytes.copy_within(from..from + run, to);
        (from, to) = (from + run, to + run);
        if from < end {
            let (character, length) = unescape(&bytes[from..end]).ok_or(NoText::NoCharacter)?;
            from += length;
            to += character.encode_utf8(&mut bytes[to..]).len();
        }
    }
    bytes.truncate(to);
    bytes.shrink_to_fit();
    String::from_utf8(bytes).map_err(|_| NoText::NoCharacter)
}

/// The character of the escape sequence with which `json` begins, and the sequence's length.
fn unescape(json: &[u8]) -> Option<(char, usize)> {
    let simple = |character| Some((character, 2));
    match json.get(1)? {
        b'n' => simple('\n'),
        b't' => simple('\t'),
        b'r' => simple('\r'),
        b'b' => simple('\u{8}'),
        b'f' => simple('\u{c}'),
        b'u' => {
            let first = unit(json)?;
            let units = [Some(first), json.get(6..).and_then(unit)];
            let character = char::decode_utf16(units.into_iter().flatten()).next()?.ok()?;
            Some((character, 6 * character.len_utf16()))
        }
        other => simple(char::from(*other)),
    }
}

/// The code unit of `\uXXXX`.
fn unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(json: &str, expected: Result<&str, NoText>) {
        let document = format!("{{\"text\":{json}}}");
        let place = place_of(&document[8..document.len() - 1], &document);
        assert_eq!(take(document, place).as_deref().map_err(|error| *error), expected, "{json}");
    }

    #[test]
    fn escape_sequences_become_their_characters() {
        check(r#""""#, Ok(""));
        check(r#""plain ä""#, Ok("plain ä"));
        check(r#""\"\\\/\b\f\n\r\t""#, Ok("\"\\/\u{8}\u{c}\n\r\t"));
        check(r#""\u00e4\u20AC\ud83e\udd80.""#, Ok("ä€🦀."));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        check("7", Err(NoText::NoString));
        check("null", Err(NoText::NoString));
        check(r#""\ud83e""#, Err(NoText::NoCharacter));
        check(r#""\ud83ex\udd80""#, Err(NoText::NoCharacter));
        check(r#""\udd80\ud83e""#, Err(NoText::NoCharacter));
    }

    fn escaped(text: &str) -> String {
        let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        format!("\"{}\"", units.collect::<String>())
    }

    proptest! {
        #[test]
        fn every_text_survives_both_ways_of_writing_it(text in any::<String>()) {
            check(&serde_json::to_string(&text).unwrap(), Ok(&text));
            check(&escaped(&text), Ok(&text));
        }

        #[test]
        fn it_agrees_with_serde_about_what_a_text_is(inner in r#"([ -~]|\\["\\/bfnrt]|\\u(00|d8|dc)[0-9a-f]{2}){0,12}"#) {
            let json = format!("\"{inner}\"");
            // What is no JSON at all does not come this far.
            if serde_json::from_str::<&serde_json::value::RawValue>(&json).is_ok() {
                let theirs = serde_json::from_str::<String>(&json).ok();
                let place = 0..json.len();
                prop_assert_eq!(take(json, place).ok(), theirs);
            }
        }
    }
}
