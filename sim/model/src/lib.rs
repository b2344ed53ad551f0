//! What a run is made of, before anything runs: scenario and seed, and what follows from the two of them; and the facts
//! that a run leaves. Everything here is data or a pure function of data.
//!
//! ```text
//! seed ────── one root, one random stream for each actor
//! units ───── time spans, bytes, shares, as people write them
//! fault ───── what can go wrong           mark ──── states worth reaching          plant ── deliberate bugs
//! scenario ── what exists, what people do, what goes wrong, what must hold: read from a file, with the place of an error
//! order ───── scenario + seed + plants: what to run
//! workload_plan, fault_plan ── what a seed makes of a scenario          conductor ── when each fault happens
//! trace ───── facts, in order, hashed
//! ```

pub mod conductor;
pub mod diagnostics;
pub mod fault;
pub mod fault_plan;
pub mod mark;
pub mod order;
pub mod plant;
pub mod scenario;
pub mod seed;
pub mod trace;
pub mod units;
pub mod workload_plan;

/// A word from a fixed set; owned only when it was read back from a report.
pub type Label = std::borrow::Cow<'static, str>;

/// The directory of the backend's functions in the source tree.
pub const BACKEND_SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../worker/convex");
