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
use crate::{
    config::{Config, redact},
    env::system::SystemEnv,
    run::Stop,
    telemetry::Status,
};

/// Starts a worker in production. Everything that it logs carries its name.
pub fn launch(name: &str, config: Config, stop: Stop, status: Arc<Status>) -> BoxFuture<'static, Ended> {
    on_thread(name, || live(config, stop, status))
}

fn on_thread(name: &str, work: impl FnOnce() -> Ended + Send + 'static) -> BoxFuture<'static, Ended> {
    let (done, ended) = oneshot::channel();
    let span = tracing::info_span!("worker", name);
    let body = move || {
        let _named = span.entered();
        let lived = catch_unwind(AssertUnwindSafe(work));
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

/// Returns what a panic says, which may quote whatever the code had in its hands.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    redact(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_that_panics_has_crashed_and_the_secret_that_it_quotes_is_not_told() {
        let secret = "s3cr3t".repeat(6);
        let crashed = on_thread("a", move || panic!("cannot use machine_m:worker_w:{secret}")).await;
        assert_eq!(crashed, Ended::Crashed("cannot use machine_m:worker_w:[redacted]".into()));
        assert_eq!(on_thread("b", || panic!("out of luck")).await, Ended::Crashed("out of luck".into()));
        let other = on_thread("c", || Ended::Exit(crate::lifecycle::state::Exit::Stopped)).await;
        assert_eq!(other, Ended::Exit(crate::lifecycle::state::Exit::Stopped), "the others go on");
    }
}
