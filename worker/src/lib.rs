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

pub mod admin;
mod backoff;
pub mod config;
pub mod convex;
pub mod env;
pub mod error;
pub mod lifecycle;
pub mod opencode;
pub mod orchestrator;
pub mod run;
pub mod session;
pub mod stream;
pub mod sync;
pub mod telemetry;
pub mod turns;

pub use run::{Stop, run};
