//! A worker's machine in a run: where it lives, what runs there, how it ended.

use std::{
    fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use rustix::process::Signal;
use sim_model::trace::{Exit, Micros, Name};
use sim_serve::opencode::Installation;
use tokio::time::Instant;

use crate::{
    hosts::backend::token,
    load::{
        order::{LoadError, LoadOrder},
        process::{Launch, Worker},
        stand_in,
    },
    recorder::Recorder,
};

/// A worker's machine.
pub(super) struct Machine {
    pub(super) name: Name,
    pub(super) launch: Launch,
    pub(super) running: Option<Running>,
    /// Killed, but the kernel needs a moment.
    pub(super) dying: Vec<Worker>,
    /// Ends that nobody has looked after yet ([`super::leftovers`]).
    pub(super) exits: Vec<WorkerExit>,
    pub(super) starts: u64,
    /// Held: its directory goes with it.
    _installation: Installation,
}

pub(super) struct Running {
    pub(super) worker: Worker,
    pub(super) asked: bool,
    /// Since when its first process is gone, and others of its group go on.
    pub(super) headless: Option<Instant>,
}

/// An end of a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkerExit {
    pub(super) at: Micros,
}

impl Machine {
    pub(super) fn new(
        load: &LoadOrder,
        index: usize,
        installation: Installation,
        convex: SocketAddr,
        recorder: &Recorder,
    ) -> Result<Self, LoadError> {
        let root = installation.root();
        let config = root.join("worker.toml");
        fs::write(&config, toml::to_string(&load.order.scenario.settings)?)?;
        let environment = vec![
            ("CONVEX_URL", format!("http://{convex}").into()),
            ("WORKER_TOKEN", token(index).into()),
            ("WORKER_DIRECTORY", installation.directory.clone().into()),
            ("WORKER_OPENCODE", installation.binary.clone().into()),
            ("WORKER_CONFIG", config.into()),
        ];
        let launch = Launch {
            command: load.command.clone(),
            environment,
            directory: installation.directory.clone(),
            log: root.join("worker.log"),
        };
        let name = recorder.name(&format!("worker-{}", index + 1));
        let (running, dying, exits) = (None, Vec::new(), Vec::new());
        Ok(Self { name, launch, running, dying, exits, starts: 0, _installation: installation })
    }

    /// Whether a process of its worker, of any start, was not waited for yet.
    pub(super) fn is_alive(&self) -> bool {
        self.running.is_some() || !self.dying.is_empty()
    }

    pub(super) fn exited(&mut self, at: Micros) {
        self.exits.push(WorkerExit { at });
    }
}

impl Running {
    /// Whether its first process has been gone for longer than `patience`.
    pub(super) fn is_headless_for(&mut self, patience: Duration) -> bool {
        if !self.worker.is_headless() {
            return false;
        }
        self.headless.get_or_insert_with(Instant::now).elapsed() > patience
    }

    /// What is wrong with its end, if anything is.
    pub(super) fn fault(&self, status: ExitStatus, told_offline: bool) -> Option<String> {
        let exit = exit(status, self.asked);
        if !self.asked || exit != Exit::Stopped {
            let said = self.worker.log_tail();
            return Some(format!("ended by itself: {exit:?}; the end of its log: {said}"));
        }
        (!told_offline)
            .then(|| "ended when it was asked to, but did not tell the backend that it is gone".into())
    }
}

/// A place for one worker, and the socket at which its OpenCode executable asks for servers.
pub(super) fn install() -> Result<(Installation, PathBuf), LoadError> {
    let simulator = std::env::current_exe()?;
    let socket = |root: &Path| root.join("opencode.socket");
    let installation = Installation::calling(|root| {
        vec![simulator, "internal".into(), stand_in::COMMAND.into(), socket(root)]
    })?;
    let socket = socket(installation.root());
    Ok((installation, socket))
}

/// How a worker ended. One that was asked to by SIGTERM and died of it ended as asked, as for systemd; a wrapper does
/// that, and whether what it wrapped has said goodbye is another question.
pub(super) fn exit(status: ExitStatus, asked: bool) -> Exit {
    match (status.code(), status.signal()) {
        (Some(0), _) => Exit::Stopped,
        (None, Some(signal)) if asked && signal == Signal::TERM.as_raw() => Exit::Stopped,
        (Some(code), _) => Exit::Failed(format!("exit code {code}")),
        (None, signal) => Exit::Failed(format!("signal {}", signal.unwrap_or(0))),
    }
}
