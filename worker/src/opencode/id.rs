//! How OpenCode names sessions and models.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::Deserialize;

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
}
