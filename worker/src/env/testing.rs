//! An [`Env`] for tests: in-memory pipes, a counter for randomness, and an OpenCode server of which each answer can be
//! set. Use it on a paused runtime.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use tokio::{
    io::DuplexStream,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use super::{Address, Env, Launch, LaunchError, ServerProcess, UnixMillis};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Bytes that a pipe holds.
const PIPE: usize = 64 * 1024;

/// An in-memory world. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct TestEnv {
    world: Arc<Mutex<World>>,
}

/// What there is, and how it is to behave.
#[derive(Default)]
pub(crate) struct World {
    /// Launches that are going to fail.
    pub(crate) failing_launches: u32,
    /// How long a launch takes.
    pub(crate) launch_takes: Duration,
    /// How long a stop takes.
    pub(crate) stop_takes: Duration,
    /// `METHOD /path` → answer; a path ends before its query.
    pub(crate) answers: BTreeMap<String, Answer>,
    /// `METHOD /path?query body` of every request.
    pub(crate) requests: Vec<String>,
    launches: u32,
    random: u64,
    servers: BTreeMap<u16, Running>,
}

/// What a route answers.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Status, content type, body.
    Body(u16, &'static str, Bytes),
    /// Nothing, ever.
    Silence,
    /// The connection breaks.
    Cut,
}

impl Answer {
    /// A JSON answer.
    pub(crate) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Body(status, "application/json", body.into())
    }
}

struct Running {
    authorization: String,
    exit: watch::Sender<Option<String>>,
    streams: Vec<mpsc::Sender<Bytes>>,
    connections: JoinSet<()>,
}

impl TestEnv {
    /// A world whose server is healthy.
    pub(crate) fn new() -> Self {
        let env = Self::default();
        env.answer("GET /global/health", Answer::json(200, r#"{"healthy":true,"version":"1.18.33"}"#));
        env
    }

    /// The world, to look at or to change.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what a route answers.
    pub(crate) fn answer(&self, route: &str, answer: Answer) {
        self.world().answers.insert(route.into(), answer);
    }

    /// Sends bytes on every open event stream.
    pub(crate) fn push(&self, text: &str) {
        for server in self.world().servers.values() {
            for stream in &server.streams {
                let _ = stream.try_send(Bytes::copy_from_slice(text.as_bytes()));
            }
        }
    }

    /// Sends an event on every open event stream.
    pub(crate) fn event(&self, kind: &str, properties: &str) {
        self.push(&format!("data: {{\"id\":\"evt_1\",\"type\":\"{kind}\",\"properties\":{properties}}}\n\n"));
    }

    /// Event streams that somebody reads.
    pub(crate) fn open_streams(&self) -> usize {
        let world = self.world();
        world.servers.values().flat_map(|server| &server.streams).filter(|stream| !stream.is_closed()).count()
    }

    /// Ends every event stream.
    pub(crate) fn end_streams(&self) {
        self.world().servers.values_mut().for_each(|server| server.streams.clear());
    }

    /// Launches so far.
    pub(crate) fn launches(&self) -> u32 {
        self.world().launches
    }

    /// Servers that run.
    pub(crate) fn running(&self) -> usize {
        self.world().servers.len()
    }

    /// Kills every server.
    pub(crate) fn crash(&self) {
        for (_, server) in std::mem::take(&mut self.world().servers) {
            server.exit.send_replace(Some("killed by signal 9".into()));
        }
    }

    fn serve(&self, port: u16, stream: DuplexStream) -> io::Result<()> {
        let env = self.clone();
        let service = service_fn(move |request| {
            let env = env.clone();
            async move { env.respond(port, request).await }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.auto_date_header(false);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut world = self.world();
        let server = world.servers.get_mut(&port).ok_or(io::ErrorKind::ConnectionRefused)?;
        server.connections.spawn(async move { drop(connection.await) });
        Ok(())
    }

    async fn respond(&self, port: u16, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let route = format!("{} {}", head.method, head.uri.path());
        let answer = {
            let mut world = self.world();
            let line = format!("{} {} {}", head.method, head.uri, String::from_utf8_lossy(&body));
            world.requests.push(line.trim_end().into());
            let server = world.servers.get_mut(&port).ok_or(io::ErrorKind::NotFound)?;
            if head.headers.get(header::AUTHORIZATION).is_none_or(|v| v != server.authorization.as_str()) {
                Some(Answer::Body(401, "", Bytes::new()))
            } else {
                world.answers.get(&route).cloned()
            }
        };
        match answer {
            Some(Answer::Body(status, kind, body)) => Ok(full(status, kind, body)),
            Some(Answer::Silence) => std::future::pending().await,
            Some(Answer::Cut) => Err(io::ErrorKind::ConnectionReset.into()),
            None if route == "GET /event" => Ok(self.open_stream(port)),
            None => Ok(full(200, "text/html", Bytes::from_static(b"<!doctype html>"))),
        }
    }

    fn open_stream(&self, port: u16) -> Response<Body> {
        let (sender, mut receiver) = mpsc::channel(1024);
        let first = Bytes::from_static(b"data: {\"type\":\"server.connected\",\"properties\":{}}\n\n");
        sender.try_send(first).unwrap();
        if let Some(server) = self.world().servers.get_mut(&port) {
            server.streams.push(sender);
        }
        let frames =
            futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx)).map(|b| Ok(Frame::data(b)));
        let response = Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
        response.body(StreamBody::new(frames).boxed_unsync()).unwrap()
    }
}

fn full(status: u16, kind: &'static str, body: Bytes) -> Response<Body> {
    let response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    response.header(header::CONTENT_TYPE, kind).body(Full::new(body).boxed_unsync()).unwrap()
}

impl Env for TestEnv {
    type Stream = DuplexStream;
    type Server = TestServer;

    async fn connect(&self, address: &Address) -> io::Result<DuplexStream> {
        let (client, server) = tokio::io::duplex(PIPE);
        self.serve(address.port, server)?;
        Ok(client)
    }

    async fn launch(&self, launch: Launch) -> Result<TestServer, LaunchError> {
        let takes = self.world().launch_takes;
        tokio::time::sleep(takes).await;
        let mut world = self.world();
        world.launches += 1;
        if world.failing_launches > 0 {
            world.failing_launches -= 1;
            let (binary, status) = ("opencode".into(), "exit code 1".into());
            return Err(LaunchError::Exited { binary, status, output: "no such model".into() });
        }
        let (exit, exited) = watch::channel(None);
        let port = 1000 + u16::try_from(world.launches).unwrap();
        let token = format!("opencode:{}", launch.password.expose_secret());
        let authorization =
            format!("Basic {}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, token));
        let running = Running { authorization, exit, streams: Vec::new(), connections: JoinSet::new() };
        world.servers.insert(port, running);
        Ok(TestServer { env: self.clone(), port, exited })
    }

    fn now(&self) -> UnixMillis {
        0
    }

    fn random(&self, buffer: &mut [u8]) {
        let mut world = self.world();
        for byte in buffer {
            world.random += 1;
            *byte = u8::try_from(world.random % 251).unwrap();
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the Env of the tests")]
    fn spawn<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(task)
    }
}

/// A running server of the test's world.
pub(crate) struct TestServer {
    env: TestEnv,
    port: u16,
    exited: watch::Receiver<Option<String>>,
}

impl ServerProcess for TestServer {
    fn address(&self) -> Address {
        Address { host: "127.0.0.1".into(), port: self.port }
    }

    async fn exited(&mut self) -> String {
        let status = self.exited.wait_for(Option::is_some).await;
        status.ok().and_then(|status| status.clone()).unwrap_or_else(|| "killed by signal 9".into())
    }

    async fn stop(self, grace: Duration) {
        let takes = self.env.world().stop_takes.min(grace);
        tokio::time::sleep(takes).await;
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.env.world().servers.remove(&self.port);
    }
}
