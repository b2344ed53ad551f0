//! One machine, one server, and a client that speaks HTTP to it over pipes in memory.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{task::LocalSet, time::Instant};

use super::super::{
    Content, Latencies, Observation, OpenCode, Options, Outcome, Prompt, Reply, Server, by_directives,
};

/// When the recordings were made: 2026-11-23.
pub(super) const EPOCH: u64 = 1_795_430_150_000;

/// What the observer heard, as text.
pub(super) type Heard = Rc<RefCell<Vec<String>>>;

pub(super) struct World {
    pub(super) machine: OpenCode,
    pub(super) server: RefCell<Option<Server>>,
    pub(super) heard: Heard,
    token: RefCell<Option<String>>,
}

pub(super) struct Reply200 {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
}

impl Reply200 {
    /// The body as JSON; text that is no JSON as a string.
    pub(super) fn body(&self) -> Value {
        let text = || Value::String(String::from_utf8_lossy(&self.bytes).into_owned());
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| text())
    }
}

/// Runs a test on a paused clock, in one thread.
pub(super) fn run(test: impl AsyncFnOnce(Rc<World>)) {
    run_with(Latencies::default(), None, test);
}

pub(super) fn run_with(latencies: Latencies, password: Option<&str>, test: impl AsyncFnOnce(Rc<World>)) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let start = Instant::now();
        let heard = Heard::default();
        let mut options = Options::new(7, Rc::new(move || EPOCH + start.elapsed().as_millis() as u64));
        options.script = Rc::new(recorded_script);
        options.latencies = latencies;
        let ears = heard.clone();
        options.observer = Rc::new(move |seen: &Observation<'_>| ears.borrow_mut().push(format!("{seen:?}")));
        let machine = OpenCode::new(options);
        let server = RefCell::new(None);
        let world = Rc::new(World { machine, server, heard, token: RefCell::new(None) });
        world.start(password).await;
        test(world).await;
    });
}

/// The model of the recordings: `[[chunks=N delay=S err=CODE tool=1]]`, answering `word0 word1 …`.
/// A text without such directives, or with our own, is answered as usual.
fn recorded_script(prompt: &Prompt<'_>) -> Reply {
    let mut reply = by_directives(prompt);
    let inside = prompt.text.split_once("[[").and_then(|(_, rest)| rest.split_once("]]"));
    let mut chunks = None;
    for word in inside.map_or("", |(inside, _)| inside).split_whitespace() {
        match word.split_once('=') {
            Some(("chunks", count)) => chunks = count.parse::<usize>().ok(),
            Some(("delay", seconds)) => reply.pace = Duration::from_secs_f64(seconds.parse().unwrap()),
            Some(("err", code)) => reply.outcome = Outcome::ModelError(code.parse().unwrap()),
            _ => {}
        }
    }
    if let Some(chunks) = chunks.or(inside.is_none().then_some(8)) {
        reply.content = Content::Text((0..chunks).map(|index| format!("word{index} ")).collect());
    }
    reply
}

impl World {
    pub(super) async fn start(&self, password: Option<&str>) {
        let server = self.machine.start(password.map(Into::into));
        server.ready().await;
        *self.server.borrow_mut() = Some(server);
        *self.token.borrow_mut() = password.map(|_| "Basic b3BlbmNvZGU6c2VrcmV0".into());
    }

    /// Kills the server: its disk stays.
    pub(super) fn crash(&self) {
        *self.server.borrow_mut() = None;
    }

    pub(super) async fn open(
        &self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<http::Response<Incoming>> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let connection = self.server.borrow().as_ref().expect("a server runs").serve_connection(far);
        tokio::task::spawn_local(connection);
        let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await?;
        tokio::task::spawn_local(connection);
        sender.send_request(request).await
    }

    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Reply200 {
        let response = self.open(request).await.expect("the server answers");
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("the body comes whole").to_bytes();
        Reply200 { status: head.status.as_u16(), headers: head.headers, bytes }
    }

    pub(super) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:18401");
        if let Some(token) = &*self.token.borrow() {
            request = request.header(header::AUTHORIZATION, token);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Full::from(body.map(Value::to_string).unwrap_or_default())).unwrap()
    }

    pub(super) async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Reply200 {
        self.send(self.request(method, path, body)).await
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).await.body()
    }

    pub(super) async fn create(&self, title: &str) -> String {
        let reply = self.call("POST", "/session", Some(&json!({ "title": title }))).await;
        reply.body()["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn prompt(&self, session: &str, text: &str) -> Value {
        let body = json!({ "parts": [{ "type": "text", "text": text }] });
        self.call("POST", &format!("/session/{session}/message"), Some(&body)).await.body()
    }

    pub(super) async fn prompt_async(&self, session: &str, text: &str) {
        let body = json!({ "parts": [{ "type": "text", "text": text }] });
        let reply = self.call("POST", &format!("/session/{session}/prompt_async"), Some(&body)).await;
        assert_eq!(reply.status, 204);
    }

    /// A new session, some time after its first prompt.
    pub(super) async fn prompted(&self, title: &str, text: &str, after: Duration) -> String {
        let session = self.create(title).await;
        self.prompt_async(&session, text).await;
        tokio::time::sleep(after).await;
        session
    }

    pub(super) async fn abort(&self, session: &str) {
        self.call("POST", &format!("/session/{session}/abort"), None).await;
    }

    pub(super) async fn messages(&self, session: &str) -> Value {
        self.get(&format!("/session/{session}/message")).await
    }

    /// All events from now on, parsed by an independent crate, as they come.
    pub(super) async fn listen(&self, path: &str) -> Rc<RefCell<Vec<Value>>> {
        let response = self.open(self.request("GET", path, None)).await.expect("the server answers");
        let mut stream = sse_stream::SseStream::new(response.into_body());
        let events = Rc::new(RefCell::new(Vec::new()));
        let sink = events.clone();
        tokio::task::spawn_local(async move {
            while let Some(Ok(event)) = stream.next().await {
                assert!(event.id.is_none() && event.event.is_none() && event.retry.is_none());
                sink.borrow_mut().push(serde_json::from_str(&event.data.unwrap()).unwrap());
            }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        events
    }

    /// Waits until nothing runs.
    pub(super) async fn settle(&self) {
        while self.get("/session/status").await != json!({}) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    pub(super) fn heard(&self, word: &str) -> Vec<String> {
        self.heard.borrow().iter().filter(|line| line.starts_with(word)).cloned().collect()
    }
}
