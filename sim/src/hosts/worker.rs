//! A worker's host: starts the worker's own entry point, and knows how it is.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::Notify;
use worker::{config::Config, run::Stop, telemetry::Status};

use crate::{
    engine::{
        determinism::elapsed,
        memory::{Attributed, Owner},
        network,
    },
    hosts::{
        env::{Machine, MachineClock, SimEnv},
        freeze::{Freezable, Freezer},
        launcher::Launcher,
    },
    recorder::Recorder,
};
use sim_model::{
    plant::EnvPlants,
    seed::Seed,
    trace::{Event, Exit, Name},
};

/// What a worker process gets when it starts.
pub struct Boot {
    /// Its machine.
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
pub struct ProcessSpec {
    /// Its settings.
    pub config: Config,
    /// How it starts OpenCode servers.
    pub launcher: Launcher,
    /// What is odd about its machine.
    pub env_plants: EnvPlants,
}

/// One worker's machine.
pub struct WorkerHost {
    /// `worker-N`.
    pub name: Name,
    /// `opencode-N`, the same machine's OpenCode.
    pub opencode: Name,
    /// The machine's wall clock.
    pub clock: MachineClock,
    /// Whom the processes are charged to, in turn: a zombie's memory is not its successor's.
    owners: [Owner; 2],
    program: Program,
    spec: ProcessSpec,
    seed: Seed,
    recorder: Recorder,
    starts: Cell<u64>,
    zombies: Cell<usize>,
    /// Since when the machine sleeps, if it does.
    asleep_since: Cell<Duration>,
    /// The processes that run, by start: the newest one is the worker, the others are zombies.
    processes: RefCell<BTreeMap<u64, Process>>,
    /// Asks for one more process beside those that run.
    second: Notify,
    /// What the last process left behind is known, or will be at one of the next measurements.
    leftovers: Cell<Leftovers>,
}

/// How much is known of what a process left behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leftovers {
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
    freezer: Freezer,
    shown: Option<String>,
}

impl WorkerHost {
    /// Machine number `index` (from 0) of `count`. Nothing runs there yet.
    #[must_use]
    pub fn new(
        [index, count]: [usize; 2],
        program: Program,
        spec: ProcessSpec,
        seed: Seed,
        recorder: &Recorder,
    ) -> Self {
        Self {
            name: recorder.name(&format!("worker-{}", index + 1)),
            opencode: recorder.name(&format!("opencode-{}", index + 1)),
            clock: MachineClock::default(),
            owners: [Owner::worker(index), Owner::worker(count + index)],
            program,
            spec,
            seed,
            recorder: recorder.clone(),
            starts: Cell::new(0),
            zombies: Cell::new(0),
            asleep_since: Cell::default(),
            processes: RefCell::default(),
            second: Notify::new(),
            leftovers: Cell::new(Leftovers::Recorded),
        }
    }

    /// Runs worker processes, one unless there are zombies: what turmoil starts at the beginning and after each end.
    ///
    /// # Errors
    /// None; the signature is turmoil's.
    pub async fn run(self: Rc<Self>) -> turmoil::Result {
        // What the process before this one left open, if it ended by itself; then, at a kill, what this one has.
        network::close_deferred();
        // A start ends whatever stood still here.
        self.processes.take();
        let _close_deferred = network::CloseDeferred;
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

    /// Whose memory the newest process has.
    pub fn owner(&self) -> Owner {
        self.owners[self.zombies.get() % 2]
    }

    fn begin(&self) -> (u64, Freezer, Boot) {
        if self.leftovers.replace(Leftovers::Unseen) != Leftovers::Recorded && self.is_empty() {
            self.record_left();
        }
        self.starts.set(self.starts.get() + 1);
        let start = self.starts.get();
        let (stop, status, freezer) = (Stop::default(), Arc::new(Status::default()), Freezer::default());
        let process = Process {
            stop: stop.clone(),
            status: Arc::clone(&status),
            freezer: freezer.clone(),
            shown: None,
        };
        self.processes.borrow_mut().insert(start, process);
        self.record(Event::WorkerStarted { worker: Name::clone(&self.name), start });
        let random = self.seed.stream(&format!("{}/start/{start}", self.name));
        let (name, clock) = (Name::clone(&self.name), self.clock.clone());
        let machine = Machine { name, clock, freezer: freezer.clone() };
        let ProcessSpec { config, launcher, env_plants } = &self.spec;
        let env = SimEnv::new(self.owner(), random, launcher.clone(), machine, *env_plants);
        (start, freezer, Boot { env, config: config.clone(), stop, status })
    }

    fn ended(&self, start: u64, exit: Exit) {
        self.processes.borrow_mut().remove(&start);
        let worker = Name::clone(&self.name);
        if start < self.starts.get() {
            // A newer process has taken over; that this one ends by itself is what it should do.
            return self.record(Event::ZombieExited { worker, start, exit });
        }
        self.record(Event::Exited { worker, exit });
    }

    /// Lets the machine's OpenCode servers die.
    pub fn crash_opencode(&self) {
        self.spec.launcher.crash();
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
        for (start, process) in &*self.processes.borrow() {
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

    /// The machine begins to sleep.
    pub fn suspend(&self) {
        self.asleep_since.set(elapsed());
        self.processes.borrow().values().for_each(|process| process.freezer.freeze());
    }

    /// The machine wakes.
    pub fn wake(&self) {
        self.clock.sleep(elapsed().saturating_sub(self.asleep_since.get()));
        self.thaw();
    }

    /// Lets all processes go on.
    pub fn thaw(&self) {
        self.processes.borrow().values().for_each(|process| process.freezer.thaw());
    }

    /// Whether all processes are gone and what they left behind is recorded.
    pub fn has_left(&self) -> bool {
        self.is_empty() && self.leftovers.get() == Leftovers::Recorded
    }

    /// Records how the process is, or once what it left behind.
    pub fn measure(&self) {
        match (self.is_up(), self.leftovers.get()) {
            (true, _) => {}
            (false, Leftovers::Unseen) => self.leftovers.set(Leftovers::Measured),
            (false, Leftovers::Measured) => {
                self.leftovers.set(Leftovers::Recorded);
                return self.record_left();
            }
            (false, Leftovers::Recorded) => return,
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

    fn record_left(&self) {
        let (bytes, sockets) = (self.owner().usage().live, network::open_streams(self.owner()));
        self.record(Event::Left { worker: Name::clone(&self.name), bytes, sockets });
    }

    fn record(&self, event: Event) {
        self.recorder.record(&self.name, event);
    }
}
