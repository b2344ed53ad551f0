//! `/session/{id}/message` and `/session/{id}/prompt_async`.

use std::rc::Rc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    answer::{self, Answer, Problem},
    call::Call,
    input,
};
use crate::{
    run::{Ask, PromptError},
    state::{ServerState, Waiter, pause},
    wire::Message,
};

/// Where the next (older) page begins: it holds what is older than this message.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    id: String,
    time: u64,
}

impl Cursor {
    fn of(message: &Message) -> Self {
        Self { id: message.info.id().into(), time: message.info.created() }
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("our own types serialise into memory"))
    }

    fn decode(text: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

/// The newest `limit` messages, oldest first; all with a limit of 0 or none.
pub(super) fn list(server: &ServerState, call: &Call) -> Answer {
    let id = call.session()?;
    let limit = limit(call)?;
    let before = match call.query.get("before") {
        Some(text) => Some(Cursor::decode(text).ok_or(Problem::BadRequest)?),
        None => None,
    };
    let store = server.machine.store.borrow();
    let mut messages = Problem::unless_known(id, store.messages(id))?;
    if let Some(cursor) = before {
        let end = messages.iter().position(|message| Cursor::of(message) == cursor);
        messages = &messages[..end.ok_or(Problem::BadRequest)?];
    }
    let start = if limit == 0 { 0 } else { messages.len().saturating_sub(limit) };
    let page = &messages[start..];
    let mut response = answer::json(&page)?;
    if let Some(first) = page.first().filter(|_| start > 0) {
        link(call, response.headers_mut(), limit, &Cursor::of(first).encode());
    }
    Ok(response)
}

fn limit(call: &Call) -> Result<usize, Problem> {
    let Some(text) = call.query.get("limit") else { return Ok(0) };
    text.parse().map_err(|_| Problem::Invalid {
        message: "Expected an integer, got NaN\n  at [\"limit\"]".into(),
        kind: "Query",
    })
}

fn link(call: &Call, headers: &mut http::HeaderMap, limit: usize, cursor: &str) {
    let host = call.header(header::HOST).unwrap_or("127.0.0.1");
    let link = format!("<http://{host}{}?limit={limit}&before={cursor}>; rel=\"next\"", call.path);
    let fields = [
        (header::LINK, link.as_str()),
        (header::HeaderName::from_static("x-next-cursor"), cursor),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Link, X-Next-Cursor"),
    ];
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

pub(super) fn get(server: &ServerState, call: &Call) -> Answer {
    let session = call.session()?;
    let store = server.machine.store.borrow();
    Problem::unless_known(session, store.get(session))?;
    let id = call.id(1);
    answer::json(store.message(session, id).ok_or_else(|| Problem::NoMessage(id.into()))?)
}

/// Answers at the end of the run, with its last assistant message.
pub(super) async fn prompt(server: &Rc<ServerState>, call: &Call) -> Answer {
    let (session, ask) = read(call)?;
    let (sender, ended) = oneshot::channel();
    let stored = server.prompt(session, &ask, Waiter::Caller(sender));
    let stored = stored.map_err(|error| problem(session, error))?;
    if ask.no_reply {
        return answer::json_chunked(&stored);
    }
    let last = ended.await.ok().flatten().ok_or(Problem::Unexpected)?;
    answer::json_chunked(&last)
}

/// Answers 204 whatever comes of it, unless the session is missing or the body wrong.
pub(super) async fn prompt_async(server: &Rc<ServerState>, call: &Call) -> Answer {
    let (session, ask) = read(call)?;
    if server.faults().loses_prompt() {
        Problem::unless_known(session, server.machine.store.borrow().get(session))?;
        pause(server.latencies().prompt_accept).await;
        return Ok(answer::nothing());
    }
    match server.prompt(session, &ask, Waiter::Nobody) {
        Ok(_) => {}
        Err(error @ PromptError::NoAgent(_)) => server.emit_late_error(session, &error.to_string()),
        Err(error) => return Err(problem(session, error)),
    }
    pause(server.latencies().prompt_accept).await;
    Ok(answer::nothing())
}

/// Malformed JSON is an unexpected error here, unlike on `POST /session` (measured).
fn read(call: &Call) -> Result<(&str, Ask), Problem> {
    let session = call.session()?;
    call.require_json()?;
    let body = call.json().map_err(|_| Problem::Unexpected)?;
    Ok((session, input::ask(&body)?))
}

fn problem(session: &str, error: PromptError) -> Problem {
    match error {
        PromptError::NoSession => Problem::NoSession(session.into()),
        PromptError::NoAgent(_) => Problem::Unexpected,
        PromptError::MessageTaken => Problem::NotModelled("a messageID that is already taken"),
    }
}
