//! The HTTP API (<https://docs.convex.dev/http-api/>; convex-backend, `crates/local_backend/src/public_api.rs`) and the way
//! into the sync protocol.

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use bytes::Bytes;
use convex::Value;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{
    auth::{self, Identity},
    call::Call,
    deployment::Convex,
    error::{Failure, MutationError},
    kind::Kind,
    limits,
    socket::{self, Client},
};

/// What the body of a call may weigh.
const BODY_BYTES: usize = limits::ARGUMENTS_BYTES + 2_000;
/// What `/version` answers.
const VERSION: &str = "sim";
/// Bytes that a WebSocket reads at once.
const READ_BUFFER: usize = 16 << 10;
/// Client versions up to these are turned away.
const UNSUPPORTED: [(&str, [u64; 3]); 3] = [("npm", [0, 19, 1]), ("python", [0, 0, 2]), ("rust", [0, 0, 1])];
/// From this version on, npm clients put chunked Transitions together.
const CHUNKS_SINCE: [u64; 3] = [1, 28, 0];

type Answer = Response<Full<Bytes>>;

#[derive(Deserialize)]
struct CallBody {
    path: String,
    #[serde(default)]
    args: Json,
    #[serde(default)]
    format: Option<String>,
}

/// A refusal: status, code, message.
struct Refusal(StatusCode, &'static str, String);

/// Serves one connection until it ends.
pub(super) async fn serve<S>(convex: Convex, stream: S, caller: Rc<str>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let upgrade: Rc<RefCell<Option<Client>>> = Rc::default();
    let service = service_fn(|request| {
        let (convex, caller, upgrade) = (convex.clone(), caller.clone(), upgrade.clone());
        async move { Ok::<_, Infallible>(answer(&convex, &caller, &upgrade, request).await) }
    });
    // A `Date` header would show the wall clock.
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown();
    let mut disconnects = convex.0.disconnects.subscribe();
    let ended = tokio::select! {
        biased;
        _ = disconnects.changed() => return,
        ended = connection => ended,
    };
    let (Ok(parts), Some(client)) = (ended, upgrade.take()) else { return };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let (io, read) = (parts.io.into_inner(), parts.read_buf.to_vec());
    let socket = WebSocketStream::from_partially_read(io, read, Role::Server, Some(config)).await;
    socket::serve(convex, socket, caller, client).await;
}

async fn answer(
    convex: &Convex,
    caller: &Rc<str>,
    upgrade: &RefCell<Option<Client>>,
    request: Request<Incoming>,
) -> Answer {
    let path = request.uri().path().to_owned();
    let segments: Vec<_> = path.trim_matches('/').split('/').collect();
    let answered = match (request.method(), segments.as_slice()) {
        (&Method::GET, ["api", "sync"]) if convex.0.options.faults.is_overloaded(caller) => Err(overloaded()),
        (&Method::GET, ["api", "sync"]) => start_sync(request.headers(), None, upgrade),
        (&Method::GET, ["api", version, "sync"]) => start_sync(request.headers(), Some(version), upgrade),
        (&Method::GET, ["version"]) => Ok(Response::new(Full::from(VERSION))),
        (&Method::POST, ["api", "query"]) => call(convex, caller, request, Kind::Query).await,
        (&Method::POST, ["api", "mutation"]) => call(convex, caller, request, Kind::Mutation).await,
        (&Method::POST, ["api", "action"]) => call(convex, caller, request, Kind::Action).await,
        (method, _) => Err(Refusal(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("the simulator does not model {method} {path}"),
        )),
    };
    answered.unwrap_or_else(|Refusal(status, code, message)| {
        answer_json(status, &json!({ "code": code, "message": message }))
    })
}

fn answer_json(status: StatusCode, body: &Json) -> Answer {
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    response.body(Full::from(body.to_string())).expect("the status and the header are valid")
}

fn overloaded() -> Refusal {
    let message = "Too many requests in a short time. Back off and try again.";
    Refusal(StatusCode::SERVICE_UNAVAILABLE, "TooManyConcurrentRequests", message.into())
}

fn bad_request(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, code, message.into())
}

fn start_sync(
    headers: &HeaderMap,
    version: Option<&str>,
    upgrade: &RefCell<Option<Client>>,
) -> Result<Answer, Refusal> {
    let client = client(headers, version)?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let wanted =
        headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key =
        key.filter(|_| wanted).ok_or_else(|| bad_request("BadUpgrade", "expected a WebSocket handshake"))?;
    upgrade.replace(Some(client));
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()));
    Ok(response.body(Full::default()).expect("the headers are valid"))
}

/// `Convex-Client: npm-1.48.0`, or the version in the path, which is npm's.
fn client(headers: &HeaderMap, version: Option<&str>) -> Result<Client, Refusal> {
    let header = headers.get("convex-client").and_then(|value| value.to_str().ok());
    let named = header.and_then(|client| client.split_once('-')).or(version.map(|version| ("npm", version)));
    let Some((name, version)) = named else { return Ok(Client::default()) };
    let Some(numbers) = semver(version) else {
        return Err(bad_request("InvalidVersion", format!("{version} is not a version")));
    };
    if UNSUPPORTED.iter().any(|(old, last)| *old == name && numbers <= *last) {
        let message = format!("The {name} package at version {version} is no longer supported. Update it.");
        return Err(bad_request("ClientVersionUnsupported", message));
    }
    Ok(Client { takes_chunks: name == "npm" && numbers >= CHUNKS_SINCE })
}

fn semver(version: &str) -> Option<[u64; 3]> {
    let plain = version.split(['-', '+']).next()?;
    let numbers: Vec<u64> = plain.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    numbers.try_into().ok()
}

fn identity(convex: &Convex, headers: &HeaderMap) -> Result<Option<Identity>, Refusal> {
    let refuse = |message: String| Refusal(StatusCode::UNAUTHORIZED, "InvalidAuthHeader", message);
    let Some(given) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    match given.to_str().ok().and_then(|given| given.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            auth::decode(token, convex.present().now).map(Some).map_err(refuse)
        }
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("convex") => {
            Err(refuse("the simulator does not model admin keys".into()))
        }
        _ => Err(refuse("the Authorization header is neither `Bearer` nor `Convex`".into())),
    }
}

async fn call(
    convex: &Convex,
    caller: &Rc<str>,
    request: Request<Incoming>,
    kind: Kind,
) -> Result<Answer, Refusal> {
    client(request.headers(), None)?;
    let identity = identity(convex, request.headers())?;
    let body = Limited::new(request.into_body(), BODY_BYTES).collect().await;
    let body = body.map_err(|why| bad_request("BadBody", why.to_string()))?.to_bytes();
    let body: CallBody =
        serde_json::from_slice(&body).map_err(|why| bad_request("BadJsonBody", why.to_string()))?;
    let exact = match body.format.as_deref() {
        Some("convex_encoded_json") => true,
        Some("json") | None => false,
        Some(other) => return Err(bad_request("UnknownFormat", format!("format `{other}` is not known"))),
    };
    let args = arguments(body.args).map_err(|why| bad_request("BadConvexArgs", why))?;
    let call = Call { path: body.path, args, identity, caller: caller.clone(), public: true };
    let (outcome, logs) = run(convex, &call, kind).await?;
    Ok(answer_json(StatusCode::OK, &outcome_json(outcome, logs, exact)))
}

/// One object, or an array with one.
fn arguments(json: Json) -> Result<Value, String> {
    let args = match json {
        Json::Array(mut items) if items.len() <= 1 => items.pop().unwrap_or_else(|| json!({})),
        Json::Null => json!({}),
        other => other,
    };
    Value::try_from(args).map_err(|why| why.to_string())
}

type Outcome = (Result<Value, Failure>, Vec<String>);

async fn run(convex: &Convex, call: &Call, kind: Kind) -> Result<Outcome, Refusal> {
    match kind {
        Kind::Query => {
            let run = convex.run_query(call, None, false);
            convex.execution_latency().await;
            Ok((run.result, run.logs))
        }
        Kind::Mutation => match convex.run_mutation(call, None, None).await {
            Ok(committed) => Ok((Ok(committed.value), committed.logs)),
            Err(MutationError::Failed(failure, logs)) => Ok((Err(failure), logs)),
            Err(MutationError::Conflict) => Err(Refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "OptimisticConcurrencyControlFailure",
                "Documents read from or written to by this mutation changed while it was being run. Try again.".into(),
            )),
        },
        Kind::Action => {
            let run = convex.run_action(call).await;
            Ok((run.result, run.logs))
        }
    }
}

fn outcome_json(outcome: Result<Value, Failure>, logs: Vec<String>, exact: bool) -> Json {
    let print = |value: Value| if exact { Json::from(value) } else { value.export() };
    let mut body = match outcome {
        Ok(value) => json!({ "status": "success", "value": print(value) }),
        Err(Failure { message, data }) => {
            let mut body = json!({ "status": "error", "errorMessage": message });
            if let Some(data) = data {
                body["errorData"] = print(data);
            }
            body
        }
    };
    if !logs.is_empty() {
        body["logLines"] = logs.into();
    }
    body
}
