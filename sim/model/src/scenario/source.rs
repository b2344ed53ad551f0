//! What a scenario was read from: kept, so that a report says exactly what was run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A scenario's text and where it stood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// The file, as the person gave it.
    pub path: String,
    /// The SHA-256 of the text, in hexadecimal.
    pub digest: String,
    /// The text.
    pub text: String,
}

impl Source {
    /// The source with `text`, which stood at `path`.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), digest: digest(text), text: text.to_owned() }
    }

    /// Whether the text is the one that was digested.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        digest(&self.text) == self.digest
    }
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_text_is_noticed() {
        let source = Source::new("some.toml", "duration = '1min'");
        assert!(source.is_whole());
        assert!(!Source { text: "duration = '2min'".into(), ..source }.is_whole());
    }
}
