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
    recorder::Follower,
};
use progress::Progress;

/// Runs `order` on a fresh, deterministic thread and hands the report to `done`, on that thread.
pub fn start<F>(order: Order, progress: Arc<Progress>, done: F) -> JoinHandle<()>
where
    F: FnOnce(Result<Report, RunError>) + Send + 'static,
{
    start_followed(order, progress, None, done)
}

/// The same, with somebody who is shown every fact.
pub fn start_followed<F>(
    order: Order,
    progress: Arc<Progress>,
    follower: Option<Follower>,
    done: F,
) -> JoinHandle<()>
where
    F: FnOnce(Result<Report, RunError>) + Send + 'static,
{
    panics::watch();
    determinism::spawn(order.seed, move || done(run::run(order, &progress, follower)))
}
