//! What OpenCode's HTTP API and its events consist of, reduced to what the worker needs.
//!
//! Shapes are those of OpenCode 1.18.33, measured. Unknown fields are ignored, because every release adds some.

mod message;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::id::{ModelRef, OpencodeSessionId};

pub(super) use message::RawPart;
pub use message::{Message, MessageInfo, Part, PartKind, RemoteError, Role};

/// The answer of `/global/health`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Health {
    /// Whether the server calls itself healthy.
    pub healthy: bool,
    /// The server's version, such as `1.18.33`.
    pub version: String,
}

impl Health {
    /// The first number of the version, if it is one.
    pub fn major(&self) -> Option<u32> {
        self.version.trim_start_matches('v').split('.').next()?.parse().ok()
    }
}

/// A session as OpenCode knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: OpencodeSessionId,
    /// Its title.
    #[serde(default)]
    pub title: String,
    /// The directory that it works in. Every session has one (measured); without it nobody's session is taken for ours.
    #[serde(default)]
    pub directory: Option<String>,
    /// The session that spawned it, if it is a child.
    #[serde(default, rename = "parentID")]
    pub parent: Option<OpencodeSessionId>,
    /// When it was made and last used.
    pub time: SessionTime,
}

/// When a session was made and last used. A rename moves neither (measured).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct SessionTime {
    /// Milliseconds since the epoch.
    pub created: u64,
    /// Milliseconds since the epoch.
    pub updated: u64,
}

/// What a session is doing. A session that `/session/status` does not list is idle.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SessionStatus {
    /// Nothing.
    Idle,
    /// It works on a prompt.
    Busy,
    /// The model's provider failed and OpenCode is going to ask again.
    Retry {
        /// Which attempt comes next.
        #[serde(default)]
        attempt: u64,
        /// What the provider said.
        #[serde(default)]
        message: String,
    },
    /// A state that this version of the worker does not know. Not idle.
    #[serde(other)]
    Unknown,
}

/// The sessions that are not idle.
pub(crate) type Statuses = BTreeMap<OpencodeSessionId, SessionStatus>;

/// A permission question.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PermissionAsked {
    /// Names the question (`per…`).
    pub id: String,
    /// The session whose tool asks; perhaps a child of the one that was prompted.
    #[serde(skip)]
    pub session: Option<OpencodeSessionId>,
    /// What is to be allowed, such as `bash`.
    #[serde(default)]
    pub permission: String,
    /// To what it would apply, as OpenCode's rules see it: one for each simple command of a script.
    #[serde(default)]
    pub patterns: Vec<String>,
    /// What the tool says of it, such as the whole `command`.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// The call for which it asks.
    #[serde(default)]
    pub tool: Option<ToolRef>,
}

/// Names a call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ToolRef {
    /// The message in which the model calls it (`msg…`).
    #[serde(rename = "messageID")]
    pub message: String,
    /// The model's name for the call.
    #[serde(rename = "callID")]
    pub call: String,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Which, such as `bash`.
    pub tool: String,
    /// What the model gives it.
    pub input: Map<String, Value>,
}

/// A message, of which only calls of tools are kept.
#[derive(Deserialize)]
pub(crate) struct ToolCalls {
    parts: Vec<MaybeToolCall>,
}

#[derive(Deserialize)]
struct MaybeToolCall {
    #[serde(default)]
    tool: Option<String>,
    #[serde(default, rename = "callID")]
    call: Option<String>,
    #[serde(default)]
    state: ToolState,
}

#[derive(Default, Deserialize)]
struct ToolState {
    #[serde(default)]
    status: String,
    #[serde(default)]
    input: Map<String, Value>,
}

impl ToolCalls {
    /// The call of this name, once its input is there: a call is stored without it at first (`pending`).
    pub(crate) fn named(self, call: &str) -> Option<ToolCall> {
        let part = self.parts.into_iter().find(|part| part.call.as_deref() == Some(call))?;
        if part.state.status == "pending" {
            return None;
        }
        Some(ToolCall { tool: part.tool?, input: part.state.input })
    }
}

/// The answer to a permission question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PermissionReply {
    /// Allow this one.
    Once,
    /// Allow this and all like it, until the server ends.
    Always,
    /// Refuse.
    Reject,
}

/// A permission question that waits for its answer, as `/permission` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PendingPermission {
    /// The session whose tool asks; perhaps a child of the one that was prompted.
    #[serde(rename = "sessionID")]
    pub session: OpencodeSessionId,
    /// The question.
    #[serde(flatten)]
    pub asked: PermissionAsked,
}

/// `/config/providers`, of which only identifiers are kept: the answer also holds the providers' keys in clear text.
#[derive(Deserialize)]
pub(crate) struct Providers {
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
struct Provider {
    id: String,
    #[serde(default)]
    options: Value,
    #[serde(default)]
    models: BTreeMap<String, IgnoredAny>,
}

impl Providers {
    /// Returns true if somebody has logged in to one of them, or configured one. OpenCode's own, `opencode`, is always
    /// there, with the key `public` unless somebody has logged in to it (measured).
    pub(crate) fn has_login(&self) -> bool {
        let has_key = |p: &Provider| p.options["apiKey"].as_str().is_some_and(|key| key != "public");
        self.providers.iter().any(|p| p.id != "opencode" || has_key(p))
    }

    /// All models, in order.
    pub(crate) fn into_models(self) -> Vec<ModelRef> {
        let models = |p: Provider| {
            let provider = p.id;
            p.models.into_keys().map(move |model| ModelRef { provider: provider.clone(), model })
        };
        let mut all: Vec<ModelRef> = self.providers.into_iter().flat_map(models).collect();
        all.sort();
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary;

    #[test]
    fn an_unknown_status_is_not_taken_for_idle() {
        let parse = |text| serde_json::from_str::<SessionStatus>(text).unwrap();
        assert_eq!(parse(r#"{"type":"busy"}"#), SessionStatus::Busy);
        assert_eq!(parse(r#"{"type":"thinking","x":1}"#), SessionStatus::Unknown);
        let retry = r#"{"type":"retry","attempt":2,"message":"overloaded","next":1}"#;
        assert_eq!(parse(retry), SessionStatus::Retry { attempt: 2, message: "overloaded".into() });
    }

    #[test]
    fn a_provider_that_is_there_for_everybody_is_no_login() {
        let has_login = |providers: &str| {
            let text = format!(r#"{{"providers":[{providers}],"default":{{}}}}"#);
            serde_json::from_str::<Providers>(&text).unwrap().has_login()
        };
        assert!(!has_login(""));
        assert!(!has_login(
            r#"{"id":"opencode","source":"custom","options":{"apiKey":"public"},"models":{}}"#
        ));
        assert!(!has_login(r#"{"id":"opencode"}"#));
        assert!(has_login(r#"{"id":"opencode","source":"api","options":{"apiKey":"sk-1"}}"#));
        assert!(has_login(r#"{"id":"opencode","options":{"apiKey":"public"}},{"id":"local","options":{}}"#));
    }

    #[test]
    fn a_call_whose_input_is_not_there_yet_is_no_call() {
        let named = |state: &str| {
            let text =
                format!(r#"{{"parts":[{{"type":"tool","tool":"bash","callID":"c","state":{state}}}]}}"#);
            serde_json::from_str::<ToolCalls>(&text).unwrap().named("c")
        };
        assert_eq!(named(r#"{"status":"pending","input":{},"raw":""}"#), None);
        let call = named(r#"{"status":"running","input":{"command":"ls"}}"#).unwrap();
        assert_eq!((call.tool.as_str(), &call.input["command"]), ("bash", &Value::from("ls")));
    }

    #[test]
    fn models_are_identifiers_in_order_and_nothing_else() {
        let text = r#"{"providers":[{"id":"z","options":{"apiKey":"sk-1"},"models":{"b":{},"a":{"k":1}}},{"id":"y"}],
            "default":{"z":"a"}}"#;
        let models = serde_json::from_str::<Providers>(text).unwrap().into_models();
        assert_eq!(models.iter().map(ToString::to_string).collect::<Vec<_>>(), ["z/a", "z/b"]);
    }

    const ANSWERS: [&str; 5] = [
        r#"[{"info":{"id":"msg_2","parentID":"msg_1","role":"assistant","sessionID":"ses_1","time":{"created":1}},"parts":[{"id":"prt_1","sessionID":"ses_1","messageID":"msg_2","type":"text","text":"a"}]}]"#,
        r#"[{"id":"ses_1","title":"t","directory":"/p","parentID":"ses_0","time":{"created":1,"updated":2}}]"#,
        r#"{"providers":[{"id":"p","options":{"apiKey":"k"},"models":{"m":{}}}],"default":{}}"#,
        r#"{"info":{},"parts":[{"type":"tool","tool":"bash","callID":"c","state":{"status":"running","input":{"command":"ls"}}}]}"#,
        r#"[{"id":"per_1","sessionID":"ses_1","permission":"bash","patterns":["ls"],"metadata":{}}]"#,
    ];

    proptest! {
        #[test]
        fn whatever_the_server_answers_is_read_or_refused(text in arbitrary::text(&ANSWERS)) {
            let _ = serde_json::from_str::<Vec<Message>>(&text);
            let _ = serde_json::from_str::<Vec<Session>>(&text);
            let _ = serde_json::from_str::<Statuses>(&text);
            let _ = serde_json::from_str::<Vec<PendingPermission>>(&text);
            let _ = serde_json::from_str::<Health>(&text).map(|health| health.major());
            let _ = serde_json::from_str::<ToolCalls>(&text).map(|calls| calls.named("c"));
            if let Ok(providers) = serde_json::from_str::<Providers>(&text) {
                providers.has_login();
                providers.into_models();
            }
        }
    }

    #[test]
    fn the_major_version_is_read_from_what_servers_print() {
        let major = |v: &str| Health { healthy: true, version: v.into() }.major();
        assert_eq!((major("1.18.33"), major("v2.0.5"), major("local")), (Some(1), Some(2), None));
    }
}
