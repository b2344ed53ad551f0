//! **cleanup**: a worker that has ended, however, leaves nothing behind.
//!
//! At the second measurement after its end (killed or by itself; at least one period of measurement later, or at its
//! next start if that comes first), unless an older process of the worker, which stood still meanwhile (a zombie), has
//! not ended either, for then it cannot be told whose things they are:
//! - no OpenCode server runs on its machine: it dies with the worker, also by SIGKILL;
//! - no event stream of that server is open;
//! - no socket that the worker opened is open;
//! - of its memory nothing is left: 0 bytes. A task that had outlived it would hold some.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::{Findings, Oracle};
use sim_model::trace::{Event, Fact, Name, worker_of};

/// See the file's comment.
#[derive(Default)]
pub(super) struct Cleanup {
    /// By worker.
    machines: BTreeMap<String, Machine>,
}

#[derive(Default)]
struct Machine {
    servers: u64,
    event_streams: u64,
    /// Starts of processes that have not ended.
    alive: BTreeSet<u64>,
    /// The one that was started last.
    last: u64,
}

impl Cleanup {
    fn machine(&mut self, fact: &Fact) -> Option<&mut Machine> {
        Some(self.machines.entry(worker_of(&fact.host)?).or_default())
    }

    fn of(&mut self, worker: &Name) -> &mut Machine {
        self.machines.entry(worker.to_string()).or_default()
    }

    fn left(&self, worker: &Name, bytes: i64, sockets: u64, verdict: &mut Findings) {
        let none = Machine::default();
        let Machine { servers, event_streams, alive, .. } = self.machines.get(&**worker).unwrap_or(&none);
        if !alive.is_empty() {
            return;
        }
        let left = [
            (*servers != 0, format!("{servers} OpenCode servers")),
            (*event_streams != 0, format!("{event_streams} event streams")),
            (sockets != 0, format!("{sockets} sockets")),
            (bytes != 0, format!("{bytes} bytes")),
        ];
        let left: Vec<_> = left.into_iter().filter_map(|(is_left, what)| is_left.then_some(what)).collect();
        if !left.is_empty() {
            let machine = Name::from(worker.replace("worker-", "opencode-"));
            verdict.violation(format!("{worker} is gone and left {}", left.join(", ")), &[worker, &machine]);
        }
    }
}

impl Oracle for Cleanup {
    fn id(&self) -> &'static str {
        "cleanup"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        let change =
            |count: &mut u64, up: bool| *count = if up { *count + 1 } else { count.saturating_sub(1) };
        match &fact.event {
            Event::ServerStarted | Event::ServerStopped => {
                let up = fact.event == Event::ServerStarted;
                self.machine(fact).into_iter().for_each(|machine| change(&mut machine.servers, up));
            }
            Event::EventStreamOpened | Event::EventStreamClosed => {
                let up = fact.event == Event::EventStreamOpened;
                self.machine(fact).into_iter().for_each(|machine| change(&mut machine.event_streams, up));
            }
            Event::WorkerStarted { worker, start } => {
                let machine = self.of(worker);
                machine.last = *start;
                machine.alive.insert(*start);
            }
            Event::Killed { worker } | Event::Exited { worker, .. } => {
                let machine = self.of(worker);
                machine.alive.remove(&machine.last);
            }
            Event::ZombieExited { worker, start, .. } => drop(self.of(worker).alive.remove(start)),
            Event::Left { worker, bytes, sockets } => self.left(worker, *bytes, *sockets, verdict),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{judge, name};
    use sim_model::trace::Exit;

    fn left(bytes: i64, sockets: u64) -> Event {
        Event::Left { worker: name("worker-1"), bytes, sockets }
    }

    #[track_caller]
    fn check(events: &[Event], expected: &[&str]) {
        assert_eq!(judge(Cleanup::default(), (0..).zip(events.iter().cloned())), expected);
    }

    #[test]
    fn a_worker_that_takes_all_with_it_is_fine() {
        check(
            &[
                Event::ServerStarted,
                Event::EventStreamOpened,
                Event::EventStreamClosed,
                Event::ServerStopped,
                left(0, 0),
            ],
            &[],
        );
    }

    #[test]
    fn a_machine_is_not_judged_while_a_zombie_lives_there() {
        let worker = || name("worker-1");
        let started = |start| Event::WorkerStarted { worker: worker(), start };
        let exited = || Event::Exited { worker: worker(), exit: Exit::Stopped };
        let zombie_ended = || Event::ZombieExited { worker: worker(), start: 1, exit: Exit::Stopped };
        let with = |more: &[Event]| [&[started(1), Event::ServerStarted, started(2)], more].concat();
        check(&with(&[exited(), left(0, 0)]), &[]);
        check(
            &with(&[zombie_ended(), exited(), left(0, 0)]),
            &["worker-1 is gone and left 1 OpenCode servers"],
        );
    }

    #[test]
    fn whatever_is_left_is_named() {
        check(
            &[Event::ServerStarted, Event::EventStreamOpened, left(24, 2)],
            &["worker-1 is gone and left 1 OpenCode servers, 1 event streams, 2 sockets, 24 bytes"],
        );
    }
}
