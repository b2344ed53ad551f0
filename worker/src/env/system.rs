//! The production [`Env`]: TCP, the system's clock and randomness, tokio's tasks, real processes.

mod mark;
mod output;
mod process;
mod proxy;
mod resolve;
mod secrecy;

use std::{
    future::Future,
    io,
    time::{SystemTime, UNIX_EPOCH},
};

use hyper_util::client::proxy::matcher::Matcher;
use rand::{TryRngCore, rngs::OsRng};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinHandle,
};

use super::{
    Address, Env, Launch, LaunchError, Proxy, ProxyError, UnixMillis,
    race::{interleaved, race},
};

pub use mark::end_orphans;
pub use process::{SystemServer, opencode};
pub use secrecy::{hide_process, take_variable};

/// The production [`Env`]. Needs a tokio runtime, on a thread that lives as long as the worker: the OpenCode server
/// dies with the *thread* that launched it (that is how Linux notices the death of a parent).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEnv;

impl Env for SystemEnv {
    type Stream = TcpStream;
    type Server = SystemServer;

    async fn connect(&self, address: &Address) -> io::Result<TcpStream> {
        let resolved = lookup_host((address.host.as_str(), address.port)).await?;
        let stream = race(interleaved(resolved), TcpStream::connect).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn proxy(&self, to: &Address) -> Result<Option<Proxy>, ProxyError> {
        proxy::proxy(&Matcher::from_env(), to)
    }

    async fn launch(&self, launch: Launch) -> Result<SystemServer, LaunchError> {
        process::launch(&launch).await
    }

    #[expect(clippy::disallowed_methods, reason = "this is where the wall clock enters")]
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn random(&self, buffer: &mut [u8]) {
        OsRng.try_fill_bytes(buffer).expect("the system has a source of randomness");
    }

    fn spawn<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        spawn(task)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where tasks are made; the caller owns the handle")]
fn spawn<F>(task: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(task)
}

#[cfg(test)]
mod tests;
