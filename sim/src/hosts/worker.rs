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
    plant::Quirks,
    seed::Seed,
    trace::{Event, Exit, Name},
    world::{
        memory::{Attributed, Owner},
        network,
        recorder::Recorder,
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

/// What every process on a machine is started with.
pub struct Outfit {
    /// Its settings.
    pub config: Config,
    /// How it starts OpenCode servers.
    pub launcher: Launcher,
    /// What is odd about its surroundings.
    pub quirks: Quirks,
}

/// One worker's machine.
pub struct WorkerHost {
    /// `worker-N`.
    pub name: Name,
    /// `opencode-N`, the same machine's OpenCode.
    pub opencode: Name,
    owner: Owner,
    program: Program,
    outfit: Outfit,
    seed: Seed,
    recorder: Recorder,
    starts: Cell<u64>,
    /// Of the process that runs, if one does.
    process: RefCell<Option<Process>>,
    /// What the last process left behind is known, or will be at one of the next measurements.
    remains: Cell<Remains>,
}

/// How much is known of what a process left behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remains {
    /// It runs, or it was not measured since it ended.
    Unseen,
    /// Its heap was measured; what was on its way out has until the next measurement.
    Measured,
    /// All is recorded.
    Recorded,
}

struct Process {
    stop: Stop,
    status: Arc<Status>,
    shown: Option<String>,
}

impl WorkerHost {
    /// Machine number `index` (from 0). Nothing runs there yet.
    #[must_use]
    pub fn new(index: usize, program: Program, outfit: Outfit, seed: Seed, recorder: &Recorder) -> Self {
        Self {
            name: recorder.name(&format!("worker-{}", index + 1)),
            opencode: recorder.name(&format!("opencode-{}", index + 1)),
            owner: Owner::worker(index),
            program,
            outfit,
            seed,
            recorder: recorder.clone(),
            starts: Cell::new(0),
            process: RefCell::new(None),
            remains: Cell::new(Remains::Recorded),
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
        self.process.take();
        self.record(Event::Exited { worker, exit });
        Ok(())
    }

    fn begin(&self) -> Boot {
        if self.remains.replace(Remains::Unseen) != Remains::Recorded {
            self.record_left();
        }
        self.starts.set(self.starts.get() + 1);
        let start = self.starts.get();
        let (stop, status) = (Stop::default(), Arc::new(Status::default()));
        let process = Process { stop: stop.clone(), status: Arc::clone(&status), shown: None };
        self.process.replace(Some(process));
        self.record(Event::WorkerStarted { worker: Name::clone(&self.name), start });
        let random = self.seed.stream(&format!("{}/start/{start}", self.name));
        let Outfit { config, launcher, quirks } = &self.outfit;
        let env = SimEnv::new(self.owner, random, launcher.clone(), *quirks);
        Boot { env, config: config.clone(), stop, status }
    }

    /// Whether a process runs.
    pub fn is_up(&self) -> bool {
        self.process.borrow().is_some()
    }

    /// Asks the process to end, as SIGTERM does.
    pub fn ask_to_stop(&self) {
        if let Some(process) = &*self.process.borrow() {
            self.record(Event::StopAsked { worker: Name::clone(&self.name) });
            process.stop.gracefully.cancel();
        }
    }

    /// Notes that the process is being killed.
    pub fn killed(&self) {
        self.process.replace(None);
        self.record(Event::Killed { worker: Name::clone(&self.name) });
    }

    /// Whose memory it is.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Whether the process is gone and what it left behind is recorded.
    pub fn has_left(&self) -> bool {
        self.remains.get() == Remains::Recorded
    }

    /// Records how the process is, or once what it left behind.
    pub fn measure(&self) {
        match (self.is_up(), self.remains.get()) {
            (true, _) => {}
            (false, Remains::Unseen) => self.remains.set(Remains::Measured),
            (false, Remains::Measured) => {
                self.remains.set(Remains::Recorded);
                return self.record_left();
            }
            (false, Remains::Recorded) => return,
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

    fn record_left(&self) {
        let (bytes, sockets) = (self.owner.usage().live, network::open_streams(self.owner));
        self.record(Event::Left { worker: Name::clone(&self.name), bytes, sockets });
    }

    fn record(&self, event: Event) {
        self.recorder.record(&self.name, event);
    }
}
