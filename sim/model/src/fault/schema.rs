//! How faults stand in a scenario file.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use toml::Spanned;

use crate::{
    fault::kind::FaultKind,
    units::{Between, Bytes, Share, Time},
};

/// A fault, or several of one kind.
///
/// It is either scripted (`at`) or drawn (`from` and `until` with `every` or `count`), or it may strike during a whole
/// window (`from` and `until` alone).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    #[schemars(with = "FaultKind")]
    pub kind: Spanned<FaultKind>,
    /// Whom it concerns: a worker, or what is on its machine or talks with it; from 1.
    #[serde(default = "first")]
    #[schemars(with = "u64")]
    pub worker: Spanned<u64>,
    /// When it begins; with `when`, the earliest moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub at: Option<Spanned<Time>>,
    /// How long it lasts; for kills and stops, how long the worker stays away. By default 2 s.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub lasts: Option<Spanned<Time>>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Trigger>")]
    pub when: Option<Spanned<Trigger>>,
    /// Where the window begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub from: Option<Spanned<Time>>,
    /// Where the window ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub until: Option<Spanned<Time>>,
    /// One fault at a random moment of every such span of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub every: Option<Spanned<Time>>,
    /// So many faults at random moments of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u64>")]
    pub count: Option<Spanned<u64>>,
    /// How likely each opportunity (a request, a mutation, an event, a session) is struck. By default 1. Of
    /// `network-loss`, how likely a segment gets lost, by default 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Share>")]
    pub probability: Option<Spanned<Share>>,
    /// At most so many opportunities are struck each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u64>")]
    pub times: Option<Spanned<u64>>,
    /// The other end of a fault of the network. By default Convex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Link>")]
    pub link: Option<Spanned<Link>>,
    /// Which way a partition cuts. By default both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Direction>")]
    pub direction: Option<Spanned<Direction>>,
    /// By how much something is late. By default 1 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub delay: Option<Spanned<Time>>,
    /// By how much something is larger. By default 256 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Bytes>")]
    pub bytes: Option<Spanned<Bytes>>,
    /// How many bytes pass in a second. By default 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Bytes>")]
    pub rate: Option<Spanned<Bytes>>,
    /// By how much a clock is wrong. By default an hour ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Jump>")]
    pub by: Option<Spanned<Jump>>,
}

fn first() -> Spanned<u64> {
    Spanned::new(0..0, 1)
}

/// What a fault waits for: a step of some turn of its worker. At that step the worker is struck within two ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Its time alone.
    #[default]
    Time,
    /// A turn is ready, the worker knows, and its claim is not committed.
    BeforeClaim,
    /// A turn is claimed, and OpenCode has no prompt of it.
    BeforePrompt,
    /// A reply is stored in part and has not ended.
    InMidReply,
    /// OpenCode has said all, and the turn is not complete.
    BeforeComplete,
}

/// The other end of a worker's connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// The backend.
    #[default]
    Convex,
    /// Its OpenCode server.
    Opencode,
}

/// Which way a partition cuts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Both.
    #[default]
    Both,
    /// What the worker sends.
    FromWorker,
    /// What is sent to the worker.
    ToWorker,
}

/// A wrong clock, in milliseconds: written like `90s` (ahead) or `-90s` (behind).
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct Jump(#[schemars(with = "String")] pub i64);

impl fmt::Display for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", Time::from_millis(self.0.unsigned_abs()))
    }
}

impl Serialize for Jump {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Jump {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (sign, span) = match text.strip_prefix('-') {
            Some(span) => (-1, span),
            None => (1, text.as_str()),
        };
        let millis =
            humantime::parse_duration(span).ok().and_then(|span| i64::try_from(span.as_millis()).ok());
        // Clocks beyond a hundred years are broken in other ways.
        let sound = millis.filter(|millis| *millis <= 100 * 365 * 24 * 3_600_000);
        sound.map(|millis| Self(sign * millis)).ok_or_else(|| {
            de::Error::invalid_value(
                de::Unexpected::Str(&text),
                &"a span such as `90s`, or `-1h` for a clock that is late",
            )
        })
    }
}

/// Faults that each seed draws anew: it switches a random part of the kinds off and weighs the rest.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Swarm {
    /// How many faults there are.
    #[schemars(with = "u64")]
    pub faults: Spanned<u64>,
    /// When the first may begin.
    #[schemars(with = "Time")]
    pub from: Spanned<Time>,
    /// When the last may begin.
    #[schemars(with = "Time")]
    pub until: Spanned<Time>,
    /// How long each lasts.
    #[serde(default = "lasts", rename = "for")]
    pub lasts: Between<Time>,
    /// How likely each kind stays on.
    #[serde(default = "half")]
    pub keep: Share,
    /// The kinds that may occur, each with its weight; one of weight 2 is drawn twice as often as one of weight 1.
    #[schemars(with = "BTreeMap<FaultKind, f64>")]
    pub kinds: Spanned<BTreeMap<FaultKind, f64>>,
}

fn lasts() -> Between<Time> {
    Between { min: Time::from_millis(500), max: Time::from_secs(5) }
}

fn half() -> Share {
    Share(0.5)
}
