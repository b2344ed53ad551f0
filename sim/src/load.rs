//! Runs in real time: the worker's binary as a process of its own, both fakes on loopback, the same people, the same
//! facts, the same oracles where they can be seen from outside.
//!
//! ```text
//! binary     which worker is measured
//! run        phases, restarts, looks at the processes
//! fakes      the fake Convex with the people, and the fake OpenCode: a thread each
//! stand_in   the executable that the worker starts instead of OpenCode; opencode gives it a server
//! process    a worker's processes: signals, /proc, and what outlives it
//! probe      what the worker itself adds to a write; ledger, gauge, meter: what else is measured
//! scale      the scenario's moments in real time; steps: a load that rises until something gives way
//! ```
//!
//! Open loop: people send when it is time, however late the answers are, and latencies count from that moment.

pub mod binary;
mod fakes;
pub mod gauge;
pub mod goals;
pub mod ledger;
mod meter;
mod opencode;
mod order;
pub mod probe;
pub mod process;
mod run;
mod scale;
pub mod stand_in;
pub mod steps;

use std::{sync::Arc, thread::JoinHandle};

pub use order::{CEILINGS, LoadError, LoadOrder};
use sim_report::Report;

use crate::world::progress::Progress;

/// Runs `order` on a thread of its own, which the worker processes do not outlive, and hands the report to `done`.
///
/// # Panics
/// If the system refuses another thread.
pub fn start<F>(order: LoadOrder, progress: Arc<Progress>, done: F) -> JoinHandle<()>
where
    F: FnOnce(Result<Report, LoadError>) + Send + 'static,
{
    let run = move || done(run::run(&order, &progress));
    std::thread::Builder::new().name("load".into()).spawn(run).expect("the system refuses another thread")
}
