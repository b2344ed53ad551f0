//! Since when nothing has disturbed a worker, from facts: what several oracles need before they may speak of delays.

use std::collections::BTreeMap;

use crate::trace::{Event, Fact, Micros, Name};

/// Follows every worker's surroundings. A worker is *calm* while it says that it is ready, a connection of it to the
/// backend is open, and nobody has asked it to stop.
#[derive(Debug, Default)]
pub(super) struct Calm {
    workers: BTreeMap<Name, Surroundings>,
}

#[derive(Debug, Default)]
struct Surroundings {
    ready: bool,
    stopping: bool,
    /// An old connection may be seen to end after a new one was opened.
    connections: u64,
    /// When any of these changed last.
    since: Micros,
}

impl Calm {
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
            _ => {}
        }
    }

    /// Since when the worker has been calm; `None` if it is not.
    pub(super) fn since(&self, worker: &str) -> Option<Micros> {
        let worker = self.workers.get(worker)?;
        (worker.ready && !worker.stopping && worker.connections > 0).then_some(worker.since)
    }

    fn change(&mut self, worker: &Name, at: Micros, change: impl FnOnce(&mut Surroundings)) {
        let worker = self.workers.entry(Name::clone(worker)).or_default();
        change(worker);
        worker.since = at;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::name, *};

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
        let mut calm = Calm::default();
        for (at, event) in (0..).zip(events) {
            calm.observe(&Fact { at, host: name("world"), event: event.clone() });
        }
        assert_eq!(calm.since("worker-1"), expected);
    }

    #[test]
    fn a_worker_is_calm_since_the_last_thing_that_disturbed_it() {
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
