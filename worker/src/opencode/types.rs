//! What OpenCode's HTTP API and its events consist of, reduced to what the worker needs.
//!
//! Shapes are those of OpenCode 1.18.33, measured. Unknown fields are ignored, because every release adds some.

mod message;

use std::{borrow::Borrow, collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, de::IgnoredAny};

pub(super) use message::RawPart;
pub use message::{Message, MessageInfo, Part, PartKind, RemoteError, Role};

/// The longest identifier that is accepted (bytes). OpenCode's own have about 30.
const MAX_ID_LENGTH: usize = 128;

/// Why a text is not an identifier of OpenCode's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}; it must start with `{prefix}` and hold only letters, digits, `_` and `-`")]
pub struct InvalidId {
    /// What the text was to be.
    pub what: &'static str,
    /// What it must start with.
    pub prefix: &'static str,
    /// The text, cut to 40 characters.
    pub text: String,
}

/// Checks an identifier before it becomes part of a path: OpenCode answers 500 to one of the wrong form.
pub(crate) fn check_id(what: &'static str, prefix: &'static str, text: &str) -> Result<(), InvalidId> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.starts_with(prefix) && text.len() <= MAX_ID_LENGTH && text.bytes().all(legal) {
        return Ok(());
    }
    Err(InvalidId { what, prefix, text: text.chars().take(40).collect() })
}

/// Names a session in OpenCode (`ses_…`). Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpencodeSessionId(Arc<str>);

impl OpencodeSessionId {
    /// Accepts `ses…` of letters, digits, `_` and `-`, at most 128 bytes.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        check_id("an OpenCode session id", "ses", text)?;
        Ok(Self(text.into()))
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OpencodeSessionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl fmt::Display for OpencodeSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for OpencodeSessionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for OpencodeSessionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = OpencodeSessionId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an OpenCode session id")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OpencodeSessionId, E> {
                OpencodeSessionId::new(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A model, written `provider/model`. Only the first slash separates: model ids may hold slashes themselves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelRef {
    /// The provider's id.
    pub provider: String,
    /// The model's id within the provider.
    pub model: String,
}

/// Why a text does not name a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` does not name a model; it looks like `provider/model`")]
pub struct InvalidModel {
    /// The text, cut to 80 characters.
    pub text: String,
}

impl FromStr for ModelRef {
    type Err = InvalidModel;

    fn from_str(text: &str) -> Result<Self, InvalidModel> {
        match text.split_once('/') {
            Some((provider, model)) if !provider.is_empty() && !model.is_empty() => {
                Ok(Self { provider: provider.into(), model: model.into() })
            }
            _ => Err(InvalidModel { text: text.chars().take(80).collect() }),
        }
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

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
pub enum Status {
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
pub type Statuses = BTreeMap<OpencodeSessionId, Status>;

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
    pub asked: super::events::PermissionAsked,
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
    models: BTreeMap<String, IgnoredAny>,
}

impl Providers {
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
    use super::*;

    #[test]
    fn a_session_id_that_could_change_a_path_is_refused() {
        for bad in
            ["", "bogus", "ses_a/../b", "ses_a?x=1", "ses_ä", "ses a", &format!("ses_{}", "a".repeat(128))]
        {
            assert!(OpencodeSessionId::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(OpencodeSessionId::new("ses_aB3").unwrap().as_str(), "ses_aB3");
    }

    #[test]
    fn a_model_is_split_at_its_first_slash() {
        let model: ModelRef = "openrouter/meta/llama-3".parse().unwrap();
        assert_eq!((model.provider.as_str(), model.model.as_str()), ("openrouter", "meta/llama-3"));
        for bad in ["", "m1", "/m1", "fake/"] {
            assert!(bad.parse::<ModelRef>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_unknown_status_is_not_taken_for_idle() {
        let parse = |text| serde_json::from_str::<Status>(text).unwrap();
        assert_eq!(parse(r#"{"type":"busy"}"#), Status::Busy);
        assert_eq!(parse(r#"{"type":"thinking","x":1}"#), Status::Unknown);
        let retry = r#"{"type":"retry","attempt":2,"message":"overloaded","next":1}"#;
        assert_eq!(parse(retry), Status::Retry { attempt: 2, message: "overloaded".into() });
    }

    #[test]
    fn models_are_identifiers_in_order_and_nothing_else() {
        let text = r#"{"providers":[{"id":"z","options":{"apiKey":"sk-1"},"models":{"b":{},"a":{"k":1}}},{"id":"y"}],
            "default":{"z":"a"}}"#;
        let models = serde_json::from_str::<Providers>(text).unwrap().into_models();
        assert_eq!(models.iter().map(ToString::to_string).collect::<Vec<_>>(), ["z/a", "z/b"]);
    }

    #[test]
    fn the_major_version_is_read_from_what_servers_print() {
        let major = |v: &str| Health { healthy: true, version: v.into() }.major();
        assert_eq!((major("1.18.33"), major("v2.0.5"), major("local")), (Some(1), Some(2), None));
    }
}
