//! The worker's identity: `machine_<id>:worker_<id>:<secret>`.

use std::{fmt, str::FromStr};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// The shortest secret that is accepted (characters). `worker init` makes one of 43.
pub const MIN_SECRET_LENGTH: usize = 32;
/// The longest part of a token that is accepted (characters).
const MAX_PART_LENGTH: usize = 128;

/// Who a worker is, and the secret that proves it.
#[derive(Clone)]
pub struct Token {
    /// The machine's id, made by the backend when a person adds a machine.
    pub machine_id: String,
    /// The worker's id, unique on its machine.
    pub worker_id: String,
    /// Known to this worker alone; the backend stores a hash of it.
    pub secret: SecretString,
}

/// Why a text is not a token. Messages never repeat the text: it may hold the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts.
    #[error("the token has {found} parts, not 3; it looks like `machine_<id>:worker_<id>:<secret>`")]
    Parts {
        /// How many parts were found.
        found: usize,
    },
    /// A part lacks its prefix, or is empty, too long or has other characters than letters, digits, `_` and `-`.
    #[error(
        "the token's {part} is malformed; it must be `{prefix}` and 1 to {MAX_PART_LENGTH} letters, digits, `_` or `-`"
    )]
    Part {
        /// Which part.
        part: &'static str,
        /// What it starts with.
        prefix: &'static str,
    },
    /// The secret is too short to be one.
    #[error("the token's secret has {found} characters; at least {MIN_SECRET_LENGTH} are needed")]
    ShortSecret {
        /// How many characters it has.
        found: usize,
    },
}

impl Token {
    /// Returns by what people can tell this secret from another one that claims the same name: the first 16 hexadecimal
    /// digits of its SHA-256, in groups of four. The backend's list of workers shows the same.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.expose_secret());
        let groups = digest.chunks(2).take(4).map(|pair| format!("{:02x}{:02x}", pair[0], pair[1]));
        groups.collect::<Vec<_>>().join("-")
    }
}

impl PartialEq for Token {
    /// For configs of one machine's operator: nobody measures how long it takes.
    fn eq(&self, other: &Self) -> bool {
        let parts = |token: &Self| (token.machine_id.clone(), token.worker_id.clone());
        parts(self) == parts(other) && self.expose_secret() == other.expose_secret()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().split(':').collect();
        let [machine, worker, secret] = parts[..] else {
            return Err(TokenError::Parts { found: parts.len() });
        };
        check_part("machine id", "machine_", machine)?;
        check_part("worker id", "worker_", worker)?;
        check_part("secret", "", secret)?;
        if secret.len() < MIN_SECRET_LENGTH {
            return Err(TokenError::ShortSecret { found: secret.len() });
        }
        Ok(Self { machine_id: machine.into(), worker_id: worker.into(), secret: secret.to_owned().into() })
    }
}

/// The text with the secret of each token in it cut out, for messages that repeat what somebody has written; and each
/// value that is called `secret`: Convex shows a call's arguments when it does not accept them.
pub fn redact(text: &str) -> String {
    let in_token = |c: char| is_legal(c) || c == ':';
    let tokens_redacted: String = text.split_inclusive(|c| !in_token(c)).map(redact_word).collect();
    let mut parts = tokens_redacted.split("secret");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "secret" + &redact_value(part))
}

/// Returns what follows the word `secret`.
fn redact_value(text: &str) -> String {
    let start = text.find(is_legal).unwrap_or(text.len());
    let end = text[start..].find(|c| !is_legal(c)).map_or(text.len(), |length| start + length);
    match end - start {
        MIN_SECRET_LENGTH.. => format!("{}[redacted]{}", &text[..start], &text[end..]),
        _ => text.to_owned(),
    }
}

/// At most one character, the last, is not a token's.
fn redact_word(word: &str) -> String {
    let colon = word.match_indices(':').nth(1).map_or(word.len(), |(colon, _)| colon);
    let end = word.trim_end_matches(|c| !is_legal(c)).len();
    if !word.contains("machine_") || end <= colon {
        return word.to_owned();
    }
    format!("{}:[redacted]{}", &word[..colon], &word[end..])
}

fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn check_part(part: &'static str, prefix: &'static str, text: &str) -> Result<(), TokenError> {
    let id = text.strip_prefix(prefix).unwrap_or_default();
    if id.is_empty() || id.len() > MAX_PART_LENGTH || !id.chars().all(is_legal) {
        return Err(TokenError::Part { part, prefix });
    }
    Ok(())
}

impl Token {
    /// The secret itself. For the wire only.
    pub fn expose_secret(&self) -> &str {
        self.secret.expose_secret()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:[redacted]", self.machine_id, self.worker_id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary;

    fn check(text: &str, expected: Result<(&str, &str), TokenError>) {
        let parsed = text.parse::<Token>();
        let parts = parsed.as_ref().map(|t| (t.machine_id.as_str(), t.worker_id.as_str()));
        assert_eq!(parts.map_err(Clone::clone), expected, "for {text:?}");
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    const TOKENS: [&str; 2] = [
        "machine_m1:worker_w1:0123456789abcdef0123456789abcdef",
        "secret = 'machine_m:worker_w:secret_0123456789'",
    ];

    proptest! {
        #[test]
        fn whatever_is_given_as_a_token_is_read_or_refused_and_never_shown(text in arbitrary::text(&TOKENS)) {
            match text.parse::<Token>() {
                Ok(token) => {
                    let shown = format!("{token:?}");
                    prop_assert!(!shown.contains(token.expose_secret()));
                }
                Err(error) => prop_assert!(text.chars().count() < 12 || !error.to_string().contains(&text)),
            }
            redact(&text);
        }
    }

    #[test]
    fn a_fingerprint_is_what_the_backend_shows() {
        // printf 0123456789abcdef0123456789abcdef | sha256sum
        let token: Token = "machine_m:worker_w:0123456789abcdef0123456789abcdef".parse().unwrap();
        assert_eq!(token.fingerprint(), "3eb1-bd43-9947-eb76");
    }

    #[test]
    fn a_token_has_a_machine_a_worker_and_a_secret() {
        check(&format!("machine_m1:worker_w1:{SECRET}"), Ok(("machine_m1", "worker_w1")));
        check(&format!("  machine_m1:worker_w1:{SECRET}\n"), Ok(("machine_m1", "worker_w1")));
    }

    #[test]
    fn a_token_of_the_wrong_form_is_refused_with_the_part_that_is_wrong() {
        check("machine_m1:worker_w1", Err(TokenError::Parts { found: 2 }));
        check(
            &format!("m1:worker_w1:{SECRET}"),
            Err(TokenError::Part { part: "machine id", prefix: "machine_" }),
        );
        check(
            &format!("machine_m1:worker_:{SECRET}"),
            Err(TokenError::Part { part: "worker id", prefix: "worker_" }),
        );
        check("machine_m1:worker_w1:short", Err(TokenError::ShortSecret { found: 5 }));
    }

    #[test]
    fn neither_debug_nor_errors_show_the_secret() {
        let token: Token = format!("machine_m1:worker_w1:{SECRET}").parse().unwrap();
        assert_eq!(format!("{token:?}"), "machine_m1:worker_w1:[redacted]");
        let error = format!("machine_m1:w:{SECRET}").parse::<Token>().unwrap_err();
        assert!(!error.to_string().contains(SECRET));
    }

    #[test]
    fn a_token_in_somebodys_text_is_redacted() {
        let redacted = |text: &str| redact(&text.replace("SECRET", SECRET));
        assert_eq!(
            redacted("token = 'machine_m:worker_w:SECRET'\n"),
            "token = 'machine_m:worker_w:[redacted]'\n"
        );
        assert_eq!(redacted("`machine_m:w:SECRET:x` 1:2:3"), "`machine_m:w:[redacted]` 1:2:3");
        assert_eq!(redacted("machine_m:w:SECRET"), "machine_m:w:[redacted]");
        assert_eq!(redacted("machine_m:w:[redacted]"), "machine_m:w:[redacted]");
        assert_eq!(redacted("line 3, column 1: machine_m1"), "line 3, column 1: machine_m1");
    }

    #[test]
    fn a_value_that_is_called_secret_is_redacted() {
        let redacted = |text: &str| redact(&text.replace("SECRET", SECRET));
        assert_eq!(
            redacted(r#"Object: {epoch: 1.0, secret: "SECRET", workerId: "w"}"#),
            r#"Object: {epoch: 1.0, secret: "[redacted]", workerId: "w"}"#
        );
        assert_eq!(redacted(r#"{"secret":"SECRET"}"#), r#"{"secret":"[redacted]"}"#);
        assert_eq!(redacted("the secret is too short; a secret"), "the secret is too short; a secret");
    }
}
