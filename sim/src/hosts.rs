//! Who lives in the simulated world.

pub mod env;
pub mod launcher;
pub mod opencode;
