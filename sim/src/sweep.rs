//! Many seeds of one or several scenarios: which runs there are, what came of them, and what they say together.
//!
//! ```text
//! seeds, shard, corpus ── plan ── children ── one Run each ── SweepReport ── merge (of shards)
//! ```
//!
//! Each run is a process of its own, so that one that dies or hangs takes no other with it.

pub mod child;
pub mod corpus;
pub mod merge;
pub mod plan;
