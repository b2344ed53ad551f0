//! A fake Convex deployment: the real backend functions over a store of our own, behind the real protocols.
//!
//! It lives in one thread (`Rc`), inside a simulated host or on real loopback. The user's TypeScript runs in an
//! embedded engine; a function runs synchronously at the newest timestamp and is committed later, optimistically, with
//! exact read sets. Data outlive the host: [`Convex`] is kept outside and [`Convex::serve_connection`] and
//! [`Convex::run_scheduler`] are simply started again.
//!
//! # Not modelled
//!
//! Refused loudly: HTTP actions, and in actions `fetch`, timers, the scheduler and other actions; scheduled actions,
//! components, file storage, search and vector indexes, admin keys,
//! monthly crons and crons in cron syntax, imports other than relative ones, `convex/server` and `convex/values`,
//! a deployment without `schema.ts`, other HTTP routes.
//!
//! Silently simpler than Convex: no cache of query results (every client's subscription runs its own query); module
//! variables survive between calls; token signatures are not checked; no limits on write throughput, on concurrent
//! functions or on bandwidth; invalidations are never splayed; cursors are opaque but not encrypted; answers are those
//! of a development deployment (stacks and log lines are shown); user code is limited by a count of engine polls
//! instead of by one second; results of scheduled functions are kept for ever.

pub use self::{
    auth::Identity,
    call::ActionRun,
    deployment::{Clock, Convex, Observer, Options},
    error::{CallError, Failure, LoadError},
    faults::{Faults, NoFaults, Point, Refusal},
    kind::Kind,
    observation::{Observation, Outcome},
    seeder::Seeder,
    serve::Listener,
    store::Write,
    sync_protocol::SyncOptions,
};

mod actions;
pub mod auth;
pub mod call;
mod deployment;
mod direct;
pub mod encoding;
pub mod error;
pub mod executor;
mod faults;
pub mod filter;
mod http;
pub mod id;
pub mod isolate;
pub mod jobs;
pub mod kind;
pub mod limits;
pub mod observation;
pub mod query;
mod requests;
mod scheduler;
pub mod schema;
mod seeder;
mod serve;
pub mod size;
mod socket;
pub mod sources;
pub mod store;
pub mod subscriptions;
pub mod sync_protocol;
pub mod transaction;
pub mod validator;

#[cfg(test)]
mod tests;
