//! A worker's host: starts the worker's own entry point, and knows how it is.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use worker::{config::Config, run::Stop, telemetry::Status};

use super::{env::SimEnv, launcher::Launcher};
use crate::{
    oracles::Class,
    seed::Seed,
    trace::{Event, Exit, Name},
    world::{
        memory::{Attributed, Owner},
        network,
        recorder::{Recorder, now},
    },
};

/// What a worker process gets when it starts.
pub struct Boot {
    /// Its surroundings.
    pub env: SimEnv,
    /// Its settings.
    pub config: Config,
    /// How it is asked to end.
    pub stop: Stop,
    /// What it shows of itself.
    pub status: Arc<Status>,
}

/// A worker process, from its start to its end.
pub type Program = fn(Boot) -> Pin<Box<dyn Future<Output = Exit>>>;

/// One worker's machine.
pub struct WorkerHost {
    /// `worker-N`.
    pub name: Name,
    /// `opencode-N`, the same machine's OpenCode.
    pub opencode: Name,
    owner: Owner,
    program: Program,
    config: Config,
    launcher: Launcher,
    seed: Seed,
    recorder: Recorder,
    starts: Cell<u64>,
    /// Of the process that runs, if one does.
    process: RefCell<Option<Process>>,
    /// Whether it is known what the last process left behind.
    accounted: Cell<bool>,
}

struct Process {
    stop: Stop,
    status: Arc<Status>,
    asked: bool,
    shown: Option<String>,
}

impl WorkerHost {
    /// Machine number `index` (from 0). Nothing runs there yet.
    #[must_use]
    pub fn new(
        index: usize,
        program: Program,
        config: Config,
        launcher: Launcher,
        seed: Seed,
        recorder: &Recorder,
    ) -> Self {
        Self {
            name: recorder.name(&format!("worker-{}", index + 1)),
            opencode: recorder.name(&format!("opencode-{}", index + 1)),
            owner: Owner::worker(index),
            program,
            config,
            launcher,
            seed,
            recorder: recorder.clone(),
            starts: Cell::new(0),
            process: RefCell::new(None),
            accounted: Cell::new(false),
        }
    }

    /// Runs one worker process: what turmoil starts at the beginning and after each end.
    ///
    /// # Errors
    /// None; the signature is turmoil's.
    pub async fn run(self: Rc<Self>) -> turmoil::Result {
        // What the process before this one left open, if it ended by itself; then, at a kill, what this one has.
        network::bury();
        let _burial = network::Burial;
        let worker = Name::clone(&self.name);
        let boot = self.begin();
        let exit = Attributed::new(self.owner, (self.program)(boot)).await;
        let asked = self.process.take().is_some_and(|process| process.asked);
        self.record(Event::Exited { worker, exit: exit.clone() });
        if !asked || exit != Exit::Stopped {
            let message = format!("{} ended by itself: {exit:?}", self.name);
            self.recorder.with(|all| all.court.raise("lifecycle", Class::Safety, now(), message, &all.trace));
        }
        Ok(())
    }

    fn begin(&self) -> Boot {
        self.starts.set(self.starts.get() + 1);
        let start = self.starts.get();
        let (stop, status) = (Stop::default(), Arc::new(Status::default()));
        let process = Process { stop: stop.clone(), status: Arc::clone(&status), asked: false, shown: None };
        self.process.replace(Some(process));
        self.record(Event::WorkerStarted { worker: Name::clone(&self.name), start });
        let random = self.seed.stream(&format!("{}/start/{start}", self.name));
        let env = SimEnv::new(self.owner, random, self.launcher.clone());
        Boot { env, config: self.config.clone(), stop, status }
    }

    /// Whether a process runs.
    pub fn is_up(&self) -> bool {
        self.process.borrow().is_some()
    }

    /// Asks the process to end, as SIGTERM does.
    pub fn ask_to_stop(&self) {
        if let Some(process) = &mut *self.process.borrow_mut() {
            process.asked = true;
            self.record(Event::StopAsked { worker: Name::clone(&self.name) });
            process.stop.gracefully.cancel();
        }
    }

    /// Notes that the process is being killed.
    pub fn killed(&self) {
        self.process.replace(None);
        self.record(Event::Killed { worker: Name::clone(&self.name) });
    }

    /// Records how the process is, or once what it left behind.
    pub fn measure(&self) {
        if self.accounted.replace(!self.is_up()) && !self.is_up() {
            return;
        }
        if let Some(process) = &mut *self.process.borrow_mut() {
            let state = format!("{:?}", process.status.phase());
            if process.shown.as_ref() != Some(&state) {
                let shown = self.recorder.name(&state);
                self.record(Event::Lifecycle { worker: Name::clone(&self.name), state: shown });
                process.shown = Some(state);
            }
            let sessions = process.status.sessions_cached.load(Ordering::Relaxed) as u64;
            self.record(Event::Cache { worker: Name::clone(&self.name), sessions });
        }
        let (live, peak) = (self.owner.usage().live, self.owner.take_peak());
        self.record(Event::Heap { worker: Name::clone(&self.name), live, peak });
    }

    fn record(&self, event: Event) {
        self.recorder.record(&self.name, event);
    }
}
