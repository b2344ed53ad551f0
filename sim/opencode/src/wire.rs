//! The JSON shapes of sessions, messages and parts, as recorded from 1.18.33.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The version that the fake reports, and whose behaviour it has.
pub const VERSION: &str = "1.18.33";

/// Identifies the project; the real one is a git root commit.
pub(super) const PROJECT_ID: &str = "3b77b4327c7c0df7b7cf065870b2c0f652b91925";
/// The snapshot (a git tree) that steps refer to. Nothing in the fake changes files, so it never changes.
pub(super) const SNAPSHOT: &str = "ef3dbf1772ca559368d517db5c3279ba81cecf52";

/// A session, as `GET /session/{id}` returns it. Times are Unix milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) slug: String,
    #[serde(rename = "projectID")]
    pub(super) project_id: &'static str,
    pub(super) directory: String,
    pub(super) path: &'static str,
    #[serde(rename = "parentID", skip_serializing_if = "Option::is_none")]
    pub(super) parent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<Summary>,
    pub(super) cost: u32,
    pub(super) tokens: Tokens,
    pub(super) title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<SessionModel>,
    pub(super) version: &'static str,
    pub(super) time: SessionTime,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct SessionTime {
    pub(super) created: u64,
    pub(super) updated: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) archived: Option<u64>,
}

/// What a session changed on disk: always nothing here.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Summary {
    additions: u32,
    deletions: u32,
    files: u32,
}

/// A session names its model with `id`, a message with `modelID`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionModel {
    pub(super) id: String,
    #[serde(rename = "providerID")]
    pub(super) provider_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
}

/// A model as a prompt and a message name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Such as `fake`.
    #[serde(rename = "providerID")]
    pub provider_id: String,
    /// Such as `m1`.
    #[serde(rename = "modelID")]
    pub model_id: String,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Tokens {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<u32>,
    pub(super) input: u32,
    pub(super) output: u32,
    pub(super) reasoning: u32,
    pub(super) cache: CacheTokens,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct CacheTokens {
    read: u32,
    write: u32,
}

/// A message with its parts, as `GET /session/{id}/message` returns it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Message {
    pub(super) info: Info,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Info {
    User(UserInfo),
    Assistant(Box<AssistantInfo>),
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct UserInfo {
    pub(super) id: String,
    #[serde(rename = "sessionID")]
    pub(super) session_id: String,
    pub(super) role: &'static str,
    pub(super) time: MessageTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<UserSummary>,
    pub(super) agent: String,
    pub(super) model: Model,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct UserSummary {
    diffs: [(); 0],
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct AssistantInfo {
    pub(super) id: String,
    #[serde(rename = "sessionID")]
    pub(super) session_id: String,
    pub(super) role: &'static str,
    pub(super) time: MessageTime,
    #[serde(rename = "parentID")]
    pub(super) parent_id: String,
    #[serde(flatten)]
    pub(super) model: Model,
    pub(super) mode: String,
    pub(super) agent: String,
    pub(super) path: Paths,
    pub(super) cost: u32,
    pub(super) tokens: Tokens,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) finish: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Value>,
    /// Whether it sums up what was said before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<bool>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct MessageTime {
    pub(super) created: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) completed: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Paths {
    pub(super) cwd: String,
    pub(super) root: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Part {
    pub(super) id: String,
    #[serde(rename = "sessionID")]
    pub(super) session_id: String,
    #[serde(rename = "messageID")]
    pub(super) message_id: String,
    #[serde(flatten)]
    pub(super) body: PartBody,
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum PartBody {
    StepStart {
        snapshot: &'static str,
    },
    /// `text` is empty until the part ends: deltas are not stored.
    Text {
        text: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        time: Option<Span>,
        /// Put there by the server itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        synthetic: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<Value>,
    },
    /// What a user message consists of that asks for a summary.
    Compaction {
        auto: bool,
        overflow: bool,
    },
    Reasoning {
        text: String,
        time: Span,
    },
    Tool {
        tool: &'static str,
        #[serde(rename = "callID")]
        call_id: String,
        state: Value,
    },
    StepFinish {
        reason: &'static str,
        snapshot: &'static str,
        tokens: Tokens,
        cost: u32,
    },
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Span {
    pub(super) start: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<u64>,
}

impl Info {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::User(info) => &info.id,
            Self::Assistant(info) => &info.id,
        }
    }

    pub(super) fn created(&self) -> u64 {
        match self {
            Self::User(info) => info.time.created,
            Self::Assistant(info) => info.time.created,
        }
    }
}

impl Message {
    /// All text parts, one after the other.
    pub(super) fn text(&self) -> String {
        self.parts.iter().filter_map(|part| part.body.text()).collect()
    }
}

impl PartBody {
    /// Text of a person or of a model.
    pub(super) fn of_text(text: String, time: Option<Span>) -> Self {
        Self::Text { text, time, synthetic: None, metadata: None }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// The shape of `PermissionRequest` in the API description.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PermissionRequest {
    pub(super) id: String,
    #[serde(rename = "sessionID")]
    pub(super) session_id: String,
    pub(super) permission: &'static str,
    pub(super) patterns: Vec<String>,
    pub(super) metadata: Value,
    pub(super) always: Vec<String>,
    pub(super) tool: ToolRef,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ToolRef {
    #[serde(rename = "messageID")]
    pub(super) message_id: String,
    #[serde(rename = "callID")]
    pub(super) call_id: String,
}

/// The error whose cause the server does not name.
pub(super) fn unknown_error(message: &str) -> Value {
    json!({ "name": "UnknownError", "data": { "message": message } })
}
