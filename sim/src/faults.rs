//! Faults as they strike: which are on, and what the fakes ask about them.
//!
//! ```text
//! scenario ── fault_plan ── conductor ── actions ── world/injector ──┬─ hosts: kill, stop, freeze, start
//!  (sim-model: data)          ▲                                      ├─ network: cut, hold, slow, reset
//!                             └── stages (sim-oracles, from facts)   └─ active ── hooks ── the fakes
//! ```

mod active;
pub mod hooks;

pub use active::Active;
