//! Deliberate bugs: each must be caught by the oracle that watches what it breaks.
//!
//! A bug goes into a copy of the behaviour: into the worker's settings, or into the text of the backend's functions
//! before they are loaded. The worker itself is never touched.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use worker::config::Settings;

/// A bug to plant into a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plant {
    /// Sessions are created as fast as they are asked for. Caught by `throttle`.
    ThrottleOff,
    /// Turns from before the start are not expired, but run. Caught by `stale`.
    ExpiryOff,
    /// The cache of sessions forgets nothing. Caught by `memory`.
    CacheBoundOff,
    /// Turns are prompted without being moved to `claimed`. Caught by `stale`.
    ClaimOff,
    /// Chunks are stored without regard to their sequence. Caught by `chunks`.
    SequenceOff,
}

/// One piece of a function's text, and what stands in its place.
struct Edit {
    from: &'static str,
    to: &'static str,
}

impl Plant {
    /// The oracle that must fire.
    #[must_use]
    pub fn caught_by(self) -> &'static str {
        match self {
            Self::ThrottleOff => "throttle",
            Self::ExpiryOff | Self::ClaimOff => "stale",
            Self::CacheBoundOff => "memory",
            Self::SequenceOff => "chunks",
        }
    }

    /// Plants the bug into the worker's settings, if it belongs there.
    pub fn plant_in_settings(self, settings: &mut Settings) {
        match self {
            Self::ThrottleOff => {
                settings.sessions.creates_in_flight = 1_000;
                settings.sessions.creates_per_second = 1_000;
            }
            Self::CacheBoundOff => settings.sessions.cache_capacity = 100_000,
            Self::ExpiryOff | Self::ClaimOff | Self::SequenceOff => {}
        }
    }

    /// Plants the bug into the backend's functions, if it belongs there.
    ///
    /// # Panics
    /// If the functions changed so that the place is not found: a bug that is not planted proves nothing.
    pub fn plant_in_sources(self, sources: &mut BTreeMap<String, String>) {
        for Edit { from, to } in self.edits() {
            let chat = sources.get_mut("chat.ts").expect("the backend has chat.ts");
            assert!(chat.contains(from), "{self:?} cannot be planted: chat.ts has no `{from}` any more");
            *chat = chat.replace(from, to);
        }
    }

    fn edits(self) -> &'static [Edit] {
        match self {
            Self::ThrottleOff | Self::CacheBoundOff => &[],
            Self::ExpiryOff => &[
                Edit { from: "if (turn._creationTime < worker.staleBefore) {", to: "if (false) {" },
                Edit {
                    from: "[...abandoned, ...stale].slice(0, count)",
                    to: "[...abandoned, ...stale].slice(0, 0)",
                },
            ],
            Self::ClaimOff => &[Edit {
                from: "await ctx.db.patch(turn._id, { state: \"claimed\", epoch: worker.epoch });",
                to: "",
            }],
            Self::SequenceOff => &[
                Edit { from: "if (sequence < next) return;", to: "" },
                Edit { from: "if (sequence > next) throw", to: "if (false) throw" },
                Edit {
                    from: "{ turn, sequence, text }",
                    to: "{ turn, sequence: Math.floor(sequence / 2), text }",
                },
            ],
        }
    }
}
