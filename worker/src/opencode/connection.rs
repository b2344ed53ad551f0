//! The edge between hyper and [`Env`]: a connector over `Env::connect`, and an owner for every task that hyper starts.
//!
//! Both erase the `Env`, so that everything above is concrete.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::env::{Address, Env};

/// The tasks of one client. When it is closed they end, and nothing new starts or connects.
#[derive(Clone)]
pub(crate) struct Tasks {
    spawn: Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>,
    tracker: TaskTracker,
    closed: CancellationToken,
}

impl Tasks {
    /// Tasks that run by `env`.
    pub(crate) fn new<E: Env>(env: E) -> Self {
        // The handle is dropped: the tracker owns the task, and the token ends it.
        let spawn = move |task| drop(env.spawn(task));
        Self { spawn: Arc::new(spawn), tracker: TaskTracker::new(), closed: CancellationToken::new() }
    }

    /// Starts a task that ends with `close` at the latest.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        let bounded = async move { closed.run_until_cancelled(task).await.unwrap_or(()) };
        (self.spawn)(Box::pin(self.tracker.track_future(bounded)));
    }

    /// Ends all tasks at their next step.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        self.tracker.close();
    }

    /// Resolves when `close` was called and every task has ended.
    pub(crate) async fn ended(&self) {
        self.tracker.wait().await;
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

type Dial = dyn Fn() -> BoxFuture<'static, io::Result<TokioIo<Dialed>>> + Send + Sync;

/// Connects to one server, whatever the URI says.
#[derive(Clone)]
pub(crate) struct Connector {
    dial: Arc<Dial>,
    tasks: Tasks,
}

impl Connector {
    /// Connects to `address` by `env`, until `tasks` are closed. The caller bounds the time it takes.
    pub(crate) fn new<E: Env>(env: E, address: Address, tasks: Tasks) -> Self {
        let dial = move || -> BoxFuture<'static, _> {
            let (env, address) = (env.clone(), address.clone());
            Box::pin(async move {
                let stream = env.connect(&address).await?;
                Ok(TokioIo::new(Dialed(Box::pin(stream))))
            })
        };
        Self { dial: Arc::new(dial), tasks }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Dialed>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Dialed>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let closed = self.tasks.closed.clone();
        let dial = self.dial.clone();
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "this OpenCode server has been stopped");
        Box::pin(async move {
            if closed.is_cancelled() {
                return Err(gone());
            }
            closed.run_until_cancelled(dial()).await.unwrap_or_else(|| Err(gone()))
        })
    }
}

/// An open stream of any kind.
pub(crate) struct Dialed(Pin<Box<dyn Duplex>>);

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Dialed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Dialed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
