//! What is asked of an OpenCode server, and what is kept of its answers: status, headers that matter, shapes, and the
//! order of events. The same against the fake and against the real one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::spawn_local,
    time::{sleep, timeout},
};

/// The password of every server here: `opencode:secret`, in base64.
pub(crate) const PASSWORD: &str = "secret";
const AUTHORIZATION: &str = "Basic b3BlbmNvZGU6c2VjcmV0";
/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What follows the end of a turn comes within this.
const SETTLE: Duration = Duration::from_millis(1_500);

/// What a server did, by step.
pub(crate) type Record = BTreeMap<String, Vec<String>>;

pub(crate) struct Suite {
    address: SocketAddr,
    events: mpsc::Receiver<Json>,
    pub(crate) record: Record,
}

/// The fields of a value with their types, as `a.b[].c: string`; the elements of a list count together.
fn shape(value: &Json) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    collect("", value, &mut fields);
    fields
}

fn collect(path: &str, value: &Json, fields: &mut BTreeSet<String>) {
    let kind = match value {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(items) => {
            items.iter().for_each(|item| collect(&format!("{path}[]"), item, fields));
            "list"
        }
        Json::Object(inside) => {
            for (key, value) in inside {
                let key = if key.starts_with("ses_") { "ses_…" } else { key };
                collect(&format!("{path}.{key}"), value, fields);
            }
            "object"
        }
    };
    fields.insert(format!("{}: {kind}", path.trim_start_matches('.')));
}

/// What an event says, without what differs from run to run.
fn label(event: &Json) -> String {
    let (kind, says) = (event["type"].as_str().unwrap_or_default(), &event["properties"]);
    let text = |value: &Json| value.as_str().unwrap_or("-").to_owned();
    let detail = match kind {
        "message.updated" => {
            let info = &says["info"];
            let has =
                |field: &Json, name: &str| if field.is_null() { String::new() } else { format!(" {name}") };
            format!(
                "{}{}{}{}",
                text(&info["role"]),
                info["finish"].as_str().map(|finish| format!(" finish={finish}")).unwrap_or_default(),
                has(&info["time"]["completed"], "completed"),
                info["error"]["name"].as_str().map(|name| format!(" error={name}")).unwrap_or_default(),
            )
        }
        "message.part.updated" => {
            let part = &says["part"];
            let ended = if part["time"]["end"].is_null() { "" } else { " ended" };
            let status = part["state"]["status"].as_str().map(|status| format!(" {status}"));
            format!("{}{ended}{}", text(&part["type"]), status.unwrap_or_default())
        }
        "session.status" => text(&says["status"]["type"]),
        "session.error" => text(&says["error"]["name"]),
        "permission.replied" => text(&says["reply"]),
        _ => String::new(),
    };
    format!("{kind} {detail}").trim_end().to_owned()
}

fn session_of(event: &Json) -> Option<&str> {
    let says = &event["properties"];
    let places =
        [&says["sessionID"], &says["info"]["sessionID"], &says["part"]["sessionID"], &says["info"]["id"]];
    places.into_iter().find_map(Json::as_str)
}

/// The real server sums up, asks for permission and answers at the same time, so only the order within each is certain:
/// it differs from run to run how they interleave.
fn streams(order: Vec<String>) -> BTreeMap<&'static str, Vec<String>> {
    let mut streams = BTreeMap::<_, Vec<_>>::new();
    for label in order {
        let name = match label.as_str() {
            "session.updated" | "session.diff" | "message.updated user" => "summaries",
            label if label.starts_with("permission.") => "permissions",
            _ => "events",
        };
        streams.entry(name).or_default().push(label);
    }
    streams
}

impl Suite {
    pub(crate) async fn new(address: SocketAddr) -> Self {
        let response = send(address, request("GET", "/event", None)).await;
        let (sender, events) = mpsc::channel(10_000);
        spawn_local(read_events(response.into_body(), sender));
        Self { address, events, record: Record::new() }
    }

    fn note(&mut self, step: &str, lines: Vec<String>) {
        let before = self.record.insert(step.to_owned(), lines);
        assert!(before.is_none(), "{step} is there twice");
    }

    /// One request: its status, the headers that matter, and the shape of the answer.
    pub(crate) async fn ask(&mut self, step: &str, method: &str, path: &str, body: Option<&str>) -> Json {
        self.ask_with(step, request(method, path, body)).await
    }

    pub(crate) async fn ask_with(&mut self, step: &str, request: Request<Full<Bytes>>) -> Json {
        let response = timeout(PATIENCE, send(self.address, request)).await.expect("it answers");
        let mut lines = vec![format!("status {}", response.status().as_u16())];
        for name in ["content-type", "www-authenticate", "x-next-cursor", "link"] {
            if let Some(value) = response.headers().get(name) {
                let shown = if name.contains('-') && !name.starts_with("x-") {
                    value.to_str().unwrap()
                } else {
                    "…"
                };
                lines.push(format!("{name}: {shown}"));
            }
        }
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Json::Null);
        match (bytes.is_empty(), &body) {
            (true, _) => lines.push("nothing".into()),
            (false, Json::Null) => lines.push("no JSON".into()),
            (false, body) => lines.extend(shape(body)),
        }
        self.note(step, lines);
        body
    }

    pub(crate) async fn session(&mut self, step: &str) -> String {
        let made = self.ask(step, "POST", "/session", Some(r#"{"title":"a title"}"#)).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// Prompts, and keeps the events until the session has been idle for a while. `at` is told each event's label.
    pub(crate) async fn turn(&mut self, step: &str, text: &str, at: impl AsyncFn(&str, &Json)) -> String {
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
    pub(crate) async fn aside(address: SocketAddr, method: &str, path: &str, body: Option<&str>) {
        let response = send(address, request(method, path, body)).await;
        assert!(response.status().is_success(), "{method} {path}: {}", response.status());
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

pub(crate) fn request(method: &str, path: &str, body: Option<&str>) -> Request<Full<Bytes>> {
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

async fn read_events(mut body: Incoming, events: mpsc::Sender<Json>) {
    let mut open = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        open.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = open.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = open.drain(..end + 2).collect();
            let data = event.strip_prefix(b"data: ").expect("events have data and nothing else");
            if events.send(serde_json::from_slice(data).unwrap()).await.is_err() {
                return;
            }
        }
    }
}

/// Everything that needs no permission.
pub(crate) async fn plain(suite: &mut Suite) {
    requests(suite).await;
    let nothing = async |_: &str, _: &Json| {};
    suite.turn("a reply", "hello [[deltas=3 pace=40]]", nothing).await;
    suite.turn("a tool and a reply", "do it [[tool=1 deltas=2 pace=40]]", nothing).await;
    suite.turn("reasoning", "think [[reasoning=2 deltas=2 pace=40]]", nothing).await;
    suite.turn("an error of the model", "no [[error=400]]", nothing).await;
    let address = suite.address();
    let abort = async |label: &str, event: &Json| {
        if label == "message.part.delta" {
            sleep(Duration::from_millis(100)).await;
            let path = format!("/session/{}/abort", session_of(event).unwrap());
            Suite::aside(address, "POST", &path, None).await;
        }
    };
    suite.turn("an abort", "for ever [[deltas=1 hang=1]]", abort).await;
}

async fn requests(suite: &mut Suite) {
    let mut stranger = request("GET", "/session", None);
    stranger.headers_mut().remove(header::AUTHORIZATION);
    suite.ask_with("without password", stranger).await;
    let session = suite.session("POST /session").await;
    let path = |rest: &str| format!("/session/{session}{rest}");
    for (step, method, path, body) in [
        ("health", "GET", "/global/health".into(), None),
        ("POST /session, empty object", "POST", "/session".into(), Some("{}")),
        ("POST /session, malformed", "POST", "/session".into(), Some("{")),
        ("POST /session, wrong type", "POST", "/session".into(), Some(r#"{"title":1}"#)),
        ("GET /session/{id}", "GET", path(""), None),
        ("GET /session/{id}, missing", "GET", "/session/ses_doesnotexist000000000000".into(), None),
        ("GET /session/{id}, malformed", "GET", "/session/bogus".into(), None),
        ("PATCH /session/{id}", "PATCH", path(""), Some(r#"{"title":"another"}"#)),
        ("GET /session?limit=1", "GET", "/session?limit=1".into(), None),
        ("GET /session?limit=0", "GET", "/session?limit=0".into(), None),
        ("GET /session/status", "GET", "/session/status".into(), None),
        ("GET /session/{id}/message", "GET", path("/message"), None),
        ("GET /session/{id}/message?limit=x", "GET", path("/message?limit=x"), None),
        ("GET /session/{id}/children", "GET", path("/children"), None),
        ("prompt without parts", "POST", path("/message"), Some("{}")),
        ("prompt, malformed", "POST", path("/message"), Some("{")),
        (
            "prompt_async, missing session",
            "POST",
            "/session/ses_doesnotexist000000000000/prompt_async".into(),
            Some(r#"{"parts":[{"type":"text","text":"x"}]}"#),
        ),
        (
            "prompt without reply",
            "POST",
            path("/message"),
            Some(r#"{"noReply":true,"parts":[{"type":"text","text":"x"}]}"#),
        ),
        (
            "prompt, waiting",
            "POST",
            path("/message"),
            Some(r#"{"parts":[{"type":"text","text":"x [[deltas=2]]"}]}"#),
        ),
        (
            "prompt, unknown model",
            "POST",
            path("/message"),
            Some(r#"{"model":{"providerID":"no","modelID":"no"},"parts":[{"type":"text","text":"x"}]}"#),
        ),
        ("GET /session/{id}/message?limit=1", "GET", path("/message?limit=1"), None),
        ("abort of nothing", "POST", path("/abort"), None),
        ("GET /permission", "GET", "/permission".into(), None),
        (
            "permission reply, missing",
            "POST",
            "/permission/per_missing/reply".into(),
            Some(r#"{"reply":"reject"}"#),
        ),
        ("GET /question", "GET", "/question".into(), None),
        ("GET /config/providers", "GET", "/config/providers".into(), None),
        ("unknown route", "GET", "/nosuchroute".into(), None),
        ("DELETE /session/{id}", "DELETE", path(""), None),
        ("DELETE /session/{id}, again", "DELETE", path(""), None),
    ] {
        suite.ask(step, method, &path, body).await;
    }
}

/// What happens when the tool asks.
pub(crate) async fn asking(suite: &mut Suite) {
    let address = suite.address();
    for reply in ["reject", "once"] {
        let answer = async |label: &str, event: &Json| {
            if label == "permission.asked" {
                let path = format!("/permission/{}/reply", event["properties"]["id"].as_str().unwrap());
                Suite::aside(address, "POST", &path, Some(&json!({ "reply": reply }).to_string())).await;
            }
        };
        suite
            .turn(&format!("a permission, {reply}"), "may I? [[tool=1 ask=1 deltas=2 pace=40]]", answer)
            .await;
    }
}
