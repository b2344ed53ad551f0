//! Values as people write them: `10min`, `64KiB`, `{ min = 1, max = 3 }`.

use std::{borrow::Cow, fmt, time::Duration};

use rand::Rng;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema as schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

/// A time span, written like `250ms`, `10min` or `1h 30m`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Time(#[serde(with = "humantime_serde")] pub Duration);

impl Time {
    /// That many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// That many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of bytes, written as a number or like `64KiB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// For differences.
    #[must_use]
    pub fn signed(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit: u64 = match text[digits..].trim_start() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        text[..digits].parse::<u64>().ok()?.checked_mul(unit).map(Self)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes such as `4096`, `\"64KiB\"` or `\"1MiB\"`")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Bytes, E> {
                u64::try_from(number)
                    .map(Bytes)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Bytes, E> {
                Ok(Bytes(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                Bytes::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// A share of all cases, from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Share(pub f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        if (0.0..=1.0).contains(&share) {
            return Ok(Self(share));
        }
        Err(de::Error::invalid_value(de::Unexpected::Float(share), &"a share from 0 to 1"))
    }
}

/// A range with both ends included, written `{ min = 1, max = 3 }`. `min` is at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Between<T> {
    /// The least.
    pub min: T,
    /// The most.
    pub max: T,
}

impl<'de, T: Deserialize<'de> + PartialOrd + fmt::Display> Deserialize<'de> for Between<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Ends<T> {
            min: T,
            max: T,
        }
        let Ends { min, max } = Ends::deserialize(deserializer)?;
        if min > max {
            return Err(de::Error::custom(format_args!("min ({min}) is larger than max ({max})")));
        }
        Ok(Self { min, max })
    }
}

impl Between<u64> {
    /// A value of the range, each as likely as any other.
    pub fn draw(self, random: &mut impl Rng) -> u64 {
        random.random_range(self.min..=self.max)
    }
}

impl Between<Bytes> {
    /// A value of the range, each as likely as any other.
    pub fn draw(self, random: &mut impl Rng) -> u64 {
        random.random_range(self.min.0..=self.max.0)
    }
}

impl Between<Time> {
    /// A value of the range, each as likely as any other.
    pub fn draw(self, random: &mut impl Rng) -> Duration {
        random.random_range(self.min.0..=self.max.0)
    }
}

macro_rules! described {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                schema!($schema)
            }
        }
    };
}

described!(Time, "Time", {
    "description": "A time span such as 250ms, 10min or 1h 30m.",
    "type": "string",
    "examples": ["250ms", "10min", "1h 30m"]
});
described!(Bytes, "Bytes", {
    "description": "A number of bytes, such as 4096 or 64KiB.",
    "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB)?$" }
    ]
});
described!(Share, "Share", {
    "description": "A share of all cases.",
    "type": "number",
    "minimum": 0,
    "maximum": 1
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_units_and_written_back() {
        for (text, bytes) in
            [("0", 0), ("17", 17), ("17B", 17), ("64KiB", 65_536), ("1 MiB", 1 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(Bytes::parse(text), Some(Bytes(bytes)), "{text}");
            assert_eq!(Bytes::parse(&Bytes(bytes).to_string()), Some(Bytes(bytes)));
        }
        for text in ["", "KiB", "64KB", "-1", "1.5MiB", "99999999999GiB"] {
            assert_eq!(Bytes::parse(text), None, "{text}");
        }
    }
}
