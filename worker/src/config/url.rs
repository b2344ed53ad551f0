//! Where the Convex deployment answers.

use std::{net::IpAddr, str::FromStr};

use http::Uri;

use super::authorities::Authorities;
use crate::env::Address;

/// Where a Convex deployment answers: `https://…`, or `http://…` to a loopback address, and to others where that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvexUrl {
    /// Host and port.
    pub address: Address,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Who may vouch for the deployment, besides those that everybody trusts.
    pub authorities: Authorities,
}

impl ConvexUrl {
    /// A deployment that is reached without encryption.
    pub fn plain(address: Address) -> Self {
        Self { address, tls: false, authorities: Authorities::default() }
    }

    /// Whether the worker's secret travels in clear text over a network.
    pub fn is_clear_text(&self) -> bool {
        !self.tls && !is_loopback(&self.address.host)
    }
}

/// Why a text is not the address of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL with a host.
    #[error("`{text}` is not a URL; it looks like `https://happy-animal-123.convex.cloud`")]
    Malformed {
        /// The text.
        text: String,
    },
    /// Something follows the host.
    #[error("`{text}` has a path; give the deployment's URL alone")]
    Path {
        /// The text.
        text: String,
    },
    /// A user or a password stands before the host. The text is not repeated: it may hold a secret.
    #[error(
        "the URL holds a user or a password before its `@`; give the deployment's URL alone, without them"
    )]
    Credentials,
    /// Neither `https` nor `http`.
    #[error("`{text}` begins neither with `https://` nor, for a loopback address, with `http://`")]
    Scheme {
        /// The text.
        text: String,
    },
    /// The worker's secret would travel in clear text.
    #[error(
        "`{text}` is not encrypted; `http://` is for loopback addresses only, use `https://`, or allow it by `convex.allow_plain_http` where the network between is yours alone"
    )]
    ClearText {
        /// The text.
        text: String,
    },
}

impl FromStr for ConvexUrl {
    type Err = UrlError;

    /// Clear text is for loopback addresses only.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let url = Self::parse(text)?;
        if url.is_clear_text() { Err(UrlError::ClearText { text: text.trim().to_owned() }) } else { Ok(url) }
    }
}

impl ConvexUrl {
    /// Any URL of a deployment, also one in clear text.
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.contains('@') {
            return Err(UrlError::Credentials);
        }
        let malformed = || UrlError::Malformed { text: text.to_owned() };
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(malformed)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(UrlError::Path { text: text.to_owned() });
        }
        let host = host.trim_matches(['[', ']']).to_owned();
        let (tls, default_port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err(UrlError::Scheme { text: text.to_owned() }),
        };
        let address = Address { host, port: uri.port_u16().unwrap_or(default_port) };
        Ok(Self { address, tls, authorities: Authorities::default() })
    }
}

/// Whether a host is this machine itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, u16, bool), &str>) {
        let parsed = text.parse::<ConvexUrl>().map_err(|error| error.to_string());
        let parts = parsed.as_ref().map(|url| (url.address.host.as_str(), url.address.port, url.tls));
        assert_eq!(parts.map_err(String::as_str), expected, "for {text:?}");
    }

    #[test]
    fn a_deployment_is_reached_by_tls_and_a_loopback_one_also_without() {
        check("https://happy-animal-123.convex.cloud", Ok(("happy-animal-123.convex.cloud", 443, true)));
        check("http://127.0.0.1:3210/", Ok(("127.0.0.1", 3210, false)));
        check("http://[::1]:3210", Ok(("::1", 3210, false)));
    }

    #[test]
    fn credentials_in_the_url_are_refused_and_not_repeated() {
        for text in ["https://user:pa55@a.b", "https://pa55@a.b", "user:pa55@a.b", "https://a.b/@pa55"] {
            let error = text.parse::<ConvexUrl>().unwrap_err();
            assert!(error == UrlError::Credentials && !error.to_string().contains("pa55"), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_never_travels_in_clear_text_over_a_network() {
        check(
            "http://example.com",
            Err(
                "`http://example.com` is not encrypted; `http://` is for loopback addresses only, use `https://`, or allow it by `convex.allow_plain_http` where the network between is yours alone",
            ),
        );
    }

    #[test]
    fn what_is_no_deployment_is_refused_with_the_form_that_is_expected() {
        check(
            "happy-animal-123",
            Err(
                "`happy-animal-123` begins neither with `https://` nor, for a loopback address, with `http://`",
            ),
        );
        check("", Err("`` is not a URL; it looks like `https://happy-animal-123.convex.cloud`"));
        check("https://a.b/api", Err("`https://a.b/api` has a path; give the deployment's URL alone"));
    }
}
