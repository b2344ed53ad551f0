//! Why a call to OpenCode failed, whatever shape the server gave it.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

/// The longest part of a strange answer that an error shows (bytes).
const MAX_SNIPPET: usize = 200;
/// The longest message of the server's that an error repeats (bytes).
const MAX_MESSAGE: usize = 500;

/// Why a call to OpenCode failed. No variant ever holds the password or a provider's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The session, message or question does not exist.
    #[error("cannot {operation}: {message}")]
    NotFound {
        /// What was tried.
        operation: &'static str,
        /// What the server said.
        message: String,
    },
    /// The server does not know the route: it answered with its web page (200, `text/html`).
    #[error("cannot {operation}: this OpenCode version does not know the route; use version 1.18")]
    NoSuchRoute {
        /// What was tried.
        operation: &'static str,
    },
    /// The server refused the request as malformed. Another attempt cannot succeed.
    #[error("cannot {operation}: OpenCode refused the request ({status}): {message}")]
    BadRequest {
        /// What was tried.
        operation: &'static str,
        /// 400, 415 or another 4xx.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// The password was refused: something else answers on the server's port.
    #[error("cannot {operation}: the password was refused; does another server use the port?")]
    Unauthorized {
        /// What was tried.
        operation: &'static str,
    },
    /// The server failed, or is overloaded.
    #[error("cannot {operation}: OpenCode failed ({status}): {message}")]
    Server {
        /// What was tried.
        operation: &'static str,
        /// 5xx, or 429.
        status: u16,
        /// What the server said.
        message: String,
        /// Whether another attempt may succeed (a locked database is a 500 too).
        retryable: bool,
    },
    /// No connection: the request was never sent.
    #[error("cannot {operation}: OpenCode is not reachable: {reason}")]
    Unreachable {
        /// What was tried.
        operation: &'static str,
        /// What the network said.
        reason: String,
    },
    /// The connection broke while the request was on its way: it may have taken effect.
    #[error("cannot {operation}: the connection broke before the answer: {reason}")]
    Interrupted {
        /// What was tried.
        operation: &'static str,
        /// What the network said.
        reason: String,
    },
    /// No complete answer in time: the request may have taken effect.
    #[error("cannot {operation}: no answer within {}s", waited.as_secs_f32())]
    Timeout {
        /// What was tried.
        operation: &'static str,
        /// How long the worker waited.
        waited: Duration,
    },
    /// The answer is longer than the worker reads.
    #[error("cannot {operation}: the answer is longer than {limit} bytes")]
    TooLong {
        /// What was tried.
        operation: &'static str,
        /// What would have been read (bytes).
        limit: usize,
    },
    /// The answer is not what this route answers.
    #[error("cannot {operation}: unexpected answer: {problem}; it began with: {snippet}")]
    UnexpectedBody {
        /// What was tried.
        operation: &'static str,
        /// What is wrong with it.
        problem: String,
        /// How it begins, at most 200 bytes; withheld if it may hold keys.
        snippet: String,
    },
}

impl ApiError {
    /// Returns true if the same request may succeed a little later. Says nothing about whether it is safe to repeat:
    /// see [`ApiError::may_have_happened`].
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Server { retryable, .. } => *retryable,
            Self::Unreachable { .. } | Self::Interrupted { .. } | Self::Timeout { .. } => true,
            _ => false,
        }
    }

    /// Returns true if the server may have carried the request out all the same. A prompt must not be repeated then.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Interrupted { .. }
            | Self::Timeout { .. }
            | Self::TooLong { .. }
            | Self::UnexpectedBody { .. } => true,
            Self::Server { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Returns true if the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Turns an answer other than 2xx into an error.
    pub(crate) fn from_status(operation: &'static str, status: StatusCode, body: &[u8]) -> Self {
        let message = message_of(status, body);
        match status.as_u16() {
            401 => Self::Unauthorized { operation },
            404 => Self::NotFound { operation, message },
            code @ 429 => Self::Server { operation, status: code, message, retryable: true },
            code @ 500.. => Self::Server { operation, status: code, message, retryable: true },
            code => Self::BadRequest { operation, status: code, message },
        }
    }
}

/// The three shapes of OpenCode's errors (measured): `{"_tag"}`, `{"name","data":{"message"}}`, and with `message`
/// beside the tag on newer routes.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default, rename = "_tag")]
    tag: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    data: Option<ErrorData>,
}

#[derive(Deserialize)]
struct ErrorData {
    #[serde(default)]
    message: Option<String>,
}

fn message_of(status: StatusCode, body: &[u8]) -> String {
    let Ok(parsed) = serde_json::from_slice::<ErrorBody>(body) else {
        return if body.is_empty() { status.to_string() } else { snippet(body) };
    };
    let message = parsed.data.and_then(|d| d.message).or(parsed.message);
    let text = match (parsed.name.or(parsed.tag), message) {
        (Some(name), Some(message)) => format!("{name}: {message}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => snippet(body),
    };
    cut(&text.replace('\n', " "), MAX_MESSAGE).to_owned()
}

/// Returns how an answer begins, in one line of at most 200 bytes.
pub(crate) fn snippet(body: &[u8]) -> String {
    let head = &body[..body.len().min(MAX_SNIPPET)];
    let text: String =
        String::from_utf8_lossy(head).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&text, MAX_SNIPPET).to_owned()
}

/// The longest beginning of a text that has at most `limit` bytes.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    let fits = |&end: &usize| end <= limit;
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(fits).last();
    if text.len() <= limit { text } else { &text[..end.unwrap_or(0)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, expected: &str) {
        let error = ApiError::from_status("do it", StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn every_shape_of_error_becomes_one_sentence() {
        check(
            404,
            r#"{"name":"NotFoundError","data":{"message":"Session not found: ses_1"}}"#,
            "cannot do it: NotFoundError: Session not found: ses_1",
        );
        check(
            400,
            r#"{"_tag":"BadRequest"}"#,
            "cannot do it: OpenCode refused the request (400): BadRequest",
        );
        check(
            400,
            r#"{"name":"BadRequest","data":{"message":"Missing key\n  at [\"parts\"]","kind":"Payload"}}"#,
            "cannot do it: OpenCode refused the request (400): BadRequest: Missing key   at [\"parts\"]",
        );
        check(
            500,
            r#"{"name":"UnknownError","data":{"message":"Unexpected server error.","ref":"err_67ba825a"}}"#,
            "cannot do it: OpenCode failed (500): UnknownError: Unexpected server error.",
        );
        check(401, "", "cannot do it: the password was refused; does another server use the port?");
        check(503, "", "cannot do it: OpenCode failed (503): 503 Service Unavailable");
        check(415, "Unsupported", "cannot do it: OpenCode refused the request (415): Unsupported");
    }

    #[test]
    fn a_snippet_is_one_line_of_at_most_200_bytes_and_valid_text() {
        let long = "ä\n".repeat(300);
        let text = snippet(long.as_bytes());
        assert!(text.len() <= 200 && !text.contains('\n'), "{text:?}");
        assert_eq!(snippet(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn what_may_have_taken_effect_is_told_apart_from_what_was_never_sent() {
        let unreachable = ApiError::Unreachable { operation: "x", reason: String::new() };
        let broken = ApiError::Interrupted { operation: "x", reason: String::new() };
        assert!(unreachable.is_retryable() && !unreachable.may_have_happened());
        assert!(broken.is_retryable() && broken.may_have_happened());
        let refused = ApiError::from_status("x", StatusCode::TOO_MANY_REQUESTS, b"");
        assert!(refused.is_retryable() && !refused.may_have_happened());
    }
}
