//! What operators and supervisors ask a running worker over HTTP: `/metrics`, `/healthz` and `/readyz`.
//!
//! On loopback only: nothing here is secret, but it is nobody else's business either. One future serves all
//! connections, so no task is left behind when it is dropped.

pub mod metrics;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use self::metrics::{Build, NamedStatus};
use crate::{
    config::AdminAddress,
    env::UnixMillis,
    lifecycle::state::Phase,
    orchestrator::Roster,
    telemetry::{Status, phase_name},
};

/// Connections that are served at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 8;
/// One connection carries one request and may take this long.
const MAX_DURATION: Duration = Duration::from_secs(10);
/// The longest request head that is read (bytes; hyper allows no smaller bound).
const MAX_HEAD: usize = 8 * 1024;
/// The pause after a connection could not be accepted, as when the process has too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for metrics and health: {source}; end what listens there or change `admin`"
)]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Whose numbers are shown.
#[derive(Debug, Clone)]
pub enum Workers {
    /// The process is one worker.
    One(Arc<Status>),
    /// The process runs many.
    Many(Roster),
}

impl Workers {
    fn all(&self) -> Vec<NamedStatus> {
        match self {
            Self::One(status) => vec![(None, status.clone())],
            Self::Many(roster) => roster.all().into_iter().map(|(name, s)| (Some(name), s)).collect(),
        }
    }
}

/// What is shown.
#[derive(Debug, Clone)]
pub struct View {
    /// The workers' numbers.
    pub workers: Workers,
    /// Which program runs.
    pub build: Build,
    /// When the process began.
    pub started: UnixMillis,
}

/// An open listener that nobody is served on yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
}

impl Admin {
    /// Opens the listener.
    pub async fn bind(address: AdminAddress) -> Result<Self, BindError> {
        let address = address.socket_address();
        let listener = TcpListener::bind(address).await.map_err(|source| BindError { address, source })?;
        Ok(Self { listener })
    }

    /// Returns where it listens: the real port where port 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is dropped.
    pub async fn serve(self, view: View) -> Infallible {
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => connections.push(serve_one(stream, &view)),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection for metrics and health");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(()) = connections.next() => {}
            }
        }
    }
}

async fn serve_one(stream: TcpStream, view: &View) {
    let service = service_fn(async |request: Request<_>| {
        Ok::<_, Infallible>(answer(view, request.method(), request.uri().path()))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(MAX_DURATION, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a request for metrics or health failed"),
        Err(_) => tracing::debug!("a request for metrics or health took too long"),
    }
}

fn answer(view: &View, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n".to_owned());
    }
    match path {
        "/metrics" => {
            let text = metrics::render(&view.workers.all(), view.build, view.started);
            reply(StatusCode::OK, metrics::MEDIA_TYPE, text)
        }
        "/healthz" => each(&view.workers, "alive", health),
        "/readyz" => each(&view.workers, "ready", readiness),
        _ => reply(StatusCode::NOT_FOUND, "text/plain", "try /metrics, /healthz or /readyz\n".to_owned()),
    }
}

/// The answer of one worker, or of each of many: good if all are.
fn each(workers: &Workers, what: &str, ask: fn(&Status) -> (bool, Value)) -> Response<Full<Bytes>> {
    if let Workers::One(status) = workers {
        let (good, body) = ask(status);
        return json_reply(good, &body);
    }
    let mut all_good = true;
    let mut answers = serde_json::Map::new();
    for (name, status) in workers.all() {
        let (good, body) = ask(&status);
        all_good &= good;
        answers.insert(name.unwrap_or_default(), body);
    }
    json_reply(all_good, &json!({ what: all_good, "workers": answers }))
}

/// Returns whether the main loop is alive, and what is said about it.
fn health(status: &Status) -> (bool, Value) {
    let alive = status.is_alive();
    let silent_ms = status.silence().map(|silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX));
    (alive, json!({ "alive": alive, "silent_ms": silent_ms }))
}

/// Returns whether the worker takes turns, and what is said about it.
fn readiness(status: &Status) -> (bool, Value) {
    let phase = status.phase();
    let ready = phase == Phase::Ready;
    (ready, json!({ "ready": ready, "phase": phase_name(phase) }))
}

fn json_reply(good: bool, body: &Value) -> Response<Full<Bytes>> {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply(status, "application/json", format!("{body}\n"))
}

fn reply(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    response
}

#[cfg(test)]
mod tests;
