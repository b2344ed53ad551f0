//! Follows the facts of a run in real time for what its figures need of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sim_model::trace::{Event, Fact, Micros, Name, TurnState};
use sim_report::ProcessFigures;

/// What is known of turns and processes.
#[derive(Debug, Default)]
pub struct Ledger {
    waiting: BTreeSet<Name>,
    running: BTreeSet<Name>,
    most_running: usize,
    most_resident: u64,
    workers: BTreeMap<Name, Followed>,
}

#[derive(Debug, Default)]
struct Followed {
    figures: ProcessFigures,
    /// When it was started, until it is ready.
    starting: Option<Micros>,
    ready: bool,
    worked: bool,
    /// Processor time of the starts before, and of this one.
    cpu_ms: (u64, u64),
    rss: u64,
    /// Connections to the backend.
    sockets: u64,
    /// Whether it has told the backend in this start that it is gone.
    told_offline: bool,
}

impl Ledger {
    /// Follows a fact.
    pub fn observe(&mut self, fact: &Fact) {
        match &fact.event {
            Event::Sent { turn, .. } => drop(self.waiting.insert(Name::clone(turn))),
            Event::TurnChanged { turn, worker, to, .. } => self.changed(turn, worker, *to),
            Event::WorkerStarted { worker, .. } => {
                let followed = self.worker(worker);
                (followed.starting, followed.ready, followed.worked) = (Some(fact.at), false, false);
                followed.told_offline = false;
                followed.cpu_ms = (followed.cpu_ms.0 + followed.cpu_ms.1, 0);
            }
            Event::Ready { worker, .. } => self.ready(worker, fact.at),
            Event::Offline { worker } => self.worker(worker).told_offline = true,
            Event::Connected { client } => self.worker(client).sockets += 1,
            Event::Disconnected { client } => {
                let sockets = &mut self.worker(client).sockets;
                *sockets = sockets.saturating_sub(1);
            }
            Event::Process { worker, .. } => {
                self.worker(worker).measured(&fact.event);
                self.most_resident = self.most_resident.max(self.resident());
            }
            _ => {}
        }
    }

    fn worker(&mut self, name: &Name) -> &mut Followed {
        self.workers.entry(Name::clone(name)).or_default()
    }

    fn changed(&mut self, turn: &Name, worker: &Name, to: TurnState) {
        self.waiting.remove(turn);
        if to == TurnState::Claimed {
            self.running.insert(Name::clone(turn));
            self.most_running = self.most_running.max(self.running.len());
            self.worker(worker).worked = true;
        } else {
            self.running.remove(turn);
        }
    }

    fn ready(&mut self, worker: &Name, at: Micros) {
        let followed = self.worker(worker);
        followed.ready = true;
        if let Some(since) = followed.starting.take() {
            followed.figures.ready_ms.push(at.saturating_sub(since) as f64 / 1000.0);
        }
    }

    /// The worker that was started is there now, at `at`: its time to ready counts from here. The fork before took as
    /// long as the simulator is large.
    pub fn spawned(&mut self, worker: &Name, at: Micros) {
        if let Some(since) = &mut self.worker(worker).starting {
            *since = at;
        }
    }

    /// Turns that wait for their claim.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The most turns that ran at the same time since the last call.
    pub fn take_most_running(&mut self) -> usize {
        std::mem::replace(&mut self.most_running, self.running.len())
    }

    /// Processor time of all workers so far, in ms.
    #[must_use]
    pub fn processor_ms(&self) -> u64 {
        self.workers.values().map(|followed| followed.cpu_ms.0 + followed.cpu_ms.1).sum()
    }

    /// Resident memory of all workers at the last look, in bytes.
    fn resident(&self) -> u64 {
        self.workers.values().map(|followed| followed.rss).sum()
    }

    /// The most resident memory of all workers together, at any look since the last call.
    pub fn take_most_resident(&mut self) -> u64 {
        let now = self.resident();
        std::mem::replace(&mut self.most_resident, now)
    }

    /// The connections that `worker` has to the backend.
    #[must_use]
    pub fn sockets(&self, worker: &Name) -> u64 {
        self.workers.get(worker).map_or(0, |followed| followed.sockets)
    }

    /// Whether `worker` has told the backend that it is gone, or was never ready in this start.
    #[must_use]
    pub fn told_offline(&self, worker: &Name) -> bool {
        self.workers.get(worker).is_none_or(|followed| followed.told_offline || !followed.ready)
    }

    /// Notes that `count` OpenCode processes have outlived `worker`.
    pub fn orphans(&mut self, worker: &Name, count: usize) {
        self.worker(worker).figures.orphans += count as u64;
    }

    /// Each worker's process.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessFigures> {
        let figures = |(name, followed): (&Name, &Followed)| {
            let millis = followed.cpu_ms.0 + followed.cpu_ms.1;
            let cpu_seconds = millis as f64 / 1000.0;
            ProcessFigures { name: name.to_string(), cpu_seconds, ..followed.figures.clone() }
        };
        self.workers.iter().map(figures).collect()
    }
}

impl Followed {
    fn measured(&mut self, event: &Event) {
        let Event::Process { rss, peak_rss, pss, heap, cpu_ms, threads, files, .. } = event else { return };
        self.rss = *rss;
        // Of a group, what a process used that is gone is not shown any more.
        self.cpu_ms.1 = self.cpu_ms.1.max(*cpu_ms);
        let figures = &mut self.figures;
        if self.ready && !self.worked {
            figures.idle_rss = figures.idle_rss.max(*rss);
            figures.idle_heap = figures.idle_heap.max(*heap);
        }
        figures.peak_rss = figures.peak_rss.max(*peak_rss);
        figures.peak_pss = figures.peak_pss.max(*pss);
        figures.peak_heap = figures.peak_heap.max(*heap);
        figures.threads = figures.threads.max(*threads);
        figures.files = figures.files.max(*files);
    }
}

/// A ledger that the recorder fills and the run reads.
#[derive(Debug, Clone, Default)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// The ledger itself.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from(text)
    }

    fn process(rss: u64, cpu_ms: u64) -> Event {
        Event::Process {
            worker: name("worker-1"),
            rss,
            peak_rss: rss + 1,
            pss: 3,
            heap: rss / 2,
            cpu_ms,
            threads: 1,
            files: 9,
        }
    }

    fn started(start: u64) -> Event {
        Event::WorkerStarted { worker: name("worker-1"), start }
    }

    fn ready() -> Event {
        Event::Ready { worker: name("worker-1"), epoch: 1 }
    }

    fn ledger_after<const N: usize>(events: [(Micros, Event); N]) -> Ledger {
        let mut ledger = Ledger::default();
        events.into_iter().for_each(|(at, event)| {
            ledger.observe(&Fact { at, host: name("somewhere"), event });
        });
        ledger
    }

    #[test]
    fn processor_time_goes_on_over_restarts_and_each_start_has_its_time_to_ready() {
        let ledger = ledger_after([
            (0, started(1)),
            (70_000, ready()),
            (80_000, process(10, 40)),
            (90_000, process(30, 60)),
            (1_000_000, started(2)),
            (1_090_000, ready()),
            (1_100_000, process(20, 5)),
        ]);
        assert_eq!(ledger.processor_ms(), 65);
        let [worker] = &ledger.processes()[..] else { panic!("one worker") };
        assert_eq!((&worker.ready_ms[..], worker.idle_rss, worker.peak_rss), (&[70.0, 90.0][..], 30, 31));
        assert_eq!((worker.idle_heap, worker.peak_heap), (15, 15));
    }

    #[test]
    fn the_most_turns_at_once_are_remembered_until_asked_for() {
        let changed = |turn, to| Event::TurnChanged {
            turn: name(turn),
            session: name("s"),
            worker: name("worker-1"),
            from: TurnState::Pending,
            to,
            epoch: None,
            chunks: None,
            error: None,
        };
        let mut ledger = ledger_after([
            (0, changed("a", TurnState::Claimed)),
            (1, changed("b", TurnState::Claimed)),
            (2, changed("a", TurnState::Completed)),
        ]);
        assert_eq!((ledger.take_most_running(), ledger.take_most_running()), (2, 1));
    }

    #[test]
    fn the_most_memory_is_that_since_it_was_asked_for() {
        let mut ledger = ledger_after([(0, process(10, 1)), (1, process(30, 2)), (2, process(20, 3))]);
        assert_eq!((ledger.take_most_resident(), ledger.take_most_resident()), (30, 20));
    }

    #[test]
    fn a_worker_that_was_ready_says_told_offline_in_each_start() {
        let worker = name("worker-1");
        let offline = || Event::Offline { worker: name("worker-1") };
        assert!(ledger_after([(0, started(1))]).told_offline(&worker));
        assert!(!ledger_after([(0, started(1)), (1, ready())]).told_offline(&worker));
        assert!(ledger_after([(0, started(1)), (1, ready()), (2, offline())]).told_offline(&worker));
        let again = [(0, started(1)), (1, ready()), (2, offline()), (3, started(2)), (4, ready())];
        assert!(!ledger_after(again).told_offline(&worker));
    }

    #[test]
    fn connections_are_counted_by_their_worker() {
        let (worker, client) = (name("worker-1"), || name("worker-1"));
        let opened = [(0, Event::Connected { client: client() }), (1, Event::Connected { client: client() })];
        assert_eq!(ledger_after(opened.clone()).sockets(&worker), 2);
        let [first, second] = opened;
        assert_eq!(
            ledger_after([first, second, (2, Event::Disconnected { client: client() })]).sockets(&worker),
            1
        );
    }
}
