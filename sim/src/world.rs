//! The simulated world: one thread, one network, one clock, one seed.

mod injector;
pub mod progress;
mod run;

use std::{sync::Arc, thread::JoinHandle};

use sim_model::order::Order;
use sim_report::Report;

use crate::{
    engine::{determinism, panics},
    error::RunError,
};
use progress::Progress;

/// Runs `order` on a fresh, deterministic thread and hands the report to `done`, on that thread.
pub fn start<F>(order: Order, progress: Arc<Progress>, done: F) -> JoinHandle<()>
where
    F: FnOnce(Result<Report, RunError>) + Send + 'static,
{
    panics::watch();
    determinism::spawn(order.seed, move || done(run::run(order, &progress)))
}
