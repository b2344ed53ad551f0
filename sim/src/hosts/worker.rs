//! A worker's host: starts the worker's own entry point, and knows how it is.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::Notify;
use worker::{config::Config, run::Stop, telemetry::Status};

use super::{
    env::{MachineClock, SimEnv},
    freeze::{Freezable, Freezer},
    launcher::Launcher,
};
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
    /// The machine's wall clock.
    pub clock: MachineClock,
    /// Where the worker starts its OpenCode servers.
    pub launcher: Launcher,
    /// Whom the processes are charged to, in turn: a zombie's memory is not its successor's.
    owners: [Owner; 2],
    program: Program,
    config: Config,
    seed: Seed,
    recorder: Recorder,
    starts: Cell<u64>,
    zombies: Cell<usize>,
    /// The processes that run, by start: the newest one is the worker, the others are zombies.
    processes: RefCell<BTreeMap<u64, Process>>,
    /// Asks for one more process beside those that run.
    second: Notify,
    /// Whether it is known what the last process left behind.
    accounted: Cell<bool>,
}

struct Process {
    stop: Stop,
    status: Arc<Status>,
    freezer: Freezer,
    asked: bool,
    shown: Option<String>,
}

impl WorkerHost {
    /// Machine number `index` (from 0) of `count`. Nothing runs there yet.
    #[must_use]
    pub fn new(
        [index, count]: [usize; 2],
        program: Program,
        config: Config,
        launcher: Launcher,
        seed: Seed,
        recorder: &Recorder,
    ) -> Self {
        Self {
            name: recorder.name(&format!("worker-{}", index + 1)),
            opencode: recorder.name(&format!("opencode-{}", index + 1)),
            clock: MachineClock::default(),
            launcher,
            owners: [Owner::worker(index), Owner::worker(count + index)],
            program,
            config,
            seed,
            recorder: recorder.clone(),
            starts: Cell::new(0),
            zombies: Cell::new(0),
            processes: RefCell::default(),
            second: Notify::new(),
            accounted: Cell::new(false),
        }
    }

    /// Runs worker processes, one unless there are zombies: what turmoil starts at the beginning and after each end.
    ///
    /// # Errors
    /// None; the signature is turmoil's.
    pub async fn run(self: Rc<Self>) -> turmoil::Result {
        // What the process before this one left open, if it ended by itself; then, at a kill, what this one has.
        network::bury();
        // A start ends whatever stood still here.
        self.processes.take();
        let _burial = network::Burial;
        let mut processes = FuturesUnordered::new();
        processes.push(Rc::clone(&self).process());
        while !processes.is_empty() {
            tokio::select! {
                biased;
                Some(()) = processes.next() => {}
                () = self.second.notified() => processes.push(Rc::clone(&self).process()),
            }
        }
        Ok(())
    }

    /// One process, from its start to its end.
    async fn process(self: Rc<Self>) {
        let owner = self.owner();
        let (start, freezer, boot) = self.begin();
        let exit = Attributed::new(owner, Freezable::new(freezer, (self.program)(boot))).await;
        self.ended(start, exit);
    }

    fn owner(&self) -> Owner {
        self.owners[self.zombies.get() % 2]
    }

    fn begin(&self) -> (u64, Freezer, Boot) {
        self.starts.set(self.starts.get() + 1);
        let start = self.starts.get();
        let (stop, status, freezer) = (Stop::default(), Arc::new(Status::default()), Freezer::default());
        let process = Process {
            stop: stop.clone(),
            status: Arc::clone(&status),
            freezer: freezer.clone(),
            asked: false,
            shown: None,
        };
        self.processes.borrow_mut().insert(start, process);
        self.record(Event::WorkerStarted { worker: Name::clone(&self.name), start });
        let random = self.seed.stream(&format!("{}/start/{start}", self.name));
        let (clock, launcher) = (self.clock.clone(), self.launcher.clone());
        let env = SimEnv::new(Name::clone(&self.name), self.owner(), random, launcher, clock, freezer.clone());
        (start, freezer, Boot { env, config: self.config.clone(), stop, status })
    }

    fn ended(&self, start: u64, exit: Exit) {
        let process = self.processes.borrow_mut().remove(&start);
        let worker = Name::clone(&self.name);
        if start < self.starts.get() {
            // A newer process has taken over; that this one ends by itself is what it should do.
            return self.record(Event::ZombieExited { worker, start, exit });
        }
        let asked = process.is_some_and(|process| process.asked);
        self.record(Event::Exited { worker, exit: exit.clone() });
        if !asked || exit != Exit::Stopped {
            let message = format!("{} ended by itself: {exit:?}", self.name);
            self.recorder.with(|all| all.court.raise("lifecycle", Class::Safety, now(), message, &all.trace));
        }
    }

    /// Whether a process runs that is no zombie.
    pub fn is_up(&self) -> bool {
        self.processes.borrow().contains_key(&self.starts.get())
    }

    /// Whether no process runs at all.
    pub fn is_empty(&self) -> bool {
        self.processes.borrow().is_empty()
    }

    /// Asks all processes to end, as SIGTERM does.
    pub fn ask_to_stop(&self) {
        for (start, process) in &mut *self.processes.borrow_mut() {
            process.asked = true;
            if *start == self.starts.get() {
                self.record(Event::StopAsked { worker: Name::clone(&self.name) });
            }
            process.stop.gracefully.cancel();
        }
    }

    /// Notes that all processes are being killed.
    pub fn killed(&self) {
        self.processes.take();
        self.record(Event::Killed { worker: Name::clone(&self.name) });
    }

    /// Makes the process stand still, and starts a second one.
    pub fn freeze(&self) {
        if let Some(process) = self.processes.borrow().get(&self.starts.get()) {
            process.freezer.freeze();
        }
        self.zombies.set(self.zombies.get() + 1);
        self.second.notify_one();
    }

    /// Lets all processes go on.
    pub fn thaw(&self) {
        self.processes.borrow().values().for_each(|process| process.freezer.thaw());
    }

    /// Records how the process is, or once what it left behind.
    pub fn measure(&self) {
        if self.accounted.replace(!self.is_up()) && !self.is_up() {
            return;
        }
        if let Some(process) = self.processes.borrow_mut().get_mut(&self.starts.get()) {
            let state = format!("{:?}", process.status.phase());
            if process.shown.as_ref() != Some(&state) {
                let shown = self.recorder.name(&state);
                self.record(Event::Lifecycle { worker: Name::clone(&self.name), state: shown });
                process.shown = Some(state);
            }
            let sessions = process.status.sessions_cached.load(Ordering::Relaxed) as u64;
            self.record(Event::Cache { worker: Name::clone(&self.name), sessions });
        }
        let (live, peak) = (self.owner().usage().live, self.owner().take_peak());
        self.record(Event::Heap { worker: Name::clone(&self.name), live, peak });
    }

    fn record(&self, event: Event) {
        self.recorder.record(&self.name, event);
    }
}
