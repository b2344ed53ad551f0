//! The executable that a worker starts instead of OpenCode, and what it does then.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    rc::Rc,
};

use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};

use crate::unix_nanos;
use fake_opencode::{OpenCode, Options, Server};
use sim_model::seed::Seed;

/// A fresh directory with an executable called `opencode` and a project for it to work in. Gone when it is dropped.
#[derive(Debug)]
pub struct Installation {
    /// The executable.
    pub binary: PathBuf,
    /// The project.
    pub directory: PathBuf,
    root: TempDir,
}

impl Installation {
    /// Writes an executable that becomes `simulator internal opencode …`.
    ///
    /// # Errors
    /// If the directory for temporary files does not let it.
    pub fn new(simulator: &Path) -> io::Result<Self> {
        Self::calling(|_| vec![simulator.into(), "internal".into(), "opencode".into()])
    }

    /// Writes an executable that becomes the command that `command` makes, given the fresh directory; its arguments
    /// are appended.
    ///
    /// A script that replaces itself, not a link: the worker follows links, and a process between the two would
    /// outlive a worker that is killed.
    ///
    /// # Errors
    /// If the directory for temporary files does not let it.
    pub fn calling(command: impl FnOnce(&Path) -> Vec<PathBuf>) -> io::Result<Self> {
        let root = tempfile::Builder::new().prefix("sim-serve-").tempdir()?;
        let directory = root.path().join("project");
        fs::create_dir(&directory)?;
        let binary = root.path().join("opencode");
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&binary)?;
        let words: Vec<_> =
            command(root.path()).iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let quoted = shlex::try_join(words.iter().map(String::as_str)).map_err(io::Error::other)?;
        io::Write::write_all(&mut file, format!("#!/bin/sh\nexec {quoted} \"$@\"\n").as_bytes())?;
        Ok(Self { binary, directory, root })
    }

    /// The directory that all of it is in; gone with it.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

/// Why the fake does not serve. The first words are those by which OpenCode's own failure is known.
#[derive(Debug, thiserror::Error)]
pub enum OpenCodeError {
    /// It was asked to listen where others can reach it.
    #[error("{0} is not a loopback address; the fake listens nowhere else")]
    NotLoopback(IpAddr),
    /// The port cannot be had.
    #[error("ServeError: cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// The machine that an `opencode` process finds. Its disk is empty at every start, and its ids differ from those of
/// every other start.
#[must_use]
pub fn machine(directory: &Path) -> OpenCode {
    let options = Options::new(Seed::from_system().0, Rc::new(|| unix_nanos() / 1_000_000));
    OpenCode::new(Options { directory: directory.to_string_lossy().into_owned(), ..options })
}

/// Serves like `opencode serve`: reports the address when it is ready, and goes on until the process ends.
///
/// # Errors
/// If it may not or cannot listen there.
pub async fn serve(
    machine: &OpenCode,
    password: Option<String>,
    address: SocketAddr,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), OpenCodeError> {
    if !address.ip().is_loopback() {
        return Err(OpenCodeError::NotLoopback(address.ip()));
    }
    let listen = |source| OpenCodeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let server = machine.start(password);
    server.ready().await;
    ready(listener.local_addr().map_err(listen)?);
    answer(&server, &listener).await.map_err(listen)
}

/// Answers connections until the listener fails.
pub async fn answer(server: &Server, listener: &TcpListener) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                connections.spawn_local(server.serve_connection(stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
