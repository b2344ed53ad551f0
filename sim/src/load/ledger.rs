//! Follows the facts of a run in real time for what its figures need of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::figures::ProcessFigures;
use crate::trace::{Event, Fact, Micros, Name, TurnState};

/// What is known of turns and processes.
#[derive(Debug, Default)]
pub struct Ledger {
    waiting: BTreeSet<Name>,
    running: BTreeSet<Name>,
    most_running: usize,
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
                followed.cpu_ms = (followed.cpu_ms.0 + followed.cpu_ms.1, 0);
            }
            Event::Ready { worker, .. } => self.ready(worker, fact.at),
            Event::Process { worker, .. } => self.worker(worker).measured(&fact.event),
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
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52 µs")]
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
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.workers.values().map(|followed| followed.rss).sum()
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
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ms")]
            let cpu_seconds = millis as f64 / 1000.0;
            ProcessFigures { name: name.to_string(), cpu_seconds, ..followed.figures.clone() }
        };
        self.workers.iter().map(figures).collect()
    }
}

impl Followed {
    fn measured(&mut self, event: &Event) {
        let Event::Process { rss, peak_rss, pss, cpu_ms, threads, files, .. } = event else { return };
        (self.rss, self.cpu_ms.1) = (*rss, *cpu_ms);
        let figures = &mut self.figures;
        if self.ready && !self.worked {
            figures.idle_rss = figures.idle_rss.max(*rss);
        }
        figures.peak_rss = figures.peak_rss.max(*peak_rss);
        figures.peak_pss = figures.peak_pss.max(*pss);
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
}
