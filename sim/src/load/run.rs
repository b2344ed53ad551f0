//! One run in real time, from its start to its report: work under restarts, healing, the end.

use std::{
    fs, net::SocketAddr, os::unix::process::ExitStatusExt as _, path::PathBuf, process::ExitStatus,
    time::Duration,
};

use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    LoadError, LoadOrder,
    fakes::{Fakes, World},
    figures::{LoadFigures, Step},
    ledger::SharedLedger,
    meter::Meter,
    opencode::Place,
    probe::SharedProbe,
    process::{Launch, Worker},
    scale,
};
use crate::{
    faults::{self, Action, Condition, Conductor},
    hosts::backend::token,
    marks::Marks,
    oracles::{self, Class, Court},
    report::{self, Engine, Latency, Report, SCHEMA, TraceSummary, Verdict},
    scenario::{Plan, Scenario},
    serve::opencode::Installation,
    trace::{Event, Exit, Name, Phase, Trace},
    world::{
        Order, RunError,
        determinism::{elapsed, join_live_run, wall_clock},
        progress::{Look, Progress},
        recorder::{Recorder, now},
    },
};

/// Between two rounds of the conductor.
const ROUND: Duration = Duration::from_millis(10);
/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(250);
/// How long workers may take to end when the run is over, besides their own grace.
const CLOSING: Duration = Duration::from_secs(30);
/// The same when somebody wants the run to end.
const HURRY: Duration = Duration::from_secs(3);
/// How long an OpenCode process may outlive its worker: the kernel kills it, and that takes a moment.
const MOURNING: Duration = Duration::from_secs(2);
/// By how much requests may bunch on loopback, on a machine with other work: the throttle's window is shorter by it.
const SPREAD: Duration = Duration::from_millis(100);
/// What the oracles of a simulation see and this run cannot.
const UNSEEN: [&str; 4] = [
    "the worker's heap (resident memory stands for it)",
    "the sessions that the worker remembers",
    "what the worker says of its own state",
    "fairness and the distance of heartbeats (their bounds are those of simulated time)",
];

/// Runs `order` on this thread.
pub(super) fn run(order: &LoadOrder, progress: &Progress) -> Result<Report, LoadError> {
    join_live_run(Duration::MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut run = Run::prepare(order)?;
        let ended = run.live(progress).await?;
        run.report(ended)
    })
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Complete,
    Interrupted,
}

struct Run<'a> {
    load: &'a LoadOrder,
    recorder: Recorder,
    name: Name,
    ledger: SharedLedger,
    probe: SharedProbe,
    machines: Vec<Machine>,
    conductor: Conductor,
    fakes: Fakes,
    /// How long people and restarts are at work.
    duration: Duration,
    looked: Instant,
    began: Duration,
    meter: Option<Meter>,
    steps: Vec<Step>,
    /// Of the step that is being measured.
    step: Option<Meter>,
}

/// A worker's machine.
struct Machine {
    name: Name,
    launch: Launch,
    running: Option<Running>,
    starts: u64,
    /// Held while the run lasts.
    _installation: Installation,
}

struct Running {
    worker: Worker,
    asked: bool,
}

impl<'a> Run<'a> {
    fn prepare(load: &'a LoadOrder) -> Result<Self, LoadError> {
        let Order { scenario, seed, .. } = &load.order;
        let recorder = recorder(load)?;
        let (ledger, name) = (SharedLedger::default(), recorder.name("world"));
        let follower = ledger.clone();
        recorder.with(|all| all.followers.push(Box::new(move |fact| follower.lock().observe(fact))));
        recorder.record(&name, Event::PhaseBegan { phase: Phase::Safety });
        let interval = scenario.settings.turns.coalesce_interval.as_micros();
        let probe = SharedProbe::new(u64::try_from(interval).unwrap_or(u64::MAX));
        let duration = scale::duration(scenario, load.time_scale, load.limit);
        let plans = plans(load, duration, &recorder);
        let installations = (0..scenario.workers).map(|_| install()).collect::<Result<Vec<_>, _>>()?;
        let places =
            installations.iter().map(|(place, socket)| Ok((Place::new(socket)?, place.directory.clone())));
        let places = places.collect::<Result<Vec<_>, LoadError>>()?;
        let world = World {
            order: Order {
                scenario: Scenario {
                    replies: scale::replies(&scenario.replies, load.time_scale),
                    ..scenario.clone()
                },
                seed: *seed,
                ..load.order.clone()
            },
            plans,
            execution: load.execution,
            recorder: recorder.clone(),
            probe: probe.clone(),
            silence: CancellationToken::new(),
        };
        let fakes = Fakes::start(world, places)?;
        let machines = installations
            .into_iter()
            .enumerate()
            .map(|(index, (place, _))| Machine::new(load, index, place, fakes.addresses[index], &recorder));
        let machines = machines.collect::<Result<Vec<_>, LoadError>>()?;
        let planned = faults::Plan::draw(scenario, *seed).faults;
        let restarts = scale::restarts(planned, load.time_scale, duration);
        let (conductor, looked) = (Conductor::new(restarts, scenario.workers), Instant::now());
        let began = Duration::ZERO;
        Ok(Self {
            load,
            recorder,
            name,
            ledger,
            probe,
            machines,
            conductor,
            fakes,
            duration,
            looked,
            began,
            meter: None,
            steps: Vec::new(),
            step: None,
        })
    }

    /// Lives through all phases. However it ends, no process is left.
    async fn live(&mut self, progress: &Progress) -> Result<Ended, LoadError> {
        self.began = wall_clock();
        join_live_run(self.began);
        self.fakes.go(self.began);
        self.meter = Some(Meter::begin(0, &self.fakes.gauges, &self.probe));
        for index in 0..self.machines.len() {
            self.start(index)?;
        }
        let mut ended = self.go_on(progress, self.duration, |_| false).await?;
        if ended == Ended::Complete {
            self.conductor.heal();
            self.recorder.record(&self.name, Event::PhaseBegan { phase: Phase::Liveness });
            let limit = elapsed() + self.load.order.scenario.liveness;
            ended = self.go_on(progress, limit, Self::has_settled).await?;
        }
        if ended == Ended::Complete {
            self.recorder.with(|recording| recording.court.convict_pending(now(), &recording.trace));
        }
        self.close(ended).await?;
        Ok(ended)
    }

    fn has_settled(&self) -> bool {
        self.conductor.unfinished().next().is_none()
            && self.recorder.with(|all| all.court.pending().is_empty())
    }

    /// Goes on until `limit`, or until `done`, which is asked at every look.
    async fn go_on(
        &mut self,
        progress: &Progress,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<Ended, LoadError> {
        let mut rounds = interval(ROUND);
        while elapsed() < limit {
            rounds.tick().await;
            if progress.is_interrupted() {
                return Ok(Ended::Interrupted);
            }
            if let Some(error) = self.fakes.failure() {
                return Err(error.into());
            }
            self.notice_ends()?;
            self.conduct()?;
            if self.is_overstrained() {
                self.fakes.silence_people();
                break;
            }
            if self.looked.elapsed() >= LOOK {
                self.look(progress);
                if done(self) {
                    break;
                }
            }
        }
        Ok(Ended::Complete)
    }

    /// Measures the steps of a rising load; true when one was too much, or all are done.
    fn is_overstrained(&mut self) -> bool {
        let Some(rising) = &self.load.rising else { return false };
        let Some(turns) = rising.turns.get(self.steps.len()).copied() else { return false };
        let window = rising.window(self.steps.len());
        let mut ledger = self.ledger.lock();
        match &self.step {
            None if elapsed() >= window.from => {
                ledger.take_most_running();
                self.step = Some(Meter::begin(ledger.processor_ms(), &self.fakes.gauges, &self.probe));
            }
            Some(meter) if elapsed() >= window.to => {
                let step = Step {
                    turns,
                    running: ledger.take_most_running(),
                    waiting: ledger.waiting(),
                    rss: ledger.resident(),
                    reading: meter.read(ledger.processor_ms(), &self.fakes.gauges, &self.probe),
                };
                let is_too_much = rising.strain(&step).is_some();
                self.steps.push(step);
                self.step = None;
                return is_too_much || self.steps.len() == rising.turns.len();
            }
            _ => {}
        }
        false
    }

    fn conduct(&mut self) -> Result<(), LoadError> {
        let machines = &self.machines;
        let recorder = &self.recorder;
        let condition = |index: usize, when| {
            let machine: &Machine = &machines[index];
            let up = machine.running.is_some();
            recorder.with(|all| {
                all.stages.tick(now());
                let (ready, triggered) =
                    (all.stages.is_ready(&machine.name), all.stages.is_at(&machine.name, when));
                Condition { up, ready: up && ready, serving: false, triggered }
            })
        };
        for action in self.conductor.act(elapsed(), condition) {
            match action {
                Action::Kill(index) => self.kill(index),
                Action::Stop(index) => self.ask_to_stop(index),
                Action::Start(index) => self.start(index)?,
                Action::Begin(number) => {
                    self.note(number, |fault, kind, worker| Event::FaultBegan { fault, kind, worker })
                }
                Action::End(number) => {
                    self.note(number, |fault, kind, worker| Event::FaultEnded { fault, kind, worker })
                }
                Action::Freeze(_) | Action::Thaw(_) => unreachable!("no such fault is kept"),
            }
        }
        Ok(())
    }

    /// Records that a fault began or ended.
    fn note(&self, number: usize, event: fn(u64, faults::Kind, Name) -> Event) {
        let fault = self.conductor.fault(number);
        let worker = Name::clone(&self.machines[fault.worker].name);
        self.recorder.record(&self.name, event(number as u64, fault.kind, worker));
    }

    fn start(&mut self, index: usize) -> Result<(), LoadError> {
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

    fn kill(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if let Some(running) = machine.running.take() {
            running.worker.kill();
            self.recorder.record(&machine.name, Event::Killed { worker: Name::clone(&machine.name) });
        }
    }

    fn ask_to_stop(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if let Some(running) = &mut machine.running {
            running.asked = true;
            let worker = Name::clone(&machine.name);
            self.recorder.record(&machine.name, Event::StopAsked { worker });
            running.worker.ask_to_stop();
        }
    }

    /// Records who has ended by now.
    fn notice_ends(&mut self) -> Result<(), LoadError> {
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

    /// Looks at every process.
    fn look(&mut self, progress: &Progress) {
        self.looked = Instant::now();
        self.sample();
        let (turns_sent, turns_ended, workers_up) = self.recorder.with(|all| all.figures.progress());
        progress.show(Look { simulated: elapsed(), turns_sent, turns_ended, workers_up });
    }

    fn sample(&self) {
        for machine in &self.machines {
            let Some(sample) = machine.running.as_ref().and_then(|running| running.worker.sample()) else {
                continue;
            };
            self.recorder.record(&machine.name, sample.event(&machine.name));
        }
    }

    /// Ends every worker, and sees that nothing is left of it.
    async fn close(&mut self, ended: Ended) -> Result<(), LoadError> {
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

    fn figures(&self) -> LoadFigures {
        let LoadOrder { command, time_scale, execution, .. } = self.load;
        let (workers, processor_ms) = {
            let ledger = self.ledger.lock();
            (ledger.processes(), ledger.processor_ms())
        };
        let meter = self.meter.as_ref().expect("a run that has lived was measured");
        let mut whole = meter.read(processor_ms, &self.fakes.gauges, &self.probe);
        // The steps of a rising load have taken theirs.
        whole.added = Latency::of(whole.added.stage, self.probe.lock().in_all());
        let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
        LoadFigures {
            command: words.join(" "),
            time_scale: *time_scale,
            execution_ms: execution.as_secs_f64() * 1000.0,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            workers,
            whole,
            steps: self.steps.clone(),
            knee: self.load.rising.as_ref().map_or(String::new(), |rising| {
                let max_concurrent = self.load.order.scenario.settings.turns.max_concurrent;
                rising.knee(&self.steps, max_concurrent)
            }),
            goals: Vec::new(),
            unseen: UNSEEN.to_vec(),
            against: Vec::new(),
        }
    }

    fn report(self, ended: Ended) -> Result<Report, LoadError> {
        let load = self.figures();
        let Order { scenario, seed, plants, trace: path, replay } = self.load.order.clone();
        let wall = wall_clock().saturating_sub(self.began).as_secs_f64();
        let report = self.recorder.with(|recording| {
            recording.closed = true;
            if let (Err(source), Some(path)) = (recording.trace.flush(), path) {
                return Err(RunError::Trace { path, source });
            }
            let court = &recording.court;
            Ok(Report {
                schema: SCHEMA,
                options: report::options(&scenario, seed),
                source: scenario.source,
                scenario: format!("{}-load", scenario.name),
                description: scenario.description,
                seed,
                plants,
                verdict: Verdict::of(court.violations(), ended == Ended::Interrupted),
                oracles: court.counts().iter().map(|(oracle, count)| (*oracle, *count)).collect(),
                violations: court.violations().to_vec(),
                figures: recording.figures.summary(),
                distribution: recording.figures.distribution(),
                timeline: recording.series.timeline(now()),
                limits: scenario.limits,
                marks: recording.marks.counts().clone(),
                required_marks: Vec::new(),
                trace: TraceSummary { facts: recording.trace.recorded(), hash: recording.trace.hash() },
                replay,
                engine: Engine { steps: 0, simulated: wall, wall },
                load: Some(load),
            })
        });
        Ok(report?)
    }
}

impl Machine {
    fn new(
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

fn recorder(load: &LoadOrder) -> Result<Recorder, LoadError> {
    let Order { scenario, trace, .. } = &load.order;
    let trace = match trace {
        Some(path) => {
            Trace::to_file(path).map_err(|source| RunError::Trace { path: path.clone(), source })?
        }
        None => Trace::default(),
    };
    let court = Court::new(oracles::from_outside(scenario, SPREAD, load.ceilings));
    Ok(Recorder::new(trace, court, Marks::new(scenario)))
}

/// What the people of each worker do; their messages are expected at their times.
fn plans(load: &LoadOrder, end: Duration, recorder: &Recorder) -> Vec<Plan> {
    let Order { scenario, seed, .. } = &load.order;
    let draw = |worker| {
        let drawn = Plan::draw(scenario, *seed, worker);
        match &load.rising {
            Some(rising) => Plan { messages: rising.messages(), ..drawn },
            None => drawn,
        }
    };
    let plan = |worker| scale::plan(draw(worker), load.time_scale, end);
    let plans: Vec<_> = (0..scenario.workers).map(plan).collect();
    for message in plans.iter().flat_map(|plan| &plan.messages) {
        let text = recorder.name(&message.text);
        let at = u64::try_from(message.at.as_micros()).expect("runs are shorter than 500,000 years");
        recorder.with(|all| all.figures.schedule(text, at));
    }
    plans
}

/// A place for one worker, and the socket at which its OpenCode executable asks for servers.
fn install() -> Result<(Installation, PathBuf), LoadError> {
    let simulator = std::env::current_exe()?;
    let socket = |root: &std::path::Path| root.join("opencode.socket");
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
