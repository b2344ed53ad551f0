//! Deliberate bugs: each must be caught by the oracle that watches what it breaks.

use clap::ValueEnum;
use serde::Serialize;

/// A bug to plant into a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plant {
    /// Sessions are created as fast as they are asked for. Caught by `throttle`.
    ThrottleOff,
    /// Turns from before the start are not expired. Caught by `stale` or `answered`.
    ExpiryOff,
    /// The cache of sessions forgets nothing. Caught by `memory`.
    CacheBoundOff,
    /// Turns are prompted without a claim. Caught by `stale`.
    ClaimOff,
    /// Chunks are stored without regard to their sequence. Caught by `chunks`.
    SequenceOff,
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
}
