//! One run in real time, from its start to its report: work under restarts, healing, the end.

mod machines;
mod verdict;

use std::time::Duration;

use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use self::machines::{Machine, install};
use super::{
    LoadError, LoadOrder,
    fakes::{Fakes, World},
    figures::Step,
    ledger::SharedLedger,
    meter::Meter,
    opencode::Place,
    probe::SharedProbe,
    scale,
};
use crate::{
    faults::{self, Action, Condition, Conductor},
    marks::Marks,
    oracles::{self, Court},
    report::Report,
    scenario::{Plan, Scenario},
    trace::{Event, Name, Phase, Trace},
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
/// By how much requests may bunch on loopback, on a machine with other work: the throttle's window is shorter by it.
const SPREAD: Duration = Duration::from_millis(100);
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
        if self.steps.last().is_some_and(|step| rising.strain(step).is_some()) {
            // That was the end of the rise; what is open may end.
            return false;
        }
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

    /// Looks at every process.
    fn look(&mut self, progress: &Progress) {
        self.looked = Instant::now();
        self.sample();
        let (turns_sent, turns_ended, workers_up) = self.recorder.with(|all| all.figures.progress());
        progress.show(Look { simulated: elapsed(), turns_sent, turns_ended, workers_up });
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
