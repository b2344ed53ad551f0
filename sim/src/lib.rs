//! The simulator: the unchanged worker crate in a deterministic network, against a fake Convex and a fake OpenCode.

pub mod convex;
pub mod opencode;
pub mod seed;
pub mod world;
