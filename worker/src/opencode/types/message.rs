//! Messages and their parts, as they come from `/session/{id}/message` and in events.

use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny},
};
use serde_json::value::RawValue;

use crate::opencode::{
    error::cut,
    id::{ModelRef, OpencodeSessionId},
};

/// A message with its parts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Message {
    /// All but the parts.
    pub info: MessageInfo,
    /// In order. The text of a part that is still being written is empty here: OpenCode stores no deltas (measured).
    #[serde(default)]
    pub parts: Vec<Part>,
}

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A person, through us.
    User,
    /// The model.
    Assistant,
    /// A role that this version of the worker does not know.
    #[serde(other)]
    Unknown,
}

/// A message without its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageInfo {
    /// Its id (`msg_…`); ids ascend with time.
    pub id: String,
    /// Its session.
    pub session: OpencodeSessionId,
    /// Who wrote it.
    pub role: Role,
    /// For an assistant's message, the user's message that it answers. With tools, several answer the same one.
    pub parent: Option<String>,
    /// When it was begun (milliseconds since the epoch).
    pub created: u64,
    /// When it was finished (milliseconds since the epoch). Never set if the server died in mid-reply.
    pub completed: Option<u64>,
    /// `stop` on the last message of a turn, `tool-calls` on those before; absent after an abort or error.
    pub finish: Option<String>,
    /// Why it failed.
    pub error: Option<RemoteError>,
    /// The model that wrote it, for an assistant's message.
    pub model: Option<Box<ModelRef>>,
    /// Whether it sums up what was said before, for the model's own use. It is no part of a reply.
    pub is_summary: bool,
}

#[derive(Deserialize)]
struct RawInfo<'a> {
    id: String,
    #[serde(rename = "sessionID")]
    session: OpencodeSessionId,
    role: Role,
    #[serde(default, rename = "parentID")]
    parent: Option<String>,
    time: RawTime,
    #[serde(default)]
    finish: Option<String>,
    #[serde(default, borrow)]
    error: Option<RawError<'a>>,
    #[serde(default, rename = "providerID")]
    provider: Option<String>,
    #[serde(default, rename = "modelID")]
    model: Option<String>,
    /// `true` on a summary; an object on users' messages.
    #[serde(default, borrow)]
    summary: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawTime {
    created: u64,
    #[serde(default)]
    completed: Option<u64>,
}

impl<'de> Deserialize<'de> for MessageInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawInfo::deserialize(deserializer)?;
        Ok(Self {
            id: raw.id,
            session: raw.session,
            role: raw.role,
            parent: raw.parent,
            created: raw.time.created,
            completed: raw.time.completed,
            finish: raw.finish,
            error: raw.error.map(RemoteError::from),
            model: raw.provider.zip(raw.model).map(|(provider, model)| ModelRef { provider, model }.into()),
            is_summary: raw.summary.is_some_and(|summary| summary.get() == "true"),
        })
    }
}

/// A failure that OpenCode reports inside a message or a `session.error` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteError {
    /// `APIError`, `MessageAbortedError`, `ProviderAuthError`, `UnknownError`, …
    pub name: String,
    /// For people, at most [`RemoteError::MAX_MESSAGE`] bytes of its first line.
    pub message: String,
    /// The status that the model's provider answered with.
    pub status: Option<u16>,
    /// Whether OpenCode calls it worth another attempt.
    pub retryable: bool,
}

#[derive(Deserialize)]
struct RawError<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default, borrow)]
    data: RawErrorData<'a>,
}

#[derive(Default, Deserialize)]
struct RawErrorData<'a> {
    #[serde(default, borrow)]
    message: Cow<'a, str>,
    #[serde(default, rename = "statusCode")]
    status: Option<u16>,
    #[serde(default, rename = "isRetryable")]
    retryable: bool,
}

impl RemoteError {
    /// The longest message kept (bytes). Some hold a stack trace.
    pub const MAX_MESSAGE: usize = 500;

    /// An error of which only a description is known.
    pub(crate) fn unnamed(message: &str) -> Self {
        Self { name: "UnknownError".into(), message: message.into(), status: None, retryable: false }
    }

    /// Returns true if the model does not exist. OpenCode says so in words only (measured).
    pub fn is_unknown_model(&self) -> bool {
        let without_class = self.message.trim_start_matches("ProviderModelNotFoundError: ");
        self.name == "ProviderModelNotFoundError" || without_class.starts_with("Model not found: ")
    }

    /// Returns true if it reports our own abort rather than a failure.
    pub fn is_abort(&self) -> bool {
        self.name == "MessageAbortedError"
    }
}

impl From<RawError<'_>> for RemoteError {
    fn from(raw: RawError<'_>) -> Self {
        let first_line = raw.data.message.lines().next().unwrap_or_default();
        Self {
            name: raw.name.into_owned(),
            message: cut(first_line, Self::MAX_MESSAGE).into(),
            status: raw.data.status,
            retryable: raw.data.retryable,
        }
    }
}

impl<'de> Deserialize<'de> for RemoteError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawError::deserialize(deserializer).map(Self::from)
    }
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its id (`prt_…`).
    pub id: String,
    /// The message that it belongs to.
    pub message: String,
    /// The session that it belongs to.
    pub session: OpencodeSessionId,
    /// What it holds.
    pub kind: PartKind,
}

impl Part {
    /// Its text, if it is one of the reply's texts and final.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            PartKind::Text { text, ended: true, .. } => Some(text),
            _ => None,
        }
    }

    /// Returns where its text goes, if it is to be kept.
    pub(in crate::opencode) fn text_mut(&mut self) -> Option<&mut String> {
        match &mut self.kind {
            PartKind::Text { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// What a part holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartKind {
    /// Text of the reply, or of the prompt.
    Text {
        /// All of it once `ended`; empty before that (deltas are not stored).
        text: String,
        /// Whether it is final. A user's text has no times and counts as final.
        ended: bool,
        /// Put there by OpenCode itself, not by the model or a person.
        synthetic: bool,
    },
    /// The model's thoughts. They are no part of the reply, and not kept.
    Reasoning,
    /// A tool at work.
    Tool {
        /// Its name, such as `bash`.
        tool: String,
        /// `pending`, `running`, `completed` or `error`.
        status: String,
    },
    /// The user's message that it belongs to is none of a person: it asks for a summary, because the model's context is
    /// full.
    Compaction {
        /// Whether OpenCode asked by itself, and goes on afterwards.
        auto: bool,
    },
    /// Anything else: steps, snapshots, patches, files.
    Other,
}

/// A part whose text is still JSON.
#[derive(Deserialize)]
pub(in crate::opencode) struct RawPart<'a> {
    id: String,
    #[serde(rename = "messageID")]
    message: String,
    #[serde(rename = "sessionID")]
    session: OpencodeSessionId,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    /// A string with its quotes.
    #[serde(default, borrow)]
    pub(in crate::opencode) text: Option<&'a RawValue>,
    #[serde(default)]
    synthetic: bool,
    #[serde(default)]
    time: Option<PartTime>,
    #[serde(default)]
    tool: String,
    #[serde(default)]
    state: Option<ToolState>,
    #[serde(default)]
    auto: bool,
}

#[derive(Deserialize)]
struct PartTime {
    #[serde(default)]
    end: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ToolState {
    #[serde(default)]
    status: String,
}

impl RawPart<'_> {
    /// All of it but the text, which is empty.
    pub(in crate::opencode) fn without_text(self) -> Part {
        let ended = self.time.is_none_or(|time| time.end.is_some());
        let kind = match &*self.kind {
            "text" => PartKind::Text { text: String::new(), ended, synthetic: self.synthetic },
            "reasoning" => PartKind::Reasoning,
            "tool" => {
                PartKind::Tool { tool: self.tool, status: self.state.map(|s| s.status).unwrap_or_default() }
            }
            "compaction" => PartKind::Compaction { auto: self.auto },
            _ => PartKind::Other,
        };
        Part { id: self.id, message: self.message, session: self.session, kind }
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawPart::deserialize(deserializer)?;
        let json = raw.text;
        let mut part = raw.without_text();
        if let (Some(text), Some(json)) = (part.text_mut(), json) {
            *text = serde_json::from_str(json.get()).map_err(D::Error::custom)?;
        }
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(fields: &str) -> PartKind {
        let text = format!(r#"{{"id":"prt_1","messageID":"msg_1","sessionID":"ses_1",{fields}}}"#);
        serde_json::from_str::<Part>(&text).unwrap().kind
    }

    #[test]
    fn a_text_part_is_final_when_it_has_an_end_or_no_times_at_all() {
        let ended = |fields: &str| matches!(part(fields), PartKind::Text { ended: true, .. });
        assert!(ended(r#""type":"text","text":"hi""#));
        assert!(ended(r#""type":"text","text":"hi","time":{"start":1,"end":2}"#));
        assert!(!ended(r#""type":"text","text":"","time":{"start":1}"#));
    }

    #[test]
    fn a_tool_part_keeps_its_name_and_status_but_not_its_output() {
        let fields =
            r#""type":"tool","tool":"bash","callID":"c","state":{"status":"completed","output":"…"}"#;
        assert_eq!(part(fields), PartKind::Tool { tool: "bash".into(), status: "completed".into() });
        assert_eq!(part(r#""type":"step-start","snapshot":"ef""#), PartKind::Other);
    }

    #[test]
    fn an_error_keeps_its_first_line_only() {
        let text = r#"{"name":"UnknownError","data":{"message":"Model not found: x.\n    at <anonymous>"}}"#;
        let error: RemoteError = serde_json::from_str(text).unwrap();
        assert_eq!(error.message, "Model not found: x.");
        assert!(!error.is_abort());
        let bare: RemoteError = serde_json::from_str(r#"{"name":"MessageAbortedError"}"#).unwrap();
        assert!(bare.is_abort());
    }

    #[test]
    fn a_summary_is_told_from_the_summary_of_what_a_user_changed() {
        let is_summary = |summary: &str| {
            let text = format!(
                r#"{{"id":"msg_1","sessionID":"ses_1","role":"assistant","time":{{"created":5}},"summary":{summary}}}"#
            );
            serde_json::from_str::<MessageInfo>(&text).unwrap().is_summary
        };
        assert!(is_summary("true") && !is_summary("false") && !is_summary(r#"{"diffs":[]}"#));
        assert_eq!(
            part(r#""type":"compaction","auto":true,"overflow":false"#),
            PartKind::Compaction { auto: true }
        );
    }

    #[test]
    fn an_unknown_model_is_told_from_its_words() {
        for (text, expected) in [
            ("Model not found: zzz/nope.", true),
            ("ProviderModelNotFoundError: Model not found: zzz/nope.", true),
            ("The model was not found to be helpful", false),
        ] {
            assert_eq!(RemoteError::unnamed(text).is_unknown_model(), expected, "{text}");
        }
    }

    #[test]
    fn a_message_that_a_crash_cut_off_has_no_completion() {
        let text = r#"{"info":{"id":"msg_1","sessionID":"ses_1","role":"assistant","time":{"created":5},
            "parentID":"msg_0","cost":0},"parts":[]}"#;
        let message: Message = serde_json::from_str(text).unwrap();
        assert_eq!((message.info.completed, message.info.parent.as_deref()), (None, Some("msg_0")));
    }
}
