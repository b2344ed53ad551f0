//! The workers' processes in a run: started, ended, looked at.

use std::{
    fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use rustix::process::{Pid, Signal};
use tokio::time::{Instant, sleep};

use crate::load::{
    LoadError, LoadOrder,
    process::{Launch, Worker},
    remains::{STAND_IN, mark, reap},
    run::{Ended, ROUND, Run},
};
use crate::{hosts::backend::token, recorder::Recorder};
use sim_model::trace::{Event, Exit, Micros, Name, Phase};
use sim_oracles::Class;
use sim_serve::opencode::Installation;

/// How long workers may take to end when the run is over, besides their own grace.
const CLOSING: Duration = Duration::from_secs(30);
/// How long what a wrapper has started may go on when the wrapper is gone, besides the worker's own grace.
const LINGERING: Duration = Duration::from_secs(10);
/// How long workers may take to end when somebody wants the run to.
const HURRY: Duration = Duration::from_secs(3);
/// A worker's machine.
pub(super) struct Machine {
    pub(super) name: Name,
    launch: Launch,
    pub(super) running: Option<Running>,
    /// Killed, but the kernel needs a moment.
    dying: Vec<Worker>,
    /// Ends that nobody has looked after yet ([`crate::load::run::burial`]).
    pub(super) deaths: Vec<Death>,
    starts: u64,
    installation: Installation,
}

pub(super) struct Running {
    worker: Worker,
    asked: bool,
    /// Since when its first process is gone, and others of its group go on.
    headless: Option<Instant>,
}

/// An end of a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death {
    pub(super) start: u64,
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
        let (running, dying, deaths) = (None, Vec::new(), Vec::new());
        Ok(Self { name, launch, running, dying, deaths, starts: 0, installation })
    }

    /// The directory that all of it is in.
    pub(super) fn root(&self) -> &Path {
        self.installation.root()
    }

    /// Whether a process of its worker, of any start, was not waited for yet.
    pub(super) fn is_alive(&self) -> bool {
        self.running.is_some() || !self.dying.is_empty()
    }

    /// The first processes of its workers, which are waited for here.
    pub(super) fn leaders(&self) -> impl Iterator<Item = Pid> {
        self.dying.iter().chain(self.running.iter().map(|running| &running.worker)).map(Worker::leader)
    }

    fn died(&mut self, at: Micros) {
        self.deaths.push(Death { start: self.starts, at });
    }
}

impl Run<'_> {
    pub(super) fn start(&mut self, index: usize) -> Result<(), LoadError> {
        self.end_escaped(index);
        let machine = &mut self.machines[index];
        machine.starts += 1;
        let (worker, start) = (Name::clone(&machine.name), machine.starts);
        self.recorder.record(&machine.name, Event::WorkerStarted { worker, start });
        let mark = mark(machine.root(), start);
        let worker = machine.launch.start(mark).map_err(|source| {
            let command = machine.launch.command.first().map(|word| word.to_string_lossy().into_owned());
            LoadError::Start { command: command.unwrap_or_default(), source }
        })?;
        self.ledger.lock().spawned(&machine.name, self.recorder.now());
        machine.running = Some(Running { worker, asked: false, headless: None });
        Ok(())
    }

    pub(super) fn kill(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if let Some(running) = machine.running.take() {
            running.worker.kill();
            tell_panic(&self.recorder, &machine.name, &running.worker);
            self.recorder.record(&machine.name, Event::Killed { worker: Name::clone(&machine.name) });
            machine.dying.push(running.worker);
            machine.died(self.recorder.now());
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
        let patience = self.load.order.scenario.settings.lifecycle.stop_grace + LINGERING;
        for machine in &mut self.machines {
            machine.dying.retain_mut(|worker| !matches!(worker.ended(), Ok(Some(_))));
            let Some(running) = &mut machine.running else { continue };
            let Some(status) = running.worker.ended()? else {
                if running.is_headless_for(patience) {
                    running.worker.kill();
                    let message = format!(
                        "{} has ended, but others of its group went on and were killed",
                        machine.name
                    );
                    self.recorder.raise("cleanup", Class::Safety, message);
                }
                continue;
            };
            let said_goodbye = self.ledger.lock().said_goodbye(&machine.name);
            let fault = running.fault(status, said_goodbye);
            tell_panic(&self.recorder, &machine.name, &running.worker);
            let worker = Name::clone(&machine.name);
            self.recorder.record(&machine.name, Event::Exited { worker, exit: exit(status, running.asked) });
            if let Some(fault) = fault {
                self.recorder.raise("lifecycle", Class::Safety, format!("{} {fault}", machine.name));
            }
            machine.running = None;
            machine.died(self.recorder.now());
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
        while self.machines.iter().any(Machine::is_alive) && Instant::now() < limit {
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
                    self.recorder.raise("lifecycle", Class::Liveness, message);
                }
                self.kill(index);
            }
        }
        self.bury().await;
        Ok(())
    }

    /// Waits for what has ended and became ours when its parent did.
    pub(super) fn reap(&self) {
        let guard = Pid::from_raw(self.guard.pid().cast_signed());
        reap(&self.machines.iter().flat_map(Machine::leaders).chain(guard).collect::<Vec<_>>());
    }
}

impl Running {
    /// Whether its first process has been gone for longer than `patience`.
    fn is_headless_for(&mut self, patience: Duration) -> bool {
        if !self.worker.is_headless() {
            return false;
        }
        self.headless.get_or_insert_with(Instant::now).elapsed() > patience
    }

    /// What is wrong with its end, if anything is.
    fn fault(&self, status: ExitStatus, said_goodbye: bool) -> Option<String> {
        let exit = exit(status, self.asked);
        if !self.asked || exit != Exit::Stopped {
            let said = self.worker.last_words();
            return Some(format!("ended by itself: {exit:?}; its last words: {said}"));
        }
        (!said_goodbye)
            .then(|| "ended when it was asked to, but did not tell the backend that it is gone".into())
    }
}

/// A place for one worker, and the socket at which its OpenCode executable asks for servers.
pub(super) fn install() -> Result<(Installation, PathBuf), LoadError> {
    let simulator = std::env::current_exe()?;
    let socket = |root: &Path| root.join("opencode.socket");
    let installation =
        Installation::calling(|root| vec![simulator, "internal".into(), STAND_IN.into(), socket(root)])?;
    let socket = socket(installation.root());
    Ok((installation, socket))
}

/// How a worker ended. One that was asked to by SIGTERM and died of it ended as asked, as for systemd; a wrapper does
/// that, and whether what it wrapped has said goodbye is another question.
fn exit(status: ExitStatus, asked: bool) -> Exit {
    match (status.code(), status.signal()) {
        (Some(0), _) => Exit::Stopped,
        (None, Some(signal)) if asked && signal == Signal::TERM.as_raw() => Exit::Stopped,
        (Some(code), _) => Exit::Failed(format!("exit code {code}")),
        (None, signal) => Exit::Failed(format!("signal {}", signal.unwrap_or(0))),
    }
}

fn tell_panic(recorder: &Recorder, name: &Name, worker: &Worker) {
    if let Some(told) = worker.panic() {
        let message = recorder.name(&told);
        recorder.record(name, Event::Panicked { worker: Name::clone(name), message });
    }
}
