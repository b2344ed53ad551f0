//! Identifiers for prompts, made by us so that answers can be told apart.
//!
//! The form is OpenCode's own (read off its recordings): the low 48 bits of `milliseconds × 4096 + counter` as 12 hex
//! digits, then 14 letters and digits. The counter begins at 1 there; ours is 0, so the id sorts before everything
//! that the server makes of the prompt.

use crate::env::{Env, UnixMillis};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SUFFIX: usize = 14;

/// A message id for a prompt that is sent now.
pub fn new(env: &impl Env) -> String {
    let mut random = [0; SUFFIX];
    env.random(&mut random);
    format_id(env.now(), random)
}

fn format_id(now: UnixMillis, random: [u8; SUFFIX]) -> String {
    let moment = (now << 12) & ((1 << 48) - 1);
    let suffix: String = random.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % 62])).collect();
    format!("msg_{moment:012x}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_sorts_right_before_those_that_the_server_makes_in_the_same_millisecond() {
        // Recorded: a message created at 1795428256387 was called msg_207dd0a830013wYK7DvIH2uKPt.
        let ours = format_id(1_795_428_256_387, [61; SUFFIX]);
        assert_eq!(ours, "msg_207dd0a83000zzzzzzzzzzzzzz");
        assert!(*ours < *"msg_207dd0a830013wYK7DvIH2uKPt");
        assert!(format_id(1_795_428_256_386, [61; SUFFIX]) < ours);
    }
}
