//! One server process: its start, its connections, its end.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    fmt,
    rc::{Rc, Weak},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    api,
    bus::Bus,
    observation::Observation,
    state::{Machine, ServerState},
};

/// A running server. Dropping it is a crash: connections break off, replies in flight are lost, the disk stays.
/// (The real one ends the same way on SIGTERM.)
pub struct Server {
    inner: Rc<ServerState>,
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
        let inner = ServerState {
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

    pub(super) fn downgrade(&self) -> Weak<ServerState> {
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
