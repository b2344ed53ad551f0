//! The simulator: the unchanged worker crate in a deterministic network, against a fake Convex and a fake OpenCode.

pub mod convex;
pub mod opencode;
pub mod oracles;
pub mod plant;
pub mod report;
pub mod scenario;
pub mod seed;
pub mod trace;
pub mod world;
