//! Digests in facts.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A text too long to be kept: its length and the first half of its SHA-256.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest {
    /// Bytes of the text.
    pub bytes: u64,
    hash: [u8; 16],
}

impl Digest {
    /// The digest of a whole text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut running = RunningDigest::default();
        running.push(text);
        running.digest()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}B:{}", self.bytes, hex::encode(self.hash))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let error = || DigestError(text.to_owned());
        let (bytes, hash) = text.split_once("B:").ok_or_else(error)?;
        let mut digest = Self { bytes: bytes.parse().map_err(|_| error())?, hash: [0; 16] };
        hex::decode_to_slice(hash, &mut digest.hash).map_err(|_| error())?;
        Ok(digest)
    }
}

/// A text that is no digest.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no digest: it should look like 5B:2cf24dba5fb0a30e26e83b2ac5b9e29e")]
pub struct DigestError(String);

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text too long to be kept: its length in bytes and the first half of its SHA-256.",
            "type": "string",
            "pattern": "^[0-9]+B:[0-9a-f]{32}$"
        })
    }
}

/// The digest of a text that comes in parts.
#[derive(Debug, Clone, Default)]
pub struct RunningDigest {
    bytes: u64,
    hash: Sha256,
}

impl RunningDigest {
    /// Appends a part.
    pub fn push(&mut self, text: &str) {
        self.bytes += text.len() as u64;
        self.hash.update(text);
    }

    /// The digest of all parts so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let full = self.hash.clone().finalize();
        Digest { bytes: self.bytes, hash: full[..16].try_into().expect("SHA-256 has 32 bytes") }
    }
}
