//! One root seed per run, and from it one random stream per actor.
//!
//! A stream's key is the hash of the root seed and the actor's name, so streams are independent of each other and of
//! the order in which they are made: adding an actor, or drawing more in one of them, shifts nothing for the others.

use std::{borrow::Cow, fmt, num::ParseIntError, str::FromStr};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema as schema};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The number from which everything random in a run follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed(pub u64);

impl Seed {
    /// A seed from the operating system, for runs that were given none. It is printed first thing.
    #[expect(clippy::disallowed_methods, reason = "the one draw that is meant to differ from run to run")]
    #[must_use]
    pub fn from_system() -> Self {
        Self(rand::random())
    }

    /// The random stream of the actor called `name`.
    #[must_use]
    pub fn stream(self, name: &str) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.key(name))
    }

    /// A number for libraries that take a seed of their own.
    #[must_use]
    pub fn derive(self, name: &str) -> u64 {
        let key = self.key(name);
        u64::from_le_bytes(key[..8].try_into().expect("a key has 32 bytes"))
    }

    fn key(self, name: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.0.to_le_bytes()).chain_update(name.as_bytes()).finalize().into()
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A seed that is neither a decimal number nor a hexadecimal one with `0x` in front.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{text}` is not a seed: write a decimal number, or a hexadecimal one with `0x` in front, below 2^64"
)]
pub struct SeedError {
    text: String,
    source: ParseIntError,
}

impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Self, SeedError> {
        let plain = text.replace('_', "");
        let number = match plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => plain.parse(),
        };
        number.map(Self).map_err(|source| SeedError { text: text.to_owned(), source })
    }
}

impl Serialize for Seed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// TOML integers end at 2^63, so larger seeds are written as text.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(number) => Ok(Self(number)),
            Raw::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for Seed {
    fn schema_name() -> Cow<'static, str> {
        "Seed".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        if generator.contract().is_serialize() {
            return schema!({ "description": "A seed.", "type": "string", "pattern": "^0x[0-9a-f]{1,16}$" });
        }
        schema!({
            "description": "A seed: a number, or a text such as 0x2a if it is 2^63 or more.",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^(0[xX][0-9a-fA-F_]+|[0-9_]+)$" }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn a_seed_is_read_in_decimal_and_in_hexadecimal() {
        for (text, seed) in
            [("42", 42), ("0x2a", 42), ("0XFF", 255), ("1_000", 1000), ("0xffffffffffffffff", u64::MAX)]
        {
            assert_eq!(text.parse::<Seed>().unwrap(), Seed(seed), "{text}");
        }
    }

    #[test]
    fn what_is_no_seed_is_refused_with_advice() {
        for text in ["", "banana", "-1", "0x", "18446744073709551616"] {
            let error = text.parse::<Seed>().unwrap_err().to_string();
            assert!(error.contains("hexadecimal"), "{error}");
        }
    }

    #[test]
    fn the_displayed_seed_reads_back() {
        for seed in [0, 7, u64::MAX] {
            assert_eq!(Seed(seed).to_string().parse::<Seed>().unwrap(), Seed(seed));
        }
    }

    #[test]
    fn streams_depend_on_seed_and_name_and_nothing_else() {
        let draw = |seed: u64, name: &str| Seed(seed).stream(name).random::<u64>();
        assert_eq!(draw(1, "people"), draw(1, "people"));
        assert_ne!(draw(1, "people"), draw(2, "people"));
        assert_ne!(draw(1, "people"), draw(1, "network"));
    }
}
