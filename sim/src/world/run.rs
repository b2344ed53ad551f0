//! One run from its first step to its report: work under faults, healing, the end.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, SystemTime},
};

use turmoil::Sim;

use crate::{
    engine::{
        determinism::{self, EPOCH, wall_clock},
        memory::Owner,
        network, panics,
    },
    error::RunError,
    faults::Active,
    hosts::{self, Hosts},
    recorder::{Clock, Follower, Recorder},
    world::{
        injector::Injector,
        progress::{Look, Progress},
    },
};
use sim_model::{
    order::Order,
    trace::{Event, Name, Phase, Trace},
};
use sim_oracles::{Class, Marks, Oracles, View};
use sim_report::{Engine, Observed, Report};

/// Time between two measurements of the workers, unless the run is so long that there would be too many.
const MEASURE: Duration = Duration::from_millis(100);
/// So many measurements are enough.
const MEASUREMENTS: u32 = 50_000;
/// How long workers may take to end when the run is over.
const CLOSING: Duration = Duration::from_secs(60);
/// Steps between two updates of the state line.
const SHOW: u64 = 32;

/// Runs `order` on this thread, which must be deterministic and fresh.
pub(super) fn run(order: Order, progress: &Progress, follower: Option<Follower>) -> Result<Report, RunError> {
    let wall = wall_clock();
    let trace = match &order.trace {
        Some(path) => {
            Trace::to_file(path).map_err(|source| RunError::Trace { path: path.clone(), source })?
        }
        None => Trace::default(),
    };
    let oracles = Oracles::new(sim_oracles::all(&order.scenario, View::Inside));
    let observed = Observed::new(trace, oracles, Marks::new(&order.scenario));
    let recorder = Recorder::new(Clock::Simulated, observed);
    follower.into_iter().for_each(|follower| recorder.follow(follower));
    let mut world = World::build(order, recorder)?;
    let ended = world.live(progress);
    world.report(ended?, wall)
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// It went through all its phases.
    Complete,
    /// Someone asked for it.
    Interrupted,
    /// The worker panicked.
    Panicked,
}

struct World {
    order: Order,
    sim: Sim<'static>,
    recorder: Recorder,
    name: Name,
    hosts: Hosts,
    injector: Injector,
    steps: u64,
    measured: Duration,
}

impl World {
    fn build(order: Order, recorder: Recorder) -> Result<Self, RunError> {
        let mut sim = network_of(&order);
        let name = recorder.name("world");
        recorder.record(&name, Event::PhaseBegan { phase: Phase::Safety });
        let active = Active::new(order.seed, recorder.clone());
        let hosts = hosts::populate(&mut sim, &order, &recorder, &active)?;
        let injector = Injector::new(&order, active, &recorder);
        let (steps, measured) = (0, Duration::ZERO);
        Ok(Self { order, sim, recorder, name, hosts, injector, steps, measured })
    }

    /// Lives through all phases.
    fn live(&mut self, progress: &Progress) -> Result<Ended, RunError> {
        let duration = self.order.scenario.duration;
        let ended = self.step_until(progress, duration, |_| false)?;
        if ended != Ended::Complete {
            return Ok(ended);
        }
        self.heal();
        let limit = self.sim.elapsed() + self.order.scenario.liveness;
        let ended = self.step_until(progress, limit, Self::is_settled)?;
        if ended != Ended::Complete {
            return Ok(ended);
        }
        self.raise_pending();
        self.close(progress)
    }

    fn heal(&mut self) {
        self.injector.heal(&mut self.sim, &self.hosts);
        self.recorder.record(&self.name, Event::PhaseBegan { phase: Phase::Liveness });
    }

    fn is_settled(&self) -> bool {
        self.injector.pending().is_none() && self.recorder.is_settled()
    }

    fn raise_pending(&self) {
        if let Some(reason) = self.injector.pending() {
            self.recorder.raise("faults", Class::Liveness, reason);
        }
        self.recorder.raise_pending();
    }

    /// Asks every worker to end, and sees that it does.
    fn close(&mut self, progress: &Progress) -> Result<Ended, RunError> {
        self.recorder.record(&self.name, Event::PhaseBegan { phase: Phase::Closing });
        self.hosts.workers.iter().for_each(|worker| worker.ask_to_stop());
        let limit = self.sim.elapsed() + CLOSING;
        let gone = |world: &Self| world.hosts.workers.iter().all(|worker| worker.has_left());
        let ended = self.step_until(progress, limit, gone)?;
        for worker in self.hosts.workers.iter().filter(|worker| !worker.is_empty()) {
            let message = format!("{} has not ended {CLOSING:?} after it was asked to", worker.name);
            self.recorder.raise("lifecycle", Class::Liveness, message);
        }
        Ok(ended)
    }

    /// Steps until `limit`, or until `done`; the latter is asked once per measurement.
    fn step_until(
        &mut self,
        progress: &Progress,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<Ended, RunError> {
        while self.sim.elapsed() < limit {
            if progress.is_interrupted() {
                return Ok(Ended::Interrupted);
            }
            if !self.step()? {
                return Ok(Ended::Panicked);
            }
            self.injector.step(&mut self.sim, &self.hosts);
            if self.steps.is_multiple_of(SHOW) {
                self.show(progress);
            }
            if self.sim.elapsed() >= self.measured + MEASURE.max(self.order.scenario.duration / MEASUREMENTS)
            {
                self.measure();
                if done(self) {
                    break;
                }
            }
        }
        self.show(progress);
        Ok(Ended::Complete)
    }

    /// One step of everything. False if the worker panicked.
    fn step(&mut self) -> Result<bool, RunError> {
        let stepped = catch_unwind(AssertUnwindSafe(|| self.sim.step()));
        self.steps += 1;
        determinism::set_elapsed(self.sim.elapsed());
        match stepped {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) => {
                self.panicked().map_or_else(|| Err(RunError::Host(error.to_string())), |()| Ok(false))
            }
            Err(payload) => match self.panicked() {
                Some(()) => Ok(false),
                None => resume_unwind(payload),
            },
        }
    }

    /// Reports the worker's panic, if there was one.
    fn panicked(&self) -> Option<()> {
        let panicked = panics::take().filter(|panicked| panicked.owner != Owner::NOBODY)?;
        let worker = self.hosts.workers.iter().find(|worker| worker.owner() == panicked.owner)?;
        let message = self.recorder.name(&panicked.message);
        self.recorder.record(&worker.name, Event::Panicked { worker: Name::clone(&worker.name), message });
        Some(())
    }

    fn measure(&mut self) {
        self.measured = self.sim.elapsed();
        self.hosts.workers.iter().for_each(|worker| worker.measure());
    }

    fn show(&self, progress: &Progress) {
        let (turns_sent, turns_ended, workers_up) =
            self.recorder.with(|recording| recording.observed.figures.progress());
        progress.show(Look { simulated: self.sim.elapsed(), turns_sent, turns_ended, workers_up });
    }

    fn record_traffic(&self) {
        for (worker, peer, [sent, received]) in network::traffic() {
            let [worker, peer] = [worker, peer].map(|name| self.recorder.name(&name));
            self.recorder.record(&self.name, Event::Transferred { worker, peer, sent, received });
        }
    }

    fn report(self, ended: Ended, wall: Duration) -> Result<Report, RunError> {
        self.record_traffic();
        let engine = Engine {
            steps: self.steps,
            simulated: self.sim.elapsed().as_secs_f64(),
            wall: (wall_clock().saturating_sub(wall)).as_secs_f64(),
        };
        let interrupted = ended == Ended::Interrupted;
        let report = self.recorder.report(self.order, interrupted, engine);
        if ended == Ended::Panicked {
            // What a panic left half done must not run its destructors.
            std::mem::forget(self.sim);
        }
        report
    }
}

fn network_of(order: &Order) -> Sim<'static> {
    let scenario = &order.scenario;
    turmoil::Builder::new()
        .epoch(SystemTime::UNIX_EPOCH + EPOCH)
        .rng_seed(order.seed.derive("network"))
        .tick_duration(scenario.tick)
        .min_message_latency(scenario.latency.min.0)
        .max_message_latency(scenario.latency.max.0)
        .ephemeral_ports(network::EPHEMERAL_PORTS)
        .simulation_duration(Duration::MAX)
        .build()
}
