//! Answers and their bodies, and the shapes of errors: there are several, each measured.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use serde::Serialize;
use serde_json::json;

use crate::{events::EventStream, observation::Observation, state::ServerState};

/// An answer, or what is wrong with the request.
pub(super) type Answer = Result<Response<Body>, Problem>;

/// The body of an answer.
pub(crate) enum Body {
    /// Sent with its length.
    Whole(Option<Bytes>),
    /// Sent chunked, as prompts are answered.
    Chunked(Option<Bytes>),
    /// The event stream.
    Events(Box<EventStream>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            Self::Whole(bytes) | Self::Chunked(bytes) => Poll::Ready(bytes.take()),
            Self::Events(stream) => stream.poll_next(context),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Chunked(_) | Self::Events(_) => SizeHint::default(),
        }
    }
}

fn answer(status: StatusCode, kind: Option<&'static str>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response
}

fn to_bytes(value: &impl Serialize) -> Option<Bytes> {
    Some(serde_json::to_vec(value).expect("our own types serialise into memory").into())
}

fn json_with(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    answer(status, Some("application/json"), Body::Whole(to_bytes(value)))
}

/// 200 with JSON.
pub(super) fn json(value: &impl Serialize) -> Answer {
    Ok(json_with(StatusCode::OK, value))
}

/// 200 with JSON, chunked.
pub(super) fn json_chunked(value: &impl Serialize) -> Answer {
    Ok(answer(StatusCode::OK, Some("application/json"), Body::Chunked(to_bytes(value))))
}

/// 204.
pub(super) fn nothing() -> Response<Body> {
    answer(StatusCode::NO_CONTENT, None, Body::Whole(None))
}

/// What every unknown route gets.
pub(super) fn page() -> Response<Body> {
    const PAGE: &str = "<!doctype html>\n<html lang=\"en\"><head><title>OpenCode</title></head>\
        <body>The web page of the fake OpenCode: this route does not exist.</body></html>\n";
    answer(StatusCode::OK, Some("text/html"), Body::Whole(Some(Bytes::from_static(PAGE.as_bytes()))))
}

/// The event stream, with the headers that it was measured to have.
pub(super) fn events(stream: EventStream) -> Response<Body> {
    let mut response = answer(StatusCode::OK, Some("text/event-stream"), Body::Events(Box::new(stream)));
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Why a request is not answered as asked.
#[derive(Debug)]
pub(super) enum Problem {
    /// No or wrong password.
    Unauthorized {
        /// `/api/*` says it in JSON, all else with an empty body.
        json: bool,
    },
    /// The short form of "bad request".
    BadRequest,
    /// The long form; `kind` is `Payload` or `Query`.
    Invalid { message: String, kind: &'static str },
    /// No such session.
    NoSession(String),
    /// No such message.
    NoMessage(String),
    /// No such permission question.
    NoPermission(String),
    /// The real server fails, and says why only in its log.
    Unexpected,
    /// Not JSON.
    ContentType(String),
    /// Something goes wrong with this status (see [`Faults`](crate::Faults)).
    Refused(u16),
    /// The fake cannot do this.
    NotModelled(&'static str),
}

impl Problem {
    /// What was looked for under a session's id; there is no such session if there is nothing.
    pub(super) fn unless_known<T>(session: &str, found: Option<T>) -> Result<T, Self> {
        found.ok_or_else(|| Self::NoSession(session.to_owned()))
    }

    /// The answer; what is not modelled is also reported.
    pub(super) fn into_answer(self, server: &ServerState, method: &str, route: &str) -> Response<Body> {
        match self {
            Self::Unauthorized { json } => unauthorized(json),
            Self::BadRequest => json_with(StatusCode::BAD_REQUEST, &json!({ "_tag": "BadRequest" })),
            Self::Invalid { message, kind } => {
                let data = json!({ "message": message, "kind": kind });
                json_with(StatusCode::BAD_REQUEST, &json!({ "name": "BadRequest", "data": data }))
            }
            Self::NoSession(id) => not_found(&format!("Session not found: {id}")),
            Self::NoMessage(id) => not_found(&format!("Message not found: {id}")),
            Self::NoPermission(id) => {
                let message = format!("Permission request not found: {id}");
                let body = json!({ "_tag": "PermissionNotFoundError", "requestID": id, "message": message });
                json_with(StatusCode::NOT_FOUND, &body)
            }
            Self::Unexpected => unexpected(&server.machine.store.borrow_mut().ids.error_reference()),
            Self::ContentType(given) => {
                let text = format!("Unsupported content-type: {given}");
                let body = Body::Whole(Some(text.into()));
                answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, Some("text/plain"), body)
            }
            Self::Refused(status) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let message = status.canonical_reason().unwrap_or("failed");
                let data = json!({ "message": message });
                json_with(status, &json!({ "name": "UnknownError", "data": data }))
            }
            Self::NotModelled(what) => {
                server.machine.observe(&Observation::Refused { method, route, what });
                let message = format!("the fake OpenCode does not model {what}: {method} {route}");
                json_with(StatusCode::NOT_IMPLEMENTED, &json!({ "name": "NotModelled", "message": message }))
            }
        }
    }
}

fn not_found(message: &str) -> Response<Body> {
    let body = json!({ "name": "NotFoundError", "data": { "message": message } });
    json_with(StatusCode::NOT_FOUND, &body)
}

fn unexpected(reference: &str) -> Response<Body> {
    let message = "Unexpected server error. Check server logs for details.";
    let body = json!({ "name": "UnknownError", "data": { "message": message, "ref": reference } });
    json_with(StatusCode::INTERNAL_SERVER_ERROR, &body)
}

fn unauthorized(in_json: bool) -> Response<Body> {
    let body = json!({ "_tag": "UnauthorizedError", "message": "Authentication required" });
    let mut response = match in_json {
        true => json_with(StatusCode::UNAUTHORIZED, &body),
        false => answer(StatusCode::UNAUTHORIZED, None, Body::Whole(None)),
    };
    let realm = HeaderValue::from_static("Basic realm=\"Secure Area\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    response
}
