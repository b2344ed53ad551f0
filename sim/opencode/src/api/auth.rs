//! HTTP Basic, as measured: it applies to every path, also those that do not exist.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Request, header};

use super::answer::Problem;

/// The user name that goes with the password.
const USER: &str = "opencode";

/// Passes a request that presents the password, in the header or as `?auth_token=`.
pub(super) fn check<B>(password: Option<&str>, request: &Request<B>) -> Result<(), Problem> {
    let Some(password) = password else { return Ok(()) };
    let expected = STANDARD.encode(format!("{USER}:{password}"));
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = header.and_then(|value| value.strip_prefix("Basic "));
    let query = request.uri().query().unwrap_or_default();
    let mut tokens = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "auth_token");
    if basic == Some(&expected) || tokens.any(|(_, token)| token == expected) {
        return Ok(());
    }
    Err(Problem::Unauthorized { json: request.uri().path().starts_with("/api/") })
}
