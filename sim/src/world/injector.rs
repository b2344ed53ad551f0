//! Carries out what the conductor decides: on hosts, on the network, and on what the hooks of the fakes consult.

use std::rc::Rc;

use turmoil::Sim;

use crate::{
    engine::network::{self, line::Line},
    faults::Active,
    hosts::{Hosts, backend, worker::WorkerHost},
    recorder::Recorder,
};
use sim_model::{
    conductor::{Action, Condition, Conductor},
    fault::{Direction, FaultKind, Link, Trigger},
    fault_plan::{FaultPlan, PlannedFault},
    order::Order,
    plant::Plant,
    seed::Seed,
    trace::{Event, Name},
    units::{Between, Time},
};

/// Brings a run's faults about.
pub(super) struct Injector {
    conductor: Conductor,
    active: Active,
    recorder: Recorder,
    name: Name,
    latency: Between<Time>,
    seed: Seed,
    /// Whether a bug is planted that lets OpenCode servers outlive their worker.
    orphans: bool,
}

impl Injector {
    /// The faults of `order`.
    pub(super) fn new(order: &Order, active: Active, recorder: &Recorder) -> Self {
        let scenario = &order.scenario;
        let plan = FaultPlan::draw(scenario, order.seed);
        Self {
            conductor: Conductor::new(plan.faults, scenario.workers),
            active,
            recorder: recorder.clone(),
            name: recorder.name("world"),
            latency: scenario.latency,
            seed: order.seed,
            orphans: order.plants.contains(&Plant::OrphanServer),
        }
    }

    /// Does what is due.
    pub(super) fn step(&mut self, sim: &mut Sim<'static>, hosts: &Hosts) {
        let elapsed = sim.elapsed();
        let actions = {
            let (recorder, workers) = (&self.recorder, &hosts.workers);
            self.conductor.act(elapsed, |worker, when| condition(recorder, &workers[worker], when))
        };
        for action in actions {
            self.perform(action, sim, hosts);
        }
    }

    fn perform(&self, action: Action, sim: &mut Sim<'static>, hosts: &Hosts) {
        let workers = &hosts.workers;
        match action {
            Action::Kill(worker) => kill(sim, &workers[worker], self.orphans),
            Action::Stop(worker) => workers[worker].ask_to_stop(),
            Action::Start(worker) => start(sim, &workers[worker]),
            Action::Freeze(worker) => workers[worker].freeze(),
            Action::Thaw(worker) => workers[worker].thaw(),
            Action::Begin(number) => {
                let fault = self.conductor.fault(number).clone();
                let worker = Name::clone(&workers[fault.worker].name);
                let event = Event::FaultBegan { fault: number as u64, kind: fault.kind, worker };
                self.recorder.record(&self.name, event);
                self.active.begin(number, fault.clone());
                self.take_effect(&fault, sim, hosts);
            }
            Action::End(number) => {
                let Some(fault) = self.active.end(number) else { return };
                self.take_back(&fault, sim, hosts);
                let worker = Name::clone(&workers[fault.worker].name);
                let event = Event::FaultEnded { fault: number as u64, kind: fault.kind, worker };
                self.recorder.record(&self.name, event);
            }
        }
    }

    /// What is not up to a hook.
    fn take_effect(&self, fault: &PlannedFault, sim: &Sim<'static>, hosts: &Hosts) {
        let worker = &hosts.workers[fault.worker];
        let (here, there) = (&*worker.name, other_end(worker, fault.link));
        match fault.kind {
            FaultKind::Suspend => worker.suspend(),
            FaultKind::ClockJump => worker.clock.jump(fault.jump),
            FaultKind::OpencodeCrash => worker.crash_opencode(),
            FaultKind::OpencodeStreamCut => hosts.opencodes[fault.worker].cut_event_streams(),
            FaultKind::OpencodeSessionsVanish => self.lose_sessions(fault, hosts),
            FaultKind::ConvexRestart => {
                network::set_down(backend::HOST, true);
                hosts.convex.restart();
            }
            FaultKind::Partition => {
                ways(fault.direction, here, there).for_each(|(a, b)| network::cut(sim, a, b))
            }
            FaultKind::NetworkHold => network::hold(sim, here, there),
            FaultKind::NetworkLatency => network::set_latency(sim, here, there, fault.delay, fault.delay),
            FaultKind::NetworkReset => {
                network::reset(here, there);
            }
            kind if is_of_line(kind) => self.set_line(fault, here, there),
            _ => {}
        }
    }

    /// What took effect is undone, unless another fault of the kind goes on.
    fn take_back(&self, fault: &PlannedFault, sim: &Sim<'static>, hosts: &Hosts) {
        let worker = &hosts.workers[fault.worker];
        let (here, there) = (&*worker.name, other_end(worker, fault.link));
        let others = self.active.all();
        let mut same = others.iter().filter(|other| other.kind == fault.kind);
        match fault.kind {
            FaultKind::Suspend => worker.wake(),
            FaultKind::ClockJump => worker.clock.jump(-fault.jump),
            FaultKind::ConvexRestart if same.next().is_none() => network::set_down(backend::HOST, false),
            FaultKind::Partition => {
                ways(fault.direction, here, there).for_each(|(a, b)| network::mend(sim, a, b))
            }
            FaultKind::NetworkHold | FaultKind::NetworkLatency
                if same.any(|other| other.worker == fault.worker && other.link == fault.link) => {}
            FaultKind::NetworkHold => network::release(sim, here, there),
            FaultKind::NetworkLatency => {
                network::set_latency(sim, here, there, self.latency.min.0, self.latency.max.0);
            }
            kind if is_of_line(kind) => self.set_line(fault, here, there),
            _ => {}
        }
    }

    /// The line that a fault concerns is as the faults that are on want it.
    fn set_line(&self, concerned: &PlannedFault, here: &str, there: &str) {
        let mut line = Line::default();
        let on = self.active.all().into_iter();
        for fault in on.filter(|on| (on.worker, on.link) == (concerned.worker, concerned.link)) {
            match fault.kind {
                FaultKind::NetworkSynLoss => line.swallows_syns = true,
                FaultKind::NetworkDeadAddress => line.has_dead_address = true,
                FaultKind::NetworkSlow => {
                    line.rate = Some(line.rate.map_or(fault.rate, |rate| rate.min(fault.rate)))
                }
                FaultKind::NetworkLoss => line.loss = line.loss.max(fault.probability),
                _ => {}
            }
        }
        network::line::set(here, there, line, self.seed.stream(&format!("network/{here}/{there}")));
    }

    /// Each session is an opportunity.
    fn lose_sessions(&self, fault: &PlannedFault, hosts: &Hosts) {
        let machine = &hosts.opencodes[fault.worker];
        for session in machine.session_ids() {
            if self.active.strike(FaultKind::OpencodeSessionsVanish, fault.worker).is_some() {
                machine.lose_session(&session);
            }
        }
    }

    /// Begins nothing any more, and ends what takes effect.
    pub(super) fn heal(&mut self, sim: &mut Sim<'static>, hosts: &Hosts) {
        self.conductor.heal();
        self.step(sim, hosts);
    }

    /// What is still to end, in words.
    pub(super) fn pending(&self) -> Option<String> {
        let unfinished: Vec<_> =
            self.conductor.unfinished().map(|number| self.conductor.fault(number).to_string()).collect();
        (!unfinished.is_empty()).then(|| format!("faults are not over: {}", unfinished.join(", ")))
    }
}

fn condition(recorder: &Recorder, worker: &WorkerHost, when: Trigger) -> Condition {
    let (up, now) = (worker.is_up(), recorder.now());
    recorder.with(|recording| {
        let stages = &mut recording.stages;
        stages.tick(now);
        Condition {
            up,
            ready: up && stages.is_ready(&worker.name),
            serving: stages.is_serving(&worker.opencode),
            triggered: stages.is_at(&worker.name, when),
        }
    })
}

/// Whether it is carried out by what carries a connection's bytes.
fn is_of_line(kind: FaultKind) -> bool {
    use FaultKind::{NetworkDeadAddress, NetworkLoss, NetworkSlow, NetworkSynLoss};
    matches!(kind, NetworkSynLoss | NetworkDeadAddress | NetworkSlow | NetworkLoss)
}

fn other_end(worker: &WorkerHost, link: Link) -> &str {
    match link {
        Link::Convex => backend::HOST,
        Link::Opencode => &worker.opencode,
    }
}

fn ways<'a>(
    direction: Direction,
    worker: &'a str,
    other: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let from = (direction != Direction::ToWorker).then_some((worker, other));
    let to = (direction != Direction::FromWorker).then_some((other, worker));
    from.into_iter().chain(to)
}

/// Kills a worker, and its OpenCode server as production's parent-death signal does.
/// With a bug planted it survives.
fn kill(sim: &mut Sim<'static>, worker: &Rc<WorkerHost>, survives: bool) {
    worker.killed();
    for host in [Some(&worker.name), (!survives).then_some(&worker.opencode)].into_iter().flatten() {
        network::set_down(host, true);
        network::end_software(|| sim.crash(&**host));
    }
    worker.measure();
}

fn start(sim: &mut Sim<'static>, worker: &Rc<WorkerHost>) {
    for host in [&worker.opencode, &worker.name] {
        network::set_down(host, false);
    }
    if !sim.is_host_running(&*worker.opencode) {
        sim.bounce(&*worker.opencode);
    }
    network::end_software(|| sim.bounce(&*worker.name));
}
