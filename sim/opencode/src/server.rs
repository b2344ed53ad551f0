//! One server process: its connections, its runs, its end.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    rc::{Rc, Weak},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Latencies, Machine, Observation, api, events::Bus, permissions::Pending, run::Run};

/// A running server. Dropping it is a crash: connections break off, replies in flight are lost, the disk stays.
/// (The real one ends the same way on SIGTERM.)
pub struct Server {
    inner: Rc<Inner>,
}

/// What requests, runs and streams of one process share.
pub(super) struct Inner {
    pub(super) machine: Rc<Machine>,
    generation: u64,
    pub(super) password: Option<String>,
    ready_at: Instant,
    pub(super) bus: Bus,
    /// Open event streams, also those of other directories.
    pub(super) streams: Cell<usize>,
    /// Busy sessions.
    pub(super) runs: RefCell<BTreeMap<String, Run>>,
    /// Permission questions that nobody has answered yet; at most one per run.
    pub(super) permissions: RefCell<BTreeMap<String, Pending>>,
    /// Whether a prompt has been answered: the first one costs more.
    pub(super) warm: Cell<bool>,
    pub(super) creating: Cell<usize>,
    create_free_at: Cell<Instant>,
    stopped: CancellationToken,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("generation", &self.inner.generation).finish_non_exhaustive()
    }
}

impl Server {
    pub(super) fn new(machine: Rc<Machine>, generation: u64, password: Option<String>) -> Self {
        let ready_at =
            Instant::now() + machine.options.latencies.startup + machine.options.faults.startup_delay();
        let inner = Inner {
            machine,
            generation,
            password,
            ready_at,
            bus: Bus::default(),
            streams: Cell::new(0),
            runs: RefCell::default(),
            permissions: RefCell::default(),
            warm: Cell::new(false),
            creating: Cell::new(0),
            create_free_at: Cell::new(ready_at),
            stopped: CancellationToken::new(),
        };
        Self { inner: Rc::new(inner) }
    }

    pub(super) fn downgrade(&self) -> Weak<Inner> {
        Rc::downgrade(&self.inner)
    }

    /// Which start of the machine this is, from 1.
    pub fn generation(&self) -> u64 {
        self.inner.generation
    }

    /// Resolves when the start-up time is over: then it listens and prints its ready line.
    pub async fn ready(&self) {
        if self.inner.ready_at > Instant::now() {
            tokio::time::sleep_until(self.inner.ready_at).await;
        }
    }

    /// Serves one connection (HTTP/1, keep-alive) until either side ends it. The future does not keep the server
    /// alive. Poll it inside a `LocalSet`.
    pub fn serve_connection<S>(&self, stream: S) -> impl Future<Output = ()> + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let server = self.inner.clone();
        async move {
            let service = service_fn(|request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(api::handle(server, request).await) }
            });
            let mut http = http1::Builder::new();
            let connection = http.auto_date_header(false).serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                biased;
                () = server.stopped.cancelled() => {}
                // A client that goes away in the middle is its own affair.
                _ = connection => {}
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.inner.stopped.cancel();
        let lost_replies = self.inner.runs.borrow().len();
        let generation = self.inner.generation;
        self.inner.machine.observe(&Observation::ServerStopped { generation, lost_replies });
    }
}

impl Inner {
    pub(super) fn latencies(&self) -> &Latencies {
        &self.machine.options.latencies
    }

    /// Starts work that outlives the request that asked for it, and dies with the server.
    pub(super) fn spawn(self: &Rc<Self>, work: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
        let stopped = self.stopped.clone();
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                () = work => {}
            }
        })
    }

    /// Waits for the turn of one creation: they are served one after the other.
    pub(super) async fn create_turn(&self) {
        let free_at = self.create_free_at.get().max(Instant::now()) + self.latencies().create;
        self.create_free_at.set(free_at);
        if free_at > Instant::now() {
            tokio::time::sleep_until(free_at).await;
        }
    }
}

/// Sleeps, unless the time is nothing.
pub(super) async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
