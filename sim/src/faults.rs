//! Faults: what goes wrong in a run, as data.
//!
//! ```text
//! scenario file ── schema ──┐
//!                           ├─ plan ── conductor ── actions ── world/injector ──┬─ hosts: kill, stop, freeze, start
//! seed ── swarm ────────────┘  ▲                                                ├─ network: cut, hold, slow, reset
//!                              └── stages (how far each turn is, from facts)    └─ active ── hooks ── the fakes
//! ```
//!
//! What is planned depends on scenario and seed alone ([`Plan`]); when it happens is decided by the [`Conductor`], which
//! is pure: it is told the time and how the workers are, and says what to do. Faults that last are entered in
//! [`Active`], which the hooks of the fakes consult at named points; the fakes know nothing of scenarios.

pub mod active;
pub mod conductor;
pub mod hooks;
pub mod kind;
pub mod plan;
pub mod schema;
pub mod stages;
pub mod validate;

pub use active::Active;
pub use conductor::{Action, Condition, Conductor};
pub use kind::Kind;
pub use plan::{Plan, Planned};
pub use schema::{Direction, Fault, Link, Swarm, Trigger};
pub use stages::Stages;
