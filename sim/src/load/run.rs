//! One run in real time, from its start to its report: work under restarts, healing, the end.

mod ended;
mod leftovers;
mod machine;
mod machines;
mod verdict;

use std::time::Duration;

use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    engine::determinism::wall_clock,
    error::RunError,
    load::{
        fakes::{Fakes, World},
        ledger::SharedLedger,
        meter::Meter,
        opencode::Place,
        order::{LoadError, LoadOrder},
        probe::{Collects, SharedProbe},
        scale,
        steps::Target,
    },
    recorder::{Clock, Recorder},
    world::progress::{Look, Progress},
};
use ended::Ended;
use machine::{Machine, install};
use sim_model::{
    conductor::{Action, Condition, Conductor},
    fault::FaultKind,
    fault_plan::FaultPlan,
    order::Order,
    scenario::Scenario,
    trace::{Event, Name, Phase, Trace},
    workload_plan::WorkloadPlan,
};
use sim_oracles::{Marks, Oracles, View};
use sim_report::{Observed, Reading, Report, Step};

/// Between two rounds of the conductor.
const ROUND: Duration = Duration::from_millis(10);
/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(250);
/// By how much requests may bunch on loopback, on a machine with other work: the throttle's window is shorter by it.
const SPREAD: Duration = Duration::from_millis(100);
/// Runs `order` on this thread.
pub(super) fn run(order: &LoadOrder, progress: &Progress) -> Result<Report, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut run = Run::prepare(order)?;
        let ended = run.live(progress).await?;
        run.report(ended)
    })
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
    /// What was measured while there was work.
    whole: Option<Reading>,
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
        recorder.follow(Box::new(move |fact| follower.lock().observe(fact)));
        recorder.record(&name, Event::PhaseBegan { phase: Phase::Safety });
        let turns = &scenario.settings.turns;
        let interval = u64::try_from(turns.coalesce_interval.as_micros()).unwrap_or(u64::MAX);
        let probe = SharedProbe::new(Collects { interval, bytes: turns.coalesce_bytes });
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
            directives: load.rising.is_some(),
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
        let planned = FaultPlan::draw(scenario, *seed).faults;
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
            whole: None,
            steps: Vec::new(),
            step: None,
        })
    }

    /// Lives through all phases. However it ends, no process is left.
    async fn live(&mut self, progress: &Progress) -> Result<Ended, LoadError> {
        self.began = wall_clock();
        self.recorder.begin(self.began);
        self.fakes.go();
        self.meter = Some(self.measure());
        for index in 0..self.machines.len() {
            self.start(index)?;
        }
        let mut ended = self.go_on(progress, self.duration, |_| false).await?;
        // Before everything comes to rest, and workers are ended.
        self.sample();
        self.whole = self.meter.as_ref().map(|meter| self.read(meter));
        if ended == Ended::Complete {
            self.conductor.heal();
            self.recorder.record(&self.name, Event::PhaseBegan { phase: Phase::Liveness });
            let limit = self.recorder.elapsed() + self.load.order.scenario.liveness;
            ended = self.go_on(progress, limit, Self::is_settled).await?;
        }
        if ended == Ended::Complete {
            self.recorder.raise_pending();
        }
        self.close(ended).await?;
        let now = self.recorder.now();
        self.probe.lock().close(now);
        self.recorder.with(|all| all.observed.figures.end(now));
        Ok(ended)
    }

    fn measure(&self) -> Meter {
        Meter::begin(self.ledger.lock().processor_ms(), &self.fakes.gauges, &self.probe)
    }

    fn read(&self, meter: &Meter) -> Reading {
        meter.read(self.ledger.lock().processor_ms(), &self.fakes.gauges, &self.probe)
    }

    fn is_settled(&self) -> bool {
        self.conductor.unfinished().next().is_none() && self.recorder.is_settled()
    }

    /// Goes on until `limit`, or until `done`, which is asked at every look.
    async fn go_on(
        &mut self,
        progress: &Progress,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<Ended, LoadError> {
        let mut rounds = interval(ROUND);
        while self.recorder.elapsed() < limit {
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
                self.recorder.with(|all| all.observed.figures.silence());
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
        if self.steps.last().is_some_and(|step| step.strain.is_some()) {
            // That was the end of the rise; what is open may end.
            return false;
        }
        let Some(target) = rising.steps.get(self.steps.len()).copied() else { return false };
        let window = rising.window(self.steps.len());
        if self.recorder.elapsed() >= window.from && self.step.is_none() {
            let mut ledger = self.ledger.lock();
            ledger.take_most_running();
            ledger.take_most_resident();
            drop(ledger);
            self.step = Some(self.measure());
        }
        if self.recorder.elapsed() < window.to {
            return false;
        }
        self.sample();
        let Some(meter) = self.step.take() else { return false };
        let reading = self.read(&meter);
        let mut ledger = self.ledger.lock();
        let (running, waiting, rss) =
            (ledger.take_most_running(), ledger.waiting(), ledger.take_most_resident());
        let Target { turns, deltas_per_second: deltas_per_turn } = target;
        let step = Step { turns, deltas_per_turn, running, waiting, rss, strain: None, reading };
        let strain = rising.strain(&step);
        self.steps.push(Step { strain, ..step });
        self.steps.last().is_some_and(|step| step.strain.is_some()) || self.steps.len() == rising.steps.len()
    }

    fn conduct(&mut self) -> Result<(), LoadError> {
        let machines = &self.machines;
        let recorder = &self.recorder;
        let condition = |index: usize, when| {
            let machine: &Machine = &machines[index];
            let (up, now) = (machine.running.is_some(), recorder.now());
            recorder.with(|all| {
                all.stages.tick(now);
                let (ready, triggered) =
                    (all.stages.is_ready(&machine.name), all.stages.is_at(&machine.name, when));
                Condition { up, ready: up && ready, serving: false, triggered }
            })
        };
        for action in self.conductor.act(recorder.elapsed(), condition) {
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
    fn note(&self, number: usize, event: fn(u64, FaultKind, Name) -> Event) {
        let fault = self.conductor.fault(number);
        let worker = Name::clone(&self.machines[fault.worker].name);
        self.recorder.record(&self.name, event(number as u64, fault.kind, worker));
    }

    /// Looks at every process.
    fn look(&mut self, progress: &Progress) {
        self.looked = Instant::now();
        self.sample();
        self.check_due_exits();
        let (turns_sent, turns_ended, workers_up) = self.recorder.with(|all| all.observed.figures.progress());
        progress.show(Look { simulated: self.recorder.elapsed(), turns_sent, turns_ended, workers_up });
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
    let view = View::Outside { spread: SPREAD, ceilings: load.ceilings };
    let observed = Observed::new(trace, Oracles::new(sim_oracles::all(scenario, view)), Marks::new(scenario));
    Ok(Recorder::new(Clock::Real { since: None }, observed))
}

/// What the people of each worker do; their messages are expected at their times.
fn plans(load: &LoadOrder, end: Duration, recorder: &Recorder) -> Vec<WorkloadPlan> {
    let Order { scenario, seed, .. } = &load.order;
    let draw = |worker| {
        let drawn = WorkloadPlan::draw(scenario, *seed, worker);
        match &load.rising {
            Some(rising) => WorkloadPlan { messages: rising.messages(), ..drawn },
            None => drawn,
        }
    };
    let plan = |worker| scale::plan(draw(worker), load.time_scale, end);
    let plans: Vec<_> = (0..scenario.workers).map(plan).collect();
    for message in plans.iter().flat_map(|plan| &plan.messages) {
        let text = recorder.name(&message.text);
        let at = u64::try_from(message.at.as_micros()).expect("runs are shorter than 500,000 years");
        recorder.with(|all| all.observed.figures.schedule(text, at));
    }
    plans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::order::CEILINGS;
    use sim_model::{
        seed::Seed,
        trace::{Fact, TurnState},
        workload_plan::Message,
    };

    fn load(text: &str, time_scale: f64) -> LoadOrder {
        let scenario = Scenario::parse("some.toml", "some", text).unwrap();
        LoadOrder {
            order: Order { scenario, seed: Seed(1), trace: None, plants: Vec::new(), replay: String::new() },
            command: Vec::new(),
            profile: String::new(),
            time_scale,
            limit: None,
            execution: Duration::ZERO,
            ceilings: CEILINGS,
            rising: None,
        }
    }

    #[test]
    fn how_long_people_wait_counts_from_when_their_messages_were_due() {
        const LATE: u64 = 700_000;
        let load = load("duration = '40s'\n[workload]\nturns = 1\nfrom = '10s'", 2.0);
        let recorder = recorder(&load).unwrap();
        let plans = plans(&load, Duration::from_secs(20), &recorder);
        let Message { at, text, .. } = &plans[0].messages[0];
        let due = u64::try_from(at.as_micros()).unwrap();
        assert!((5_000_000..20_000_000).contains(&due), "{due}");
        let [turn, session, worker] = ["t1", "s1", "worker-1"].map(|name| recorder.name(name));
        let text = recorder.name(text);
        let sent = Event::Sent { turn: turn.clone(), session, worker: worker.clone(), created: 0.0, text };
        let claimed = Event::TurnChanged {
            turn,
            session: recorder.name("s1"),
            worker,
            from: TurnState::Pending,
            to: TurnState::Claimed,
            epoch: Some(1),
            chunks: None,
            error: None,
        };
        let host = recorder.name("convex");
        let latencies = recorder.with(|all| {
            // The backend took it late, and the turn was claimed at once.
            for event in [sent, claimed] {
                all.observed.figures.observe(&Fact { at: due + LATE, host: Name::clone(&host), event });
            }
            all.observed.figures.end(due + LATE);
            all.observed.figures.summary().latencies
        });
        let claimed = latencies.iter().find(|latency| latency.stage == "sent → claimed").unwrap();
        assert_eq!((claimed.count, claimed.max.round()), (1, 700.0), "{claimed:?}");
    }
}
