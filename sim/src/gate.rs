//! The regression gate: fixed scenarios, fixed seeds, exact figures.
//!
//! A simulated run costs the same calls, documents, bytes and creations each time, to the last digit. So the gate
//! compares numbers, not times, and sees one more call for each turn. Which figure may change by how much stands in
//! [`crate::compare`]; what the figures were, in `reports/baseline.json` ([`Baseline`]).
//!
//! A trace that differs stops the gate, too, even if no figure is worse. Whatever changes what the worker says or when
//! changes the trace, an improvement as well, so this is no judgement but a question: the run that was accepted is not
//! the run that there is, and only whoever made the change knows whether it was meant. The answer is `--bless`, and the
//! reason is kept. Without it a run that does something else at the same cost, and one that is not deterministic, would
//! pass. What is printed tells the two apart ([`GateVerdict`]).

mod baseline;
mod judgement;
mod runs;

pub use crate::gate::baseline::{Baseline, BaselineError, MAX_HISTORY};
pub use crate::gate::judgement::{BLESS, GateVerdict, Judgement, annotations, failure, junit, markdown};
pub use crate::gate::runs::{CollectError, RunFailure, collect, name, run_all};
