//! Checks that watch a run. Each file states one property; its doc comment is the specification.
//!
//! Oracles observe facts and state properties; they do not re-implement the system. They see every fact once, in the
//! order of the trace, and may ask for nothing else.
//!
//! ```text
//! facts ──┬─ oracles ── one file for each property (list says which watch a run) ── violations
//!         ├─ marks ──── states worth reaching, counted
//!         └─ stages ─── how far each turn is, for faults that wait for a step of a turn
//! ```

mod answered;
mod bounded_reads;
mod chunks;
mod cleanup;
mod converges;
mod fairness;
mod fencing;
mod lazy;
mod lifecycle;
mod list;
mod marks;
mod memory;
mod no_panic;
mod oracle;
mod oracles;
mod resident;
mod stages;
mod stale;
mod steady;
mod sync_cost;
#[cfg(test)]
mod testing;
mod throttle;
mod violation;

pub use list::{View, all};
pub use marks::Marks;
pub use oracle::{Findings, Oracle, Pending, Raised};
pub use oracles::Oracles;
pub use resident::Ceilings;
pub use stages::Stages;
pub use violation::{Class, Violation};
