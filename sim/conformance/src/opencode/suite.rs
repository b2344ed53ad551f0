//! A client that keeps what an OpenCode server does: status, headers that matter, shapes, when it answers, and the order
//! of events. The same for the fake and for the real one.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use fake_opencode::Outcome;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::spawn_local,
    time::{Instant, sleep, timeout},
};

use super::shape::{label, session_of, shape, streams};
use crate::model::plan;

/// The password of every server here: `opencode:secret`, in base64.
pub(super) const PASSWORD: &str = "secret";
const AUTHORIZATION: &str = "Basic b3BlbmNvZGU6c2VjcmV0";
/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What follows the end of a turn comes within this.
const SETTLE: Duration = Duration::from_millis(1_500);

/// What needs no model is answered within this.
const PROMPTLY: Duration = Duration::from_secs(10);
/// A reply lasts at least this long where it matters whether the answer waits for it.
const LONG: Duration = Duration::from_secs(2);
/// What stands before the class of a step's timing.
pub(super) const TIMING: &str = "timing: ";

/// What a server did, by step.
pub type Record = BTreeMap<String, Vec<String>>;

pub(super) struct Suite {
    address: SocketAddr,
    events: mpsc::Receiver<Json>,
    /// What the event stream was answered with.
    head: Vec<String>,
    /// When the event stream said something by itself: a greeting, then heartbeats.
    beats: Rc<RefCell<Vec<Instant>>>,
    pub(super) record: Record,
}

/// The status and the headers that matter.
fn head(response: &http::Response<Incoming>) -> Vec<String> {
    let mut lines = vec![format!("status {}", response.status().as_u16())];
    for name in ["content-type", "www-authenticate", "x-next-cursor", "link"] {
        if let Some(value) = response.headers().get(name) {
            let is_shown = name.contains('-') && !name.starts_with("x-");
            let shown = if is_shown { value.to_str().unwrap() } else { "…" };
            lines.push(format!("{name}: {shown}"));
        }
    }
    lines
}

/// How long the reply to a prompt takes at least; nothing if that says little about when it is answered.
fn lasts(body: &Json) -> Option<Duration> {
    let reply = plan(body["parts"][0]["text"].as_str()?);
    if reply.outcome == Outcome::Hangs {
        return Some(PATIENCE);
    }
    let lasts = reply.first_token_after + reply.pace * reply.content.deltas().saturating_sub(1);
    (lasts >= LONG).then_some(lasts)
}

/// When something was answered, as a class.
fn timing(body: &Json, took: Duration) -> Option<&'static str> {
    let is_prompt = body.get("parts").is_some();
    let limit = if is_prompt { lasts(body)? } else { PROMPTLY };
    Some(match (took < limit, is_prompt) {
        (true, _) => "at once",
        (false, true) => "after the reply",
        (false, false) => "late",
    })
}

impl Suite {
    pub(super) async fn new(address: SocketAddr) -> Self {
        let response = send(address, request("GET", "/event", None)).await;
        let (sender, events) = mpsc::channel(10_000);
        let (head, beats) = (head(&response), Rc::default());
        spawn_local(read_events(response.into_body(), sender, Rc::clone(&beats)));
        Self { address, events, head, beats, record: Record::new() }
    }

    /// The event stream: how it is answered, and how often it says that it is there.
    pub(super) async fn stream(&mut self, step: &str) {
        let beats = self.beats.clone();
        let heartbeat = async {
            while beats.borrow().len() < 2 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, heartbeat).await.expect("the stream has a heartbeat");
        let every = (beats.borrow()[1] - beats.borrow()[0]).as_secs_f64().round();
        let mut lines = std::mem::take(&mut self.head);
        lines.push(format!("{TIMING}held open, a heartbeat every {every} s"));
        self.note(step, lines);
    }

    fn note(&mut self, step: &str, lines: Vec<String>) {
        let before = self.record.insert(step.to_owned(), lines);
        assert!(before.is_none(), "{step} is there twice");
    }

    /// One request: its status, the headers that matter, and the shape of the answer.
    pub(super) async fn ask(&mut self, step: &str, method: &str, path: &str, body: Option<&str>) -> Json {
        let json = body.and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
        self.ask_with(step, request(method, path, body), &json).await
    }

    /// The same with any request; `asked` is its body.
    pub(super) async fn ask_with(&mut self, step: &str, request: Request<Full<Bytes>>, asked: &Json) -> Json {
        let began = Instant::now();
        let response = timeout(PATIENCE, send(self.address, request)).await.expect("it answers");
        let mut lines = head(&response);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        lines.extend(timing(asked, began.elapsed()).map(|class| format!("{TIMING}{class}")));
        let body = serde_json::from_slice(&bytes).unwrap_or(Json::Null);
        match (bytes.is_empty(), &body) {
            (true, _) => lines.push("nothing".into()),
            (false, Json::Null) => lines.push("no JSON".into()),
            (false, body) => lines.extend(shape(body)),
        }
        self.note(step, lines);
        body
    }

    pub(super) async fn session(&mut self, step: &str) -> String {
        let made = self.ask(step, "POST", "/session", Some(r#"{"title":"a title"}"#)).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// Prompts, and keeps the events until the session has been idle for a while. `at` is told each event's label.
    pub(super) async fn turn(&mut self, step: &str, text: &str, at: impl AsyncFn(&str, &Json)) -> String {
        let session = self.session(&format!("{step}: session")).await;
        let created =
            |event: &Json| event["type"] == "session.created" && session_of(event) == Some(&session);
        while !timeout(PATIENCE, self.events.recv())
            .await
            .expect("it is told")
            .is_some_and(|event| created(&event))
        {}
        let body = json!({ "parts": [{ "type": "text", "text": text }] }).to_string();
        self.ask(
            &format!("{step}: prompt_async"),
            "POST",
            &format!("/session/{session}/prompt_async"),
            Some(&body),
        )
        .await;
        let (mut order, mut shapes) = (Vec::<String>::new(), BTreeMap::<String, BTreeSet<String>>::new());
        let mut wait = PATIENCE;
        while let Ok(Some(event)) = timeout(wait, self.events.recv()).await {
            if session_of(&event) != Some(&session) {
                continue;
            }
            let label = label(&event);
            at(&label, &event).await;
            shapes.entry(label.clone()).or_default().extend(shape(&event["properties"]));
            // How many deltas one read of the model's stream makes is a matter of timing.
            if label != "message.part.delta" || order.last() != Some(&label) {
                order.push(label.clone());
            }
            wait = if label == "session.idle" || wait == SETTLE { SETTLE } else { PATIENCE };
        }
        assert_eq!(wait, SETTLE, "{step}: no end in {order:#?}");
        for (name, stream) in streams(order) {
            self.note(&format!("{step}: order of {name}"), stream);
        }
        for (label, shapes) in shapes {
            self.note(&format!("{step}: {label}"), shapes.into_iter().collect());
        }
        self.ask(&format!("{step}: messages"), "GET", &format!("/session/{session}/message"), None).await;
        self.ask(&format!("{step}: session after"), "GET", &format!("/session/{session}"), None).await;
        session
    }

    /// A request beside the suite, of which nothing is kept.
    pub(super) async fn aside(address: SocketAddr, method: &str, path: &str, body: Option<&str>) {
        let response = send(address, request(method, path, body)).await;
        assert!(response.status().is_success(), "{method} {path}: {}", response.status());
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

pub(super) fn request(method: &str, path: &str, body: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1");
    request = request.header(header::AUTHORIZATION, AUTHORIZATION);
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    request.body(Full::from(body.unwrap_or_default().to_owned())).unwrap()
}

async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    spawn_local(connection);
    sender.send_request(request).await.unwrap()
}

async fn read_events(mut body: Incoming, events: mpsc::Sender<Json>, beats: Rc<RefCell<Vec<Instant>>>) {
    let mut open = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        open.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = open.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = open.drain(..end + 2).collect();
            let data = event.strip_prefix(b"data: ").expect("events have data and nothing else");
            let event: Json = serde_json::from_slice(data).unwrap();
            if event["type"].as_str().is_some_and(|kind| kind.starts_with("server.")) {
                beats.borrow_mut().push(Instant::now());
            }
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}
