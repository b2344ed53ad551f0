//! The OpenCode server as a child process that never outlives the worker.
//!
//! Three nets: the process group is killed whenever a [`SystemServer`] is stopped or dropped, or its leader ends; so is
//! every process that carries the server's mark; and the kernel kills the leader when the worker itself is killed.

use std::{
    ffi::OsStr,
    fs::DirBuilder,
    io,
    net::{IpAddr, Ipv4Addr, TcpListener},
    os::unix::{fs::DirBuilderExt, process::ExitStatusExt},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::ExposeSecret;
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    mark::{self, Mark},
    output::{Tail, drain},
    resolve::resolve,
};
use crate::env::{Address, Launch, LaunchError, ServerProcess};

/// Ports tried, each free a moment before, until a launch is given up.
const PORT_ATTEMPTS: usize = 3;
/// How long the end of its output is waited for when a child has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);
/// How long a killed process may take to be gone. Only one that hangs in the kernel takes longer.
const REAPING: Duration = Duration::from_secs(5);

/// Variables that are the worker's own, beside those that begin with `WORKER_`.
const OWN_VARIABLES: [&str; 2] = ["NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"];

/// A running OpenCode server of this machine.
#[derive(Debug)]
pub struct SystemServer {
    address: Address,
    started: Started,
}

/// A child with its group and pipes, ready or not.
#[derive(Debug)]
struct Started {
    child: Child,
    group: Group,
    tail: Tail,
    ready: mpsc::Receiver<Address>,
    drains: JoinSet<()>,
}

/// A process group and all that descend from it. Dropping it kills what is left of them.
#[derive(Debug)]
struct Group {
    leader: Option<Pid>,
    mark: Mark,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // No such group: it is gone already, which is what was wanted.
            let _ = kill_process_group(leader, signal);
        }
    }

    /// Kills them all. The leader's number may be used again from now on, so it is forgotten.
    fn end(&mut self) {
        self.signal(Signal::KILL);
        if self.leader.take().is_some() {
            self.mark.kill_all();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

impl ServerProcess for SystemServer {
    fn address(&self) -> Address {
        self.address.clone()
    }

    async fn exited(&mut self) -> String {
        self.started.exited().await
    }

    async fn stop(mut self, grace: Duration) {
        self.started.group.signal(Signal::TERM);
        let _ = timeout(grace, self.started.exited()).await;
        self.started.group.end();
        let _ = timeout(REAPING, self.started.exited()).await;
    }
}

/// Starts a server and waits for its ready line; tries another port if somebody was faster.
pub(super) async fn launch(launch: &Launch) -> Result<SystemServer, LaunchError> {
    for _ in 1..PORT_ATTEMPTS {
        match launch_once(launch).await {
            Err(LaunchError::Exited { output, .. }) if says_port_taken(&output) => {}
            other => return other,
        }
    }
    launch_once(launch).await
}

async fn launch_once(launch: &Launch) -> Result<SystemServer, LaunchError> {
    let binary = launch.binary.display().to_string();
    let mut started = Started::new(launch).map_err(|source| LaunchError::Spawn {
        binary: binary.clone(),
        directory: launch.directory.display().to_string(),
        source,
    })?;
    let address = tokio::select! {
        biased;
        Some(address) = started.ready.recv() => address,
        status = exit_of(&mut started.child) => {
            started.group.end();
            started.drain_output().await;
            return Err(LaunchError::Exited { binary, status, output: started.tail.text() });
        }
        () = sleep(launch.startup_timeout) => {
            return Err(LaunchError::Timeout { binary, waited: launch.startup_timeout });
        }
    };
    if !is_loopback(&address.host) {
        return Err(LaunchError::NotLoopback { binary, address });
    }
    Ok(SystemServer { address, started })
}

impl Started {
    fn new(launch: &Launch) -> io::Result<Self> {
        let mark = Mark::new();
        let mut child = command(launch, free_port()?, &mark)?.spawn()?;
        let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let (tail, (sender, ready)) = (Tail::default(), mpsc::channel(1));
        let mut drains = JoinSet::new();
        if let Some(pipe) = child.stdout.take() {
            drains.spawn(drain(pipe, tail.clone(), sender.clone()));
        }
        if let Some(pipe) = child.stderr.take() {
            drains.spawn(drain(pipe, tail.clone(), sender));
        }
        Ok(Self { child, group: Group { leader, mark }, tail, ready, drains })
    }

    async fn exited(&mut self) -> String {
        let status = exit_of(&mut self.child).await;
        self.group.end();
        status
    }

    async fn drain_output(&mut self) {
        let _ = timeout(DRAIN_TIMEOUT, async { while self.drains.join_next().await.is_some() {} }).await;
    }
}

/// An OpenCode executable that is to work in `directory`, in an environment without what is the worker's own: OpenCode's
/// tools see it. Makes the data directory, for the user alone, if it is missing.
///
/// # Errors
///
/// The data directory cannot be made.
pub fn opencode(
    binary: &Path,
    directory: &Path,
    data_directory: Option<&Path>,
) -> io::Result<std::process::Command> {
    let mut command = std::process::Command::new(resolve(binary));
    // Some of its commands believe `PWD` rather than where they are (measured).
    command.current_dir(directory).env("PWD", directory).env("OPENCODE_DISABLE_AUTOUPDATE", "1");
    if let Some(data) = data_directory {
        let data = std::path::absolute(data)?;
        let make = DirBuilder::new().recursive(true).mode(0o700).create(&data);
        make.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot create the data directory `{}`: {error}", data.display()),
            )
        })?;
        command.env("XDG_STATE_HOME", data.join("state")).env("XDG_DATA_HOME", data);
    }
    // The token may be among them, or where they point to; the worker alone speaks to its service manager.
    let own = |name: &OsStr| {
        name.to_string_lossy().starts_with("WORKER_") || OWN_VARIABLES.iter().any(|own| name == *own)
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| own(name)) {
        command.env_remove(name);
    }
    Ok(command)
}

fn command(launch: &Launch, port: u16, mark: &Mark) -> io::Result<Command> {
    let data = launch.data_directory.as_deref();
    let mut command = Command::from(opencode(&launch.binary, &launch.directory, data)?);
    command
        .args(["serve", "--hostname", "127.0.0.1", "--port"])
        .arg(port.to_string())
        .env("OPENCODE_SERVER_PASSWORD", launch.password.expose_secret())
        .env(mark::VARIABLE, mark.value())
        .env_remove("OPENCODE_SERVER_USERNAME")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    die_with_parent(&mut command);
    Ok(command)
}

/// Lets the kernel kill the child when the thread that starts it ends, however it ends.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the only way to run code between fork and exec")]
fn die_with_parent(command: &mut Command) {
    use rustix::{io::Errno, process};

    let parent = process::getpid();
    // SAFETY: the closure runs in the forked child. It makes two system calls and touches no lock and no memory that
    // another thread may have left half-changed; its error is a number, so nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // A parent that died before the call above sends no signal any more.
            if process::getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

/// A port that was free a moment ago. `--port 0` does not ask OpenCode for one: it prefers 4096 (measured).
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// OpenCode 1.18 says only `ServeError` (measured).
fn says_port_taken(output: &str) -> bool {
    ["ServeError", "EADDRINUSE", "address already in use", "Is port"].iter().any(|sign| output.contains(sign))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Resolves when the child has ended, at every call. Safe to cancel.
async fn exit_of(child: &mut Child) -> String {
    match child.wait().await {
        Ok(status) => describe(status),
        Err(error) => format!("its end could not be observed: {error}"),
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}
