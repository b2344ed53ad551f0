//! The workers' processes in a run: started, ended, looked at; none is left behind.

use std::{
    fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    super::{
        LoadError, LoadOrder,
        process::{Launch, Worker},
    },
    Ended, ROUND, Run,
};
use crate::{
    hosts::backend::token,
    oracles::Class,
    serve::opencode::Installation,
    trace::{Event, Exit, Name, Phase},
    world::recorder::{Recorder, now},
};

/// How long workers may take to end when the run is over, besides their own grace.
const CLOSING: Duration = Duration::from_secs(30);
/// The same when somebody wants the run to end.
const HURRY: Duration = Duration::from_secs(3);
/// How long an OpenCode process may outlive its worker: the kernel kills it, and that takes a moment.
const MOURNING: Duration = Duration::from_secs(2);

/// A worker's machine.
pub(super) struct Machine {
    pub(super) name: Name,
    launch: Launch,
    pub(super) running: Option<Running>,
    starts: u64,
    /// Held while the run lasts.
    _installation: Installation,
}

pub(super) struct Running {
    worker: Worker,
    asked: bool,
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
        Ok(Self { name, launch, running: None, starts: 0, _installation: installation })
    }
}

impl Run<'_> {
    pub(super) fn start(&mut self, index: usize) -> Result<(), LoadError> {
        self.count_orphans(index);
        let machine = &mut self.machines[index];
        machine.starts += 1;
        let (worker, start) = (Name::clone(&machine.name), machine.starts);
        self.recorder.record(&machine.name, Event::WorkerStarted { worker, start });
        let worker = machine.launch.start().map_err(|source| {
            let command = machine.launch.command.first().map(|word| word.to_string_lossy().into_owned());
            LoadError::Start { command: command.unwrap_or_default(), source }
        })?;
        self.ledger.lock().spawned(&machine.name, now());
        machine.running = Some(Running { worker, asked: false });
        Ok(())
    }

    pub(super) fn kill(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if let Some(running) = machine.running.take() {
            running.worker.kill();
            self.recorder.record(&machine.name, Event::Killed { worker: Name::clone(&machine.name) });
        }
    }

    pub(super) fn ask_to_stop(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if let Some(running) = &mut machine.running {
            running.asked = true;
            let worker = Name::clone(&machine.name);
            self.recorder.record(&machine.name, Event::StopAsked { worker });
            running.worker.ask_to_stop();
        }
    }

    /// Records who has ended by now.
    pub(super) fn notice_ends(&mut self) -> Result<(), LoadError> {
        for machine in &mut self.machines {
            let Some(running) = &mut machine.running else { continue };
            let Some(status) = running.worker.ended()? else { continue };
            let exit = exit(status);
            let (asked, said) = (running.asked, running.worker.last_words());
            machine.running = None;
            let worker = Name::clone(&machine.name);
            self.recorder.record(&machine.name, Event::Exited { worker, exit: exit.clone() });
            if !asked || exit != Exit::Stopped {
                let message = format!("{} ended by itself: {exit:?}; its last words: {said}", machine.name);
                raise(&self.recorder, "lifecycle", Class::Safety, message);
            }
        }
        Ok(())
    }

    pub(super) fn sample(&self) {
        for machine in &self.machines {
            let Some(sample) = machine.running.as_ref().and_then(|running| running.worker.sample()) else {
                continue;
            };
            self.recorder.record(&machine.name, sample.event(&machine.name));
        }
    }

    /// Ends every worker, and sees that nothing is left of it.
    pub(super) async fn close(&mut self, ended: Ended) -> Result<(), LoadError> {
        self.sample();
        self.recorder.record(&self.name, Event::PhaseBegan { phase: Phase::Closing });
        (0..self.machines.len()).for_each(|index| self.ask_to_stop(index));
        let grace = self.load.order.scenario.settings.lifecycle.stop_grace + CLOSING;
        let patience = if ended == Ended::Interrupted { HURRY } else { grace };
        let limit = Instant::now() + patience;
        while self.machines.iter().any(|machine| machine.running.is_some()) && Instant::now() < limit {
            sleep(ROUND).await;
            self.notice_ends()?;
        }
        for index in 0..self.machines.len() {
            if self.machines[index].running.is_some() {
                if ended == Ended::Complete {
                    let message = format!(
                        "{} has not ended {patience:?} after it was asked to",
                        self.machines[index].name
                    );
                    raise(&self.recorder, "lifecycle", Class::Liveness, message);
                }
                self.kill(index);
            }
        }
        self.bury().await;
        Ok(())
    }

    /// Waits until no OpenCode process is there any more; one that stays is an orphan.
    async fn bury(&mut self) {
        let limit = Instant::now() + MOURNING;
        let left = |run: &Self| (0..run.machines.len()).any(|index| run.fakes.attached(index) > 0);
        while left(self) && Instant::now() < limit {
            sleep(ROUND).await;
        }
        (0..self.machines.len()).for_each(|index| self.count_orphans(index));
    }

    fn count_orphans(&self, index: usize) {
        let (count, machine) = (self.fakes.attached(index), &self.machines[index]);
        if count > 0 {
            self.ledger.lock().orphans(&machine.name, count);
            let message = format!("{count} OpenCode processes have outlived {}", machine.name);
            raise(&self.recorder, "lifecycle", Class::Safety, message);
        }
    }
}

/// A place for one worker, and the socket at which its OpenCode executable asks for servers.
pub(super) fn install() -> Result<(Installation, PathBuf), LoadError> {
    let simulator = std::env::current_exe()?;
    let socket = |root: &Path| root.join("opencode.socket");
    let installation =
        Installation::calling(|root| vec![simulator, "opencode-under-load".into(), socket(root)])?;
    let socket = socket(installation.root());
    Ok((installation, socket))
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(0), _) => Exit::Stopped,
        (Some(code), _) => Exit::Failed(format!("exit code {code}")),
        (None, signal) => Exit::Failed(format!("signal {}", signal.unwrap_or(0))),
    }
}

fn raise(recorder: &Recorder, oracle: &'static str, class: Class, message: String) {
    recorder.with(|all| all.court.raise(oracle, class, now(), message, &all.trace));
}
