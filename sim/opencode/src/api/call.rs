//! One request, read completely.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::{answer::Problem, routes::Found};

/// The largest body that is read. The real server's bound is not known.
const MAX_BODY: usize = 8 << 20;

/// A request with its route.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) template: &'static str,
    ids: Vec<String>,
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    pub(super) async fn read(route: Found, request: Request<Incoming>) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Problem::NotModelled("a body over 8 MiB"),
            // The client went away in the middle: nobody will read the answer.
            None => Problem::BadRequest,
        })?;
        let query = head.uri.query().unwrap_or_default();
        Ok(Self {
            method: head.method,
            template: route.template,
            ids: route.ids,
            path: head.uri.path().to_owned(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    pub(super) fn is(&self, method: &str, template: &str) -> bool {
        self.method.as_str() == method && self.template == template
    }

    /// What the placeholder number `index` of the route stands for.
    pub(super) fn id(&self, index: usize) -> &str {
        &self.ids[index]
    }

    /// The session in the path. An id of the wrong shape is an unexpected error (measured), not a missing session.
    pub(super) fn session(&self) -> Result<&str, Problem> {
        Some(self.id(0)).filter(|id| id.starts_with("ses")).ok_or(Problem::Unexpected)
    }

    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The directory that the call is about, if the query or the SDK's header names one.
    pub(super) fn directory(&self) -> Option<String> {
        let header = self.header("x-opencode-directory").map(decode);
        self.query.get("directory").cloned().or(header)
    }

    /// Whether the call is about this directory: the default, or named.
    pub(super) fn is_for(&self, directory: &str) -> bool {
        self.directory().is_none_or(|asked| asked == directory)
    }

    pub(super) fn has_body(&self) -> bool {
        !self.body.is_empty()
    }

    /// The body as JSON; the caller knows what malformed JSON leads to on its route.
    pub(super) fn json(&self) -> serde_json::Result<Value> {
        serde_json::from_slice(&self.body)
    }

    /// 415 unless the content type is JSON.
    pub(super) fn require_json(&self) -> Result<(), Problem> {
        match self.header(header::CONTENT_TYPE) {
            Some(kind) if !kind.starts_with("application/json") => Err(Problem::ContentType(kind.into())),
            _ => Ok(()),
        }
    }
}

/// Undoes percent encoding.
fn decode(text: &str) -> String {
    let encoded = format!("x={}", text.replace('+', "%2B"));
    form_urlencoded::parse(encoded.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}
