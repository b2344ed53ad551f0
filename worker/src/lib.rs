//! The worker: connects a Convex backend, where people chat, with a local OpenCode server, which does the work.
//!
//! ```text
//! run ─┬─ lifecycle   registration, approval, readiness, recovery, the end        (decides)
//!      ├─ convex      one connection: subscription in, mutations out
//!      ├─ turns ──┬── inbox    which turns to start                                (decides)
//!      │          ├── driver   claim, session, prompt, reply, end
//!      │          └── state    what the events of one turn mean                    (decides)
//!      ├─ session     cache of OpenCode sessions, throttle of their creation       (decides)
//!      ├─ stream      reply parts to chunks                                        (decides)
//!      ├─ sync        OpenCode's sessions to Convex: state and plan                (decides)
//!      └─ opencode    the server, its API, its events
//! ```
//!
//! `orchestrator` runs many of them in one process.
//!
//! A program that embeds a worker gives [`run`] an [`Env`], a [`Config`], a [`Stop`] and a [`Status`], and gets an
//! [`Exit`]. The modules that the documentation does not show are the worker's inside: public for the simulator, the
//! benchmarks and the conformance tests, and free to change.

pub mod admin;
#[cfg(test)]
mod arbitrary;
mod backoff;
pub mod config;
#[doc(hidden)]
pub mod convex;
pub mod env;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod lifecycle;
#[doc(hidden)]
pub mod opencode;
pub mod orchestrator;
#[doc(hidden)]
pub mod run;
mod session;
#[doc(hidden)]
pub mod stream;
mod sync;
pub mod telemetry;
#[doc(hidden)]
pub mod turns;

pub use config::Config;
pub use env::Env;
pub use error::CallError;
pub use lifecycle::state::{Exit, Phase};
pub use opencode::ServerStats;
pub use run::{Stop, run};
pub use telemetry::Status;
