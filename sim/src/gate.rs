//! The regression gate: fixed scenarios, fixed seeds, exact figures.
//!
//! A simulated run costs the same calls, documents, bytes and creations each time, to the last digit. So the gate
//! compares numbers, not times, and sees one more call for each turn. Which figure may change by how much stands in
//! [`crate::compare`]; what the figures were, in `reports/baseline.json` ([`Baseline`]).

mod baseline;
mod runs;

pub use baseline::{Baseline, BaselineError, MAX_HISTORY};
pub use runs::{CollectError, RunFailure, collect, name, run_all};
