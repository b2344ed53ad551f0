//! The proxy that the environment names: `HTTPS_PROXY`, or else `ALL_PROXY`, unless `NO_PROXY` has the host; each of them
//! in small letters too.

use hyper_util::client::proxy::matcher::Matcher;

use crate::{
    config::is_loopback,
    env::{Address, Proxy, ProxyError},
};

/// The port of an HTTP proxy whose URL names none.
const DEFAULT_PORT: u16 = 80;

/// The proxy by which `to` is reached over TLS. What is on this machine is reached without.
pub(super) fn proxy(matcher: &Matcher, to: &Address) -> Result<Option<Proxy>, ProxyError> {
    let Ok(uri) = format!("https://{to}").parse() else { return Ok(None) };
    let Some(found) = matcher.intercept(&uri).filter(|_| !is_loopback(&to.host)) else { return Ok(None) };
    let uri = found.uri();
    if let Some(scheme) = uri.scheme_str().filter(|scheme| *scheme != "http") {
        return Err(ProxyError { scheme: scheme.to_owned() });
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let address = Address { host, port: uri.port_u16().unwrap_or(DEFAULT_PORT) };
    Ok(Some(Proxy { address, authorization: found.basic_auth().cloned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found for `host`: the proxy's address and what it is shown.
    #[track_caller]
    fn check(https: &str, no: &str, host: &str, expected: Result<Option<(&str, Option<&str>)>, &str>) {
        let matcher = Matcher::builder().https(https).no(no).build();
        let found = proxy(&matcher, &Address { host: host.into(), port: 443 });
        let shown = found.map(|found| {
            found.map(|proxy| {
                let authorization = proxy.authorization.map(|value| value.to_str().unwrap().to_owned());
                (proxy.address.to_string(), authorization)
            })
        });
        let expected =
            expected.map(|found| found.map(|(at, shows)| (at.to_owned(), shows.map(str::to_owned))));
        assert_eq!(
            shown.map_err(|error| error.scheme),
            expected.map_err(str::to_owned),
            "{https} {no} {host}"
        );
    }

    #[test]
    fn the_proxy_is_found_with_its_port_and_its_user() {
        check("http://proxy.lan:3128", "", "a.convex.cloud", Ok(Some(("proxy.lan:3128", None))));
        check("proxy.lan:3128", "", "a.convex.cloud", Ok(Some(("proxy.lan:3128", None))));
        check("http://proxy.lan", "", "a.convex.cloud", Ok(Some(("proxy.lan:80", None))));
        check("http://[fd00::1]:3128", "", "a.convex.cloud", Ok(Some(("[fd00::1]:3128", None))));
        let shows = Some("Basic dXNlcjpwYTU1OkA=");
        check("http://user:pa55%3A%40@proxy.lan:3128", "", "a.b", Ok(Some(("proxy.lan:3128", shows))));
    }

    #[test]
    fn what_is_excepted_and_what_is_on_this_machine_is_reached_without() {
        let proxy = "http://proxy.lan:3128";
        check("", "", "a.convex.cloud", Ok(None));
        check(proxy, "convex.cloud,10.0.0.0/8", "a.convex.cloud", Ok(None));
        check(proxy, "convex.cloud,10.0.0.0/8", "10.1.2.3", Ok(None));
        check(proxy, "*", "a.b", Ok(None));
        for host in ["localhost", "127.0.0.1", "::1"] {
            check(proxy, "", host, Ok(None));
        }
        check(proxy, "convex.cloud", "b.notconvex.cloud", Ok(Some(("proxy.lan:3128", None))));
    }

    #[test]
    fn a_proxy_of_another_kind_is_refused() {
        check("socks5h://proxy.lan:1080", "", "a.b", Err("socks5h"));
        check("https://proxy.lan", "", "a.b", Err("https"));
        check("socks5h://proxy.lan:1080", "a.b", "a.b", Ok(None));
    }

    #[test]
    fn the_password_is_not_shown() {
        let matcher = Matcher::builder().https("http://user:pa55@proxy.lan").build();
        let shown = format!("{:?}", proxy(&matcher, &Address { host: "a.b".into(), port: 443 }));
        assert!(
            shown.contains("proxy.lan") && !shown.contains("dXNlcj") && !shown.contains("pa55"),
            "{shown}"
        );
    }
}
