//! The simulator: the unchanged worker crate in a deterministic network, against a fake Convex and a fake OpenCode.
//!
//! ```text
//! cli ── sweep, shrink, gate, compare, costs ── what is done with runs
//!  │
//!  ├── world ── one run: phases, and the injector that carries faults out
//!  ├── load ─── the worker's binary as a process, both fakes on loopback, the same facts and oracles in real time
//!  │
//!  └── hosts ── the backend with the people, OpenCode, workers
//!       ├── faults ──── which faults are on; what the fakes ask about them
//!       ├── observe ─── what the fakes say they did, as facts
//!       ├── recorder ── where facts come together: trace, oracles, marks, figures
//!       └── engine ──── determinism, memory, network: what only a simulation needs
//! ```
//!
//! Below: `sim-report` (what a run came to), `sim-oracles` (what must hold), `sim-model` (scenario, seed, facts); beside
//! them `sim-serve` (both fakes on loopback) and the fakes themselves.

pub mod cli;
pub mod compare;
pub mod costs;
pub mod engine;
pub mod error;
pub mod faults;
pub mod gate;
pub mod hosts;
pub mod load;
pub mod observe;
pub mod recorder;
pub mod shrink;
pub mod sweep;
pub mod world;
