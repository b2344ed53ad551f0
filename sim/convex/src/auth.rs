//! Identities from JSON Web Tokens. Signatures are not checked: whoever can write a token may be anyone, as a
//! simulated person must. Everything else is: shape, `sub`, `iss`, and `exp` by the simulation's clock.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use convex::Value;
use serde_json::Value as Json;

/// Who calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The subject, unique for its issuer.
    pub subject: String,
    /// Who vouches for it.
    pub issuer: String,
    /// When the token expires, in seconds since the Unix epoch.
    pub expires_at: Option<u64>,
    /// Further claims, as `getUserIdentity()` shows them.
    pub claims: BTreeMap<String, Value>,
}

impl Identity {
    /// An identity without further claims that never expires.
    pub fn new(issuer: impl Into<String>, subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), issuer: issuer.into(), expires_at: None, claims: BTreeMap::new() }
    }

    /// What functions know a person by.
    pub fn token_identifier(&self) -> String {
        format!("{}|{}", self.issuer, self.subject)
    }

    /// What `ctx.auth.getUserIdentity()` answers.
    pub fn to_value(&self) -> Value {
        let mut fields = self.claims.clone();
        fields.insert("subject".into(), self.subject.as_str().into());
        fields.insert("issuer".into(), self.issuer.as_str().into());
        fields.insert("tokenIdentifier".into(), self.token_identifier().into());
        Value::Object(fields)
    }

    /// An unsigned token that [`decode`] turns into this identity.
    pub fn to_token(&self) -> String {
        let mut claims = serde_json::json!({ "sub": self.subject, "iss": self.issuer });
        if let Some(expires_at) = self.expires_at {
            claims["exp"] = expires_at.into();
        }
        let encode = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}.", encode(&serde_json::json!({ "alg": "none", "typ": "JWT" })), encode(&claims))
    }
}

/// Claims by the name that `getUserIdentity()` gives them.
const CLAIMS: [(&str, &str); 5] = [
    ("name", "name"),
    ("email", "email"),
    ("nickname", "nickname"),
    ("picture", "pictureUrl"),
    ("preferred_username", "preferredUsername"),
];

/// Reads a token; `now` is in nanoseconds since the Unix epoch.
pub fn decode(token: &str, now: u64) -> Result<Identity, String> {
    let malformed = |what: &str| format!("Could not parse JWT payload: {what}");
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("Could not parse as JWT: a token has three parts separated by dots".into());
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(payload.trim_end_matches('='))
        .map_err(|_| malformed("it is not base64url"))?;
    let payload: Json = serde_json::from_slice(&bytes).map_err(|_| malformed("it is not JSON"))?;
    let text = |name: &str| payload[name].as_str().map(str::to_owned);
    let expires_at = payload["exp"].as_f64().map(|seconds| seconds as u64);
    if expires_at.is_some_and(|at| at <= now / 1_000_000_000) {
        return Err("Token expired".into());
    }
    let named =
        CLAIMS.iter().filter_map(|(claim, name)| Some(((*name).to_owned(), Value::String(text(claim)?))));
    Ok(Identity {
        subject: text("sub").ok_or_else(|| malformed("it has no `sub`"))?,
        issuer: text("iss").ok_or_else(|| malformed("it has no `iss`"))?,
        expires_at,
        claims: named.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_an_identity_decodes_to_it() {
        let ada = Identity { expires_at: Some(20), ..Identity::new("https://issuer", "ada") };
        assert_eq!(decode(&ada.to_token(), 19_999_999_999), Ok(ada.clone()));
        assert_eq!(ada.token_identifier(), "https://issuer|ada");
    }

    #[test]
    fn a_token_expires_by_the_given_clock() {
        let ada = Identity { expires_at: Some(20), ..Identity::new("i", "ada") };
        assert_eq!(decode(&ada.to_token(), 20_000_000_000), Err("Token expired".into()));
    }

    #[test]
    fn malformed_tokens_say_what_is_wrong() {
        let no_subject = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(r#"{"iss":"i"}"#));
        for (token, expect) in [
            ("jwt", "Could not parse as JWT: a token has three parts separated by dots"),
            ("a.!!.c", "Could not parse JWT payload: it is not base64url"),
            (no_subject.as_str(), "Could not parse JWT payload: it has no `sub`"),
        ] {
            assert_eq!(decode(token, 0).unwrap_err(), expect);
        }
    }
}
