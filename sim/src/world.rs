//! The simulated world.

pub mod determinism;
pub mod memory;
pub mod network;
pub mod recorder;
