//! Whole runs in simulated worlds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod plants;
mod repeats;
mod scenarios;
mod start;
mod versions;
