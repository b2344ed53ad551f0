//! The simulator: the unchanged worker crate in a deterministic network, against a fake Convex and a fake OpenCode.
//!
//! ```text
//! cli ── world ─┬─ determinism   seed and clock for everything on the run's thread
//!               ├─ memory        who holds how much heap
//!               ├─ network       the only way between hosts
//!               ├─ run           phases: safety, liveness, closing
//!               └─ observe ──── facts ──┬─ trace      in order, hashed
//!                                       ├─ oracles    what must hold
//!                                       └─ report     figures, for people and programs
//! hosts ── worker, opencode, convex with the people        scenario ── what happens to them
//! sweep ── many seeds, each in a process of its own
//! serve ── both fakes on loopback, for a worker that runs beside it
//! load ─── the worker's binary as a process, both fakes on loopback, the same facts and oracles in real time
//! ```

pub mod cli;
pub mod compare;
pub mod costs;
pub mod faults;
pub mod gate;
pub mod hosts;
pub mod legacy;
pub mod load;
pub mod marks;
pub mod oracles;
pub mod plant;
pub mod report;
pub mod scenario;
pub mod seed;
pub mod serve;
pub mod shrink;
pub mod sweep;
pub mod trace;
pub mod world;

pub use fake_convex as convex;
pub use fake_opencode as opencode;
