//! The seam between the worker and the world.
//!
//! Everything that the worker cannot decide by itself comes through [`Env`]: connections, the OpenCode process,
//! the wall clock, randomness and tasks. Production and simulation differ in the `Env` alone. Timers are not part
//! of it: `tokio::time` is already under the control of whoever built the runtime.

pub mod moment;
pub mod race;
pub mod system;

#[cfg(test)]
pub(crate) mod testing;

use std::{fmt, future::Future, io, path::PathBuf, time::Duration};

use http::HeaderValue;
use secrecy::SecretString;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::Instant,
};

/// Milliseconds since the Unix epoch, by the wall clock.
pub type UnixMillis = u64;

/// What the worker needs from its surroundings.
pub trait Env: Clone + Send + Sync + 'static {
    /// A byte stream to a peer: TCP in production.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// A running OpenCode server.
    type Server: ServerProcess;

    /// Opens a plain byte stream. The caller bounds the time it takes.
    fn connect(&self, address: &Address) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// The proxy through which a host is reached over TLS, if one is set.
    fn proxy(&self, _to: &Address) -> Result<Option<Proxy>, ProxyError> {
        Ok(None)
    }

    /// Starts an OpenCode server and waits for its ready line, at most `launch.startup_timeout`.
    fn launch(&self, launch: Launch) -> impl Future<Output = Result<Self::Server, LaunchError>> + Send;

    /// The wall clock. It may jump; never measure durations with it.
    fn now(&self) -> UnixMillis;

    /// A clock that nobody sets and that stands still while the machine sleeps: tokio's, in production.
    fn awake(&self) -> Instant {
        Instant::now()
    }

    /// Fills `buffer` with randomness fit for secrets and identifiers.
    fn random(&self, buffer: &mut [u8]);

    /// Starts a task. The caller keeps the handle, so that the task has an owner.
    fn spawn<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static;
}

/// Where a peer listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// A DNS name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As in a URL: an IPv6 address would run into its port.
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

/// An HTTP proxy that is asked by CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it listens.
    pub address: Address,
    /// The user and the password that it is shown. Never logged.
    pub authorization: Option<HeaderValue>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorization = self.authorization.as_ref().map(|_| "[redacted]");
        f.debug_struct("Proxy")
            .field("address", &self.address)
            .field("authorization", &authorization)
            .finish()
    }
}

/// Why the proxy that is set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the proxy of HTTPS_PROXY or ALL_PROXY is one of `{scheme}://`; only those of `http://` can be used: set one, or name the deployment's host in NO_PROXY"
)]
pub struct ProxyError {
    /// How it is spoken to.
    pub scheme: String,
}

/// How an OpenCode server is to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The executable, or a name to look up in `PATH`.
    pub binary: PathBuf,
    /// The directory that OpenCode works in.
    pub directory: PathBuf,
    /// Where it keeps sessions and logins, in place of the user's own data directory.
    pub data_directory: Option<PathBuf>,
    /// The password that clients must present; passed by environment, never by argument.
    pub password: SecretString,
    /// How long it may take until the ready line.
    pub startup_timeout: Duration,
}

/// A running OpenCode server. Dropping it kills the whole process group at once.
pub trait ServerProcess: Send + 'static {
    /// Where it listens.
    fn address(&self) -> Address;

    /// Resolves when the process has ended, with a description such as `killed by signal 9`.
    /// Safe to drop and to call again.
    fn exited(&mut self) -> impl Future<Output = String> + Send;

    /// Asks it to end, waits at most `grace`, then kills the whole process group.
    fn stop(self, grace: Duration) -> impl Future<Output = ()> + Send;
}

/// Why an OpenCode server did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The executable cannot be started at all.
    #[error("cannot start `{binary}` in `{directory}`: {source}; install OpenCode or set `opencode.binary`")]
    Spawn {
        /// The executable that was tried.
        binary: String,
        /// The directory it was to work in.
        directory: String,
        /// What the system said.
        source: io::Error,
    },
    /// The process ended before it was ready.
    #[error("`{binary}` ended before it was ready ({status}): {output}")]
    Exited {
        /// The executable that was tried.
        binary: String,
        /// How it ended.
        status: String,
        /// The last lines that it printed, at most 2 KiB.
        output: String,
    },
    /// It listens where others can reach it.
    #[error(
        "`{binary}` listens on {address}, not on loopback; remove `server.hostname` from OpenCode's configuration"
    )]
    NotLoopback {
        /// The executable that was tried.
        binary: String,
        /// Where it listens.
        address: Address,
    },
    /// No ready line came in time.
    #[error("`{binary}` printed no ready line within {}s", waited.as_secs())]
    Timeout {
        /// The executable that was tried.
        binary: String,
        /// How long the worker waited.
        waited: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn an_ipv6_address_stands_in_brackets_before_its_port() {
        for (host, shown) in
            [("127.0.0.1", "127.0.0.1:4096"), ("localhost", "localhost:4096"), ("::1", "[::1]:4096")]
        {
            let address = Address { host: host.into(), port: 4096 };
            assert_eq!(address.to_string(), shown);
            let url: http::Uri = format!("http://{address}/event").parse().unwrap();
            assert_eq!(url.port_u16(), Some(4096));
        }
    }
}
