//! A thread and a runtime for each worker: one that panics, or that never comes round, does not hold up the others, and
//! its OpenCode server, which dies with the thread that launched it, goes with it and with no other.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::state::Ended;
use crate::{config::Config, env::system::SystemEnv, run::Stop, telemetry::Status};

/// Starts a worker in production. Everything that it logs carries its name.
pub fn launch(name: &str, config: Config, stop: Stop, status: Arc<Status>) -> BoxFuture<'static, Ended> {
    let (done, ended) = oneshot::channel();
    let span = tracing::info_span!("worker", name);
    let body = move || {
        let _named = span.entered();
        let lived = catch_unwind(AssertUnwindSafe(|| live(config, stop, status)));
        // Nobody listens any more when the whole process is ending.
        let _ = done.send(lived.unwrap_or_else(|panic| Ended::Crashed(text_of(&*panic))));
    };
    let thread = thread::Builder::new().name(name.chars().take(15).collect()).spawn(body);
    Box::pin(async move {
        match thread {
            Ok(_) => ended.await.unwrap_or_else(|_| Ended::Crashed("its thread ended".into())),
            Err(error) => Ended::Crashed(format!("it gets no thread: {error}")),
        }
    })
}

fn live(config: Config, stop: Stop, status: Arc<Status>) -> Ended {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => Ended::Exit(runtime.block_on(crate::run(SystemEnv, config, stop, status))),
        Err(error) => Ended::Crashed(format!("it gets no runtime: {error}")),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "a panic".into())
}
