//! What makes a run deterministic and its workers' memory countable. Everything below the hosts, and nothing of them:
//! only the simulator links this, because it takes the place of functions of the C library and of the allocator.

pub mod determinism;
pub mod memory;
pub mod network;
pub mod panics;
