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
    /// Titles that change in OpenCode are not stored. Caught by `converges`.
    RenamesLost,
    /// Sessions are synced one by one. Caught by `sync-cost`.
    BatchOff,
}

/// One piece of a function's text, and what stands in its place.
struct Edit {
    file: &'static str,
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
            Self::RenamesLost => "converges",
            Self::BatchOff => "sync-cost",
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
            Self::BatchOff => settings.sync.batch = 1,
            Self::ExpiryOff | Self::ClaimOff | Self::SequenceOff | Self::RenamesLost => {}
        }
    }

    /// Plants the bug into the backend's functions, if it belongs there.
    ///
    /// # Panics
    /// If the functions changed so that the place is not found: a bug that is not planted proves nothing.
    pub fn plant_in_sources(self, sources: &mut BTreeMap<String, String>) {
        for Edit { file, from, to } in self.edits() {
            let text = sources.get_mut(*file).unwrap_or_else(|| panic!("the backend has no {file}"));
            assert!(text.contains(from), "{self:?} cannot be planted: {file} has no `{from}` any more");
            *text = text.replace(from, to);
        }
    }

    fn edits(self) -> &'static [Edit] {
        match self {
            Self::ThrottleOff | Self::CacheBoundOff | Self::BatchOff => &[],
            Self::RenamesLost => &[Edit {
                file: "sync.ts",
                from: "await ctx.db.patch(session._id, { title: cut(title) });",
                to: "",
            }],
            Self::ExpiryOff => &[
                Edit {
                    file: "chat.ts",
                    from: "if (turn._creationTime < worker.staleBefore) {",
                    to: "if (false) {",
                },
                Edit {
                    file: "chat.ts",
                    from: "[...abandoned, ...stale].slice(0, count)",
                    to: "[...abandoned, ...stale].slice(0, 0)",
                },
            ],
            Self::ClaimOff => &[Edit {
                file: "chat.ts",
                from: "await ctx.db.patch(turn._id, { state: \"claimed\", epoch: worker.epoch });",
                to: "",
            }],
            Self::SequenceOff => &[
                Edit { file: "chat.ts", from: "if (sequence < next) return;", to: "" },
                Edit { file: "chat.ts", from: "if (sequence > next) throw", to: "if (false) throw" },
                Edit {
                    file: "chat.ts",
                    from: "{ turn, sequence, text }",
                    to: "{ turn, sequence: Math.floor(sequence / 2), text }",
                },
            ],
        }
    }
}
