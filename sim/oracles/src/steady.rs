//! Since when nothing has disturbed a worker, from facts: what several oracles need before they may speak of delays.

use std::collections::BTreeMap;

use sim_model::{
    fault::FaultKind,
    trace::{Event, Fact, Micros, Name},
};

/// Follows every worker. A worker is *steady* while it says that it is ready, a connection of it to the
/// backend is open, nobody has asked it to stop, and no fault hampers what they say to each other.
#[derive(Debug, Default)]
pub(super) struct Steady {
    workers: BTreeMap<Name, WorkerState>,
}

/// How long a fault is felt after its end (µs). A stream that lost what the worker sent, while the server's pings still
/// arrive, is given up 30 s after the next heartbeat (30 s); then come pauses of up to 15 s, twice that with jitter, and
/// as long again to connect.
const AFTERMATH: Micros = 105_000_000;

#[derive(Debug, Default)]
struct WorkerState {
    ready: bool,
    stopping: bool,
    /// An old connection may be seen to end after a new one was opened.
    connections: u64,
    /// Faults that hamper it.
    faults: u64,
    /// When any of these changed last; after a fault, when it is felt no more.
    since: Micros,
}

impl Steady {
    /// Follows a fact.
    pub(super) fn observe(&mut self, fact: &Fact) {
        match &fact.event {
            Event::WorkerStarted { worker, .. } => {
                self.change(worker, fact.at, |w| (w.ready, w.stopping) = (false, false));
            }
            Event::Lifecycle { worker, state } => {
                self.change(worker, fact.at, |w| w.ready = &**state == "Ready");
            }
            Event::StopAsked { worker } | Event::Killed { worker } | Event::Exited { worker, .. } => {
                self.change(worker, fact.at, |w| w.stopping = true);
            }
            Event::Connected { client } => self.change(client, fact.at, |w| w.connections += 1),
            Event::Disconnected { client } => {
                self.change(client, fact.at, |w| w.connections = w.connections.saturating_sub(1));
            }
            Event::FaultBegan { kind, worker, .. } if kind.hampers_backend() => {
                self.hamper(*kind, worker, |w| (w.faults, w.since) = (w.faults + 1, w.since.max(fact.at)));
            }
            Event::FaultEnded { kind, worker, .. } if kind.hampers_backend() => {
                let felt = fact.at + AFTERMATH;
                self.hamper(*kind, worker, |w| (w.faults, w.since) = (w.faults.saturating_sub(1), felt));
            }
            _ => {}
        }
    }

    /// A restart of the deployment concerns all workers, whatever worker it was drawn for.
    fn hamper(&mut self, kind: FaultKind, worker: &Name, change: impl Fn(&mut WorkerState)) {
        self.workers.entry(Name::clone(worker)).or_default();
        let concerned =
            self.workers.iter_mut().filter(|(name, _)| kind == FaultKind::ConvexRestart || *name == worker);
        concerned.for_each(|(_, state)| change(state));
    }

    /// Since when the worker has been steady; `None` if it is not.
    pub(super) fn since(&self, worker: &str) -> Option<Micros> {
        let worker = self.workers.get(worker)?;
        (worker.ready && !worker.stopping && worker.connections > 0 && worker.faults == 0)
            .then_some(worker.since)
    }

    fn change(&mut self, worker: &Name, at: Micros, change: impl FnOnce(&mut WorkerState)) {
        let worker = self.workers.entry(Name::clone(worker)).or_default();
        change(worker);
        worker.since = worker.since.max(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::name;

    fn state(state: &str) -> Event {
        Event::Lifecycle { worker: name("worker-1"), state: name(state) }
    }

    fn connected() -> Event {
        Event::Connected { client: name("worker-1") }
    }

    fn disconnected() -> Event {
        Event::Disconnected { client: name("worker-1") }
    }

    #[track_caller]
    fn check(events: &[Event], expected: Option<Micros>) {
        let mut steady = Steady::default();
        for (at, event) in (0..).zip(events) {
            steady.observe(&Fact { at, host: name("world"), event: event.clone() });
        }
        assert_eq!(steady.since("worker-1"), expected);
    }

    #[test]
    fn a_worker_is_steady_since_the_last_thing_that_disturbed_it() {
        check(&[connected()], None);
        check(&[connected(), state("Ready")], Some(1));
        check(&[connected(), state("Ready"), state("Recovering")], None);
        check(&[connected(), state("Ready"), disconnected()], None);
        check(&[connected(), state("Ready"), Event::StopAsked { worker: name("worker-1") }], None);
    }

    #[test]
    fn an_old_connection_that_ends_late_does_not_count_as_none() {
        check(&[connected(), state("Ready"), connected(), disconnected()], Some(3));
    }
}
