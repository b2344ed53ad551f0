//! The HTTP client: a few typed calls, each bounded in time and size.

use std::{borrow::Cow, path::Path, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;

use super::{
    connection::{Connector, Tasks},
    directory::Directory,
    error::{ApiError, snippet},
    id::{InvalidId, ModelRef, OpencodeSessionId, check_id},
    stats::ServerStats,
    types::{
        Health, Message, PendingPermission, PermissionReply, Providers, Session, Statuses, ToolCall,
        ToolCalls, ToolRef,
    },
};
use crate::env::{Address, Env};

/// The largest answer that is read (bytes).
pub(crate) const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Idle connections kept open to the server. A turn makes one request or two, and on loopback a new connection costs less
/// than the 25 KiB that an idle one holds. So no request meets a connection that is just being closed, either.
const MAX_IDLE_CONNECTIONS: usize = 0;
/// What a connection reads at once (bytes), and the longest response head. By itself hyper's buffer grows with what
/// comes, up to 400 KiB, and stays so.
const READ_BUFFER: usize = 8 * 1024;
/// Requests on their way at the same time; each holds a connection of about 25 KiB. Further ones wait.
const MAX_REQUESTS: usize = 6;
/// The user that OpenCode expects.
const USER: &str = "opencode";

/// Speaks to one generation of the OpenCode server. Cheap to clone; all clones end with the generation, and then
/// every call answers [`ApiError::Unreachable`].
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: legacy::Client<Connector, Full<Bytes>>,
    authority: String,
    authorization: HeaderValue,
    /// Where the server works.
    directory: Directory,
    request_timeout: Duration,
    places: Semaphore,
    tasks: Tasks,
    /// Told whether the server does what it is asked.
    stats: Option<Arc<ServerStats>>,
}

/// A page of a session's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePage {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Leads to the page of older ones, if there are any.
    pub older: Option<String>,
}

/// What the server answered.
struct Answer {
    body: Bytes,
    next: Option<String>,
}

/// One call: what it is called in errors, and how it goes over the wire.
struct Call {
    operation: &'static str,
    method: Method,
    path: String,
    body: Option<Bytes>,
    /// Whether the answer may hold keys, so that no error may show any of it.
    secret: bool,
}

impl Call {
    fn new(operation: &'static str, method: Method, path: impl Into<String>) -> Self {
        Self { operation, method, path: path.into(), body: None, secret: false }
    }

    fn get(operation: &'static str, path: impl Into<String>) -> Self {
        Self::new(operation, Method::GET, path)
    }

    fn post(operation: &'static str, path: impl Into<String>, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("our own requests are JSON");
        Self { body: Some(body.into()), ..Self::new(operation, Method::POST, path) }
    }
}

#[derive(Serialize)]
struct CreateBody<'a> {
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<CreateModel<'a>>,
}

/// This route calls the model's field `id`; prompts call it `modelID` (measured).
#[derive(Serialize)]
struct CreateModel<'a> {
    #[serde(rename = "providerID")]
    provider: &'a str,
    id: &'a str,
}

#[derive(Serialize)]
struct PromptBody<'a> {
    #[serde(rename = "messageID")]
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<PromptModel<'a>>,
    parts: [PromptPart<'a>; 1],
}

#[derive(Serialize)]
struct PromptModel<'a> {
    #[serde(rename = "providerID")]
    provider: &'a str,
    #[serde(rename = "modelID")]
    model: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum PromptPart<'a> {
    Text { text: &'a str },
}

#[derive(Serialize)]
struct ReplyBody {
    reply: PermissionReply,
}

impl Client {
    /// A client of the server at `address`, which was started in `directory`. No call takes longer than
    /// `request_timeout`.
    pub fn new<E: Env>(
        env: E,
        address: Address,
        directory: &Path,
        password: &SecretString,
        request_timeout: Duration,
    ) -> Self {
        let tasks = Tasks::new(env.clone());
        let authority = address.to_string();
        let http = legacy::Client::builder(tasks.clone())
            // A request that was cut off may have taken effect: whether to repeat it is the caller's decision.
            .retry_canceled_requests(false)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .http1_read_buf_exact_size(READ_BUFFER)
            .build(Connector::new(env, address, tasks.clone()));
        let authorization = basic_auth(password);
        let places = Semaphore::new(MAX_REQUESTS);
        Self {
            inner: Arc::new(Inner {
                http,
                authority,
                authorization,
                directory: Directory::new(directory),
                request_timeout,
                places,
                tasks,
                stats: None,
            }),
        }
    }

    /// Lets `stats` know whether the server answers.
    ///
    /// # Panics
    /// If the client has been cloned already.
    #[must_use]
    pub fn told_to(mut self, stats: Arc<ServerStats>) -> Self {
        Arc::get_mut(&mut self.inner).expect("nobody else has the client yet").stats = Some(stats);
        self
    }

    /// Returns the directory that the server works in.
    pub(crate) fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// Returns whether the server is up, and its version.
    pub async fn health(&self) -> Result<Health, ApiError> {
        self.json(Call::get("check the server's health", "/global/health")).await
    }

    /// Creates a session. A title keeps OpenCode from asking the model for one; the model is not checked (measured).
    pub async fn create_session(&self, title: &str, model: Option<&ModelRef>) -> Result<Session, ApiError> {
        let model = model.map(|m| CreateModel { provider: &m.provider, id: &m.model });
        self.json(Call::post("create a session", "/session", &CreateBody { title, model })).await
    }

    /// The `limit` sessions that were used last. OpenCode itself stops at 100 if it is not told a limit (measured).
    pub async fn sessions(&self, limit: usize) -> Result<Vec<Session>, ApiError> {
        self.json(Call::get("list the sessions", format!("/session?limit={limit}"))).await
    }

    /// A page of the directory's sessions that are no children and were used at `since` or later (Unix ms), last used
    /// first: at most `limit`, and only those used before `cursor`. Archived ones are among them. The plain list has no
    /// pages; this one shows all directories unless it is asked for one (measured).
    pub async fn changed_sessions(
        &self,
        since: u64,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Session>, ApiError> {
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let directory = self.inner.directory.in_query();
        let path = format!(
            "/experimental/session?directory={directory}&roots=true&archived=true&start={since}&limit={limit}{cursor}"
        );
        self.json(Call::get("list the changed sessions", path)).await
    }

    /// One session; [`ApiError::NotFound`] if OpenCode does not have it.
    pub async fn session(&self, id: &OpencodeSessionId) -> Result<Session, ApiError> {
        self.json(Call::get("read the session", format!("/session/{id}"))).await
    }

    /// Returns true if the session is not, for sure, of this directory: OpenCode shows, and prompts, those of all. One that
    /// it does not know is nobody's.
    pub async fn is_elsewhere(&self, id: &OpencodeSessionId) -> Result<bool, ApiError> {
        match self.session(id).await {
            Ok(session) => Ok(!self.directory().has(&session)),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes a session with all its messages, for good.
    pub async fn delete_session(&self, id: &OpencodeSessionId) -> Result<(), ApiError> {
        self.json::<bool>(Call::new("delete the session", Method::DELETE, format!("/session/{id}")))
            .await
            .map(drop)
    }

    /// Hands a prompt over. Success means *maybe*: OpenCode answers before it has stored the message, and even an
    /// unknown model is reported by event only. Confirm by [`EventKind::Message`](super::EventKind::Message) or by
    /// [`Client::messages`]. On an error for which [`ApiError::may_have_happened`] holds, never repeat it.
    ///
    /// `message` becomes the id of the user's message ([`prompt_id`](super::prompt_id)), by which the answers to this
    /// prompt are told from all others. A model given here sticks to the session, so an unknown one spoils it until
    /// a valid one is given.
    pub async fn prompt_async(
        &self,
        id: &OpencodeSessionId,
        message: &str,
        text: &str,
        model: Option<&ModelRef>,
    ) -> Result<(), ApiError> {
        let model = model.map(|m| PromptModel { provider: &m.provider, model: &m.model });
        let body = PromptBody { message, model, parts: [PromptPart::Text { text }] };
        self.send(&Call::post("send the prompt", format!("/session/{id}/prompt_async"), &body))
            .await
            .map(drop)
    }

    /// Asks OpenCode to stop what the session does. Succeeds for idle and unknown sessions too, and does not say when
    /// the session has stopped: wait for an event, with a deadline.
    pub async fn abort(&self, id: &OpencodeSessionId) -> Result<(), ApiError> {
        let call = Call::new("abort the session's turn", Method::POST, format!("/session/{id}/abort"));
        self.json::<bool>(call).await.map(drop)
    }

    /// The newest `limit` messages, oldest first.
    ///
    /// # Panics
    /// If `limit` is 0, which OpenCode takes for "all of them".
    pub async fn messages(&self, id: &OpencodeSessionId, limit: usize) -> Result<Vec<Message>, ApiError> {
        self.messages_before(id, limit, None).await.map(|page| page.messages)
    }

    /// The same of those that are older than the page that `before` comes from.
    ///
    /// # Panics
    /// If `limit` is 0.
    pub async fn messages_before(
        &self,
        id: &OpencodeSessionId,
        limit: usize,
        before: Option<&str>,
    ) -> Result<MessagePage, ApiError> {
        assert!(limit > 0, "a limit of 0 asks OpenCode for the whole history");
        let before = before.map(|cursor| format!("&before={cursor}")).unwrap_or_default();
        let call = Call::get("read the messages", format!("/session/{id}/message?limit={limit}{before}"));
        let answer = self.send(&call).await?;
        Ok(MessagePage { messages: parse(&call, &answer.body)?, older: answer.next })
    }

    /// Returns what the sessions that are not idle are doing.
    pub async fn statuses(&self) -> Result<Statuses, ApiError> {
        self.json(Call::get("read the sessions' status", "/session/status")).await
    }

    /// The models that are configured, in order. The providers' keys in the answer are never kept.
    pub async fn models(&self) -> Result<Vec<ModelRef>, ApiError> {
        let call = Call { secret: true, ..Call::get("list the models", "/config/providers") };
        self.json::<Providers>(call).await.map(Providers::into_models)
    }

    /// Returns true if a model's provider is there that somebody has logged in to, or configured.
    pub async fn has_login(&self) -> Result<bool, ApiError> {
        let call = Call { secret: true, ..Call::get("list the providers", "/config/providers") };
        self.json::<Providers>(call).await.map(|providers| providers.has_login())
    }

    /// The permission questions of all sessions that nobody has answered yet.
    pub async fn permissions(&self) -> Result<Vec<PendingPermission>, ApiError> {
        self.json(Call::get("list the permission questions", "/permission")).await
    }

    /// A call of a tool, as the message says in which the model makes it. Nothing if that message has no such call.
    pub async fn tool_call(
        &self,
        session: &OpencodeSessionId,
        tool: &ToolRef,
    ) -> Result<Option<ToolCall>, ApiError> {
        let operation = "read the call of a tool";
        let message = checked(operation, "a message id", "msg", &tool.message)?;
        let call = Call::get(operation, format!("/session/{session}/message/{message}"));
        self.json::<ToolCalls>(call).await.map(|calls| calls.named(&tool.call))
    }

    /// Answers a permission question (`per…`, from [`EventKind::PermissionAsked`](super::EventKind::PermissionAsked)).
    pub async fn reply_permission(&self, request: &str, reply: PermissionReply) -> Result<(), ApiError> {
        let operation = "answer the permission question";
        let path =
            format!("/permission/{}/reply", checked(operation, "a permission request id", "per", request)?);
        self.json::<bool>(Call::post(operation, path, &ReplyBody { reply })).await.map(drop)
    }

    /// Refuses a question of the model's (`que…`, from [`EventKind::QuestionAsked`](super::EventKind::QuestionAsked)).
    pub async fn reject_question(&self, request: &str) -> Result<(), ApiError> {
        let operation = "reject the question";
        let path = format!("/question/{}/reject", checked(operation, "a question id", "que", request)?);
        self.json::<bool>(Call::new(operation, Method::POST, path)).await.map(drop)
    }

    /// Ends all connections of all clones at once.
    pub fn close(&self) {
        self.inner.tasks.close();
    }

    /// Resolves after [`Client::close`], when every task of this client has ended.
    pub async fn closed(&self) {
        self.inner.tasks.ended().await;
    }

    /// Starts a task that ends with [`Client::close`] at the latest.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.spawn(task);
    }

    /// Opens the event stream. The caller bounds the time it takes.
    pub(crate) async fn open_events(&self) -> Result<Response<Incoming>, ApiError> {
        let call = Call::get("open the event stream", "/event");
        let response = self.transmit(&call).await?;
        if response.status() == StatusCode::OK && content_type(&response).starts_with("text/event-stream") {
            return Ok(response);
        }
        let (status, html) = (response.status(), is_html(&response));
        let body = read_body(call.operation, response).await?;
        Err(match status {
            StatusCode::OK if html => ApiError::NoSuchRoute { operation: call.operation },
            StatusCode::OK => unexpected(&call, "not an event stream".into(), &body),
            _ => ApiError::from_status(call.operation, status, &body),
        })
    }

    async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, ApiError> {
        let answer = self.send(&call).await?;
        parse(&call, &answer.body)
    }

    async fn send(&self, call: &Call) -> Result<Answer, ApiError> {
        let waited = self.inner.request_timeout;
        let _place = self.inner.places.acquire().await.expect("the semaphore is never closed");
        // Boxed, so that whoever waits for a place or for the throttle does not hold room for the exchange yet.
        let answer = tokio::time::timeout(waited, Box::pin(self.exchange(call))).await;
        let answer = answer.unwrap_or(Err(ApiError::Timeout { operation: call.operation, waited }));
        if let Some(stats) = &self.inner.stats {
            stats.answered(!answer.as_ref().is_err_and(ApiError::is_retryable));
        }
        answer
    }

    async fn exchange(&self, call: &Call) -> Result<Answer, ApiError> {
        let response = self.transmit(call).await?;
        let (status, html, next) = (response.status(), is_html(&response), next_page(&response));
        let body = read_body(call.operation, response).await?;
        if !status.is_success() {
            let shown = if call.secret { Bytes::new() } else { body };
            return Err(ApiError::from_status(call.operation, status, &shown));
        }
        if html {
            return Err(ApiError::NoSuchRoute { operation: call.operation });
        }
        Ok(Answer { body, next })
    }

    async fn transmit(&self, call: &Call) -> Result<Response<Incoming>, ApiError> {
        let inner = &self.inner;
        let mut request = Request::builder()
            .method(&call.method)
            .uri(format!("http://{}{}", inner.authority, call.path))
            .header(header::AUTHORIZATION, &inner.authorization);
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = call.body.clone().unwrap_or_default();
        let request = request.body(Full::new(body)).expect("identifiers are checked, so the URI is valid");
        inner.http.request(request).await.map_err(|error| transport_error(call.operation, &error))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.close();
    }
}

fn basic_auth(password: &SecretString) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{USER}:{}", password.expose_secret()));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is legal in a header");
    value.set_sensitive(true);
    value
}

fn checked<'a>(
    operation: &'static str,
    what: &'static str,
    prefix: &'static str,
    id: &'a str,
) -> Result<&'a str, ApiError> {
    let refused =
        |error: InvalidId| ApiError::BadRequest { operation, status: 400, message: error.to_string() };
    check_id(what, prefix, id).map(|()| id).map_err(refused)
}

fn parse<T: DeserializeOwned>(call: &Call, body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        // serde's own message may quote the answer.
        let place = format!("line {} column {}", error.line(), error.column());
        let problem = if call.secret { format!("wrong shape at {place}") } else { error.to_string() };
        unexpected(call, problem, body)
    })
}

/// Returns where the next page begins, if there is one. What could change a path is no cursor.
fn next_page(response: &Response<Incoming>) -> Option<String> {
    let cursor = response.headers().get("x-next-cursor")?.to_str().ok()?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
    cursor.bytes().all(legal).then(|| cursor.to_owned())
}

fn content_type(response: &Response<Incoming>) -> Cow<'_, str> {
    let value = response.headers().get(header::CONTENT_TYPE);
    value.map_or(Cow::Borrowed(""), |value| String::from_utf8_lossy(value.as_bytes()))
}

/// OpenCode answers unknown routes with its web page.
fn is_html(response: &Response<Incoming>) -> bool {
    content_type(response).starts_with("text/html")
}

fn unexpected(call: &Call, problem: String, body: &[u8]) -> ApiError {
    let snippet = if call.secret { "[withheld: may hold keys]".into() } else { snippet(body) };
    ApiError::UnexpectedBody { operation: call.operation, problem, snippet }
}

async fn read_body(operation: &'static str, response: Response<Incoming>) -> Result<Bytes, ApiError> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            return ApiError::TooLong { operation, limit: MAX_ANSWER };
        }
        ApiError::Interrupted { operation, reason: root_cause(&*error) }
    })
}

fn transport_error(operation: &'static str, error: &legacy::Error) -> ApiError {
    let reason = root_cause(error);
    if error.is_connect() {
        ApiError::Unreachable { operation, reason }
    } else {
        ApiError::Interrupted { operation, reason }
    }
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests;
