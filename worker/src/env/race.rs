//! Reaches a host that has several addresses although some of them lead nowhere, as RFC 8305 says: attempts run side by
//! side, each begun a little after the one before. A route that swallows everything costs that little, not the minutes
//! in which a kernel tries.

use std::{
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::sleep;

/// The next attempt begins so long after the one before it, or as soon as one fails.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried. The last one begins within 4 s, in time for any bound of a connection.
pub const MAX_ADDRESSES: usize = 16;

/// The first connection that stands; the other attempts are dropped. Without one, what each address said. Only the
/// caller bounds the time.
///
/// # Errors
/// If all attempts have failed, or there are no addresses.
pub async fn race<A, S, F>(
    addresses: impl IntoIterator<Item = A>,
    mut connect: impl FnMut(A) -> F,
) -> io::Result<S>
where
    A: Clone + Display,
    F: Future<Output = io::Result<S>>,
{
    let mut left = addresses.into_iter().take(MAX_ADDRESSES).peekable();
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        if let Some(address) = left.next() {
            let attempt = connect(address.clone());
            attempts.push(async move { (address, attempt.await) });
        }
        tokio::select! {
            biased;
            Some((address, result)) = attempts.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => failures.push((address, error)),
            },
            () = sleep(ATTEMPT_DELAY), if left.peek().is_some() => {}
            else => return Err(all_failed(failures)),
        }
    }
}

fn all_failed(mut failures: Vec<(impl Display, io::Error)>) -> io::Error {
    let Some((_, last)) = failures.last() else {
        return io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    };
    if failures.len() == 1 {
        return failures.remove(0).1;
    }
    let kind = last.kind();
    let each: Vec<_> = failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    io::Error::new(kind, each.join("; "))
}

/// The addresses of a name in the order in which they are tried: that of the resolver, but the families take turns, so
/// that one of them that is broken does not come several times before the other.
pub(super) fn interleaved(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<_> = addresses.into_iter().collect();
    let Some(first) = addresses.first() else { return addresses };
    let is_preferred = |address: &SocketAddr| is_v6(address.ip()) == is_v6(first.ip());
    let (preferred, other): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| is_preferred(address));
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let turns = std::iter::from_fn(|| {
        let turn: Vec<_> = preferred.next().into_iter().chain(other.next()).collect();
        (!turn.is_empty()).then_some(turn)
    });
    turns.flatten().collect()
}

/// An IPv4 address that is written as one of IPv6 is reached by IPv4.
fn is_v6(address: IpAddr) -> bool {
    address.to_canonical().is_ipv6()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    fn milliseconds(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// Hosts of which each is a letter: `x` swallows everything, `r` refuses at once, others answer after 10 ms.
    async fn connect(host: char) -> io::Result<char> {
        match host {
            'x' => pending().await,
            'r' => Err(io::ErrorKind::ConnectionRefused.into()),
            host => {
                sleep(milliseconds(10)).await;
                Ok(host)
            }
        }
    }

    #[track_caller]
    fn check(hosts: &'static str, expected: Result<char, &str>, after: Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let begun = Instant::now();
            let reached = race(hosts.chars(), connect).await.map_err(|error| error.to_string());
            assert_eq!(
                reached.as_ref().map_err(String::as_str),
                expected.as_ref().map_err(|e| *e),
                "{hosts}"
            );
            assert_eq!(begun.elapsed(), after, "{hosts}");
        });
    }

    #[test]
    fn an_address_that_swallows_everything_costs_a_quarter_of_a_second() {
        check("a", Ok('a'), milliseconds(10));
        check("xa", Ok('a'), milliseconds(260));
        check("xxa", Ok('a'), milliseconds(510));
        check("xxxxxxxxxxxxxxxa", Ok('a'), milliseconds(3_760));
    }

    #[test]
    fn an_address_that_refuses_costs_nothing() {
        check("ra", Ok('a'), milliseconds(10));
        check("rrra", Ok('a'), milliseconds(10));
        check("xra", Ok('a'), milliseconds(260));
    }

    #[test]
    fn the_first_that_stands_is_taken_and_the_others_are_not_tried() {
        check("ab", Ok('a'), milliseconds(10));
    }

    #[test]
    fn when_all_fail_each_address_says_why() {
        check("", Err("the name has no address"), milliseconds(0));
        check("r", Err("connection refused"), milliseconds(0));
        check("rr", Err("r: connection refused; r: connection refused"), milliseconds(0));
    }

    #[test]
    fn no_more_than_the_bound_are_tried() {
        let hosts = "r".repeat(MAX_ADDRESSES) + "a";
        let error = format!("{}r: connection refused", "r: connection refused; ".repeat(MAX_ADDRESSES - 1));
        check(hosts.leak(), Err(error.leak()), milliseconds(0));
    }

    #[test]
    fn the_families_take_turns_and_the_resolvers_first_choice_stays_first() {
        let check = |addresses: &[&str], expected: &[&str]| {
            let parsed = |list: &[&str]| -> Vec<SocketAddr> {
                list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 443)).collect()
            };
            assert_eq!(interleaved(parsed(addresses)), parsed(expected));
        };
        check(&[], &[]);
        check(&["::1", "::2", "::3", "1.1.1.1"], &["::1", "1.1.1.1", "::2", "::3"]);
        check(&["1.1.1.1", "2.2.2.2", "::1", "::2"], &["1.1.1.1", "::1", "2.2.2.2", "::2"]);
        check(&["::ffff:1.1.1.1", "1.1.1.2", "::1"], &["::ffff:1.1.1.1", "::1", "1.1.1.2"]);
    }
}
