//! **resident**: a worker's process stays small, whatever it has done. For runs in real time, where no heap is counted.
//!
//! - Its resident memory never exceeds `peak` (the kernel keeps the maximum, so no spike is missed).
//! - When it is ready and has not claimed a turn in this start, its resident memory is at most `idle`.

use std::collections::BTreeMap;

use crate::oracle::{Findings, Oracle};
use sim_model::trace::{Event, Fact, Name, TurnState};

/// How much resident memory a worker's process may have, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// Ready, and without a turn so far.
    pub idle: u64,
    /// Ever.
    pub peak: u64,
}

/// See the file's comment.
pub(super) struct Resident {
    ceilings: Ceilings,
    workers: BTreeMap<Name, Start>,
}

#[derive(Default)]
struct Start {
    ready: bool,
    worked: bool,
    /// Each is told once for each start.
    told: [bool; 2],
}

impl Resident {
    pub(super) fn new(ceilings: Ceilings) -> Self {
        Self { ceilings, workers: BTreeMap::new() }
    }

    fn worker(&mut self, name: &Name) -> &mut Start {
        self.workers.entry(Name::clone(name)).or_default()
    }

    fn measured(&mut self, name: &Name, rss: u64, most: u64, verdict: &mut Findings) {
        let Ceilings { idle, peak } = self.ceilings;
        let start = self.worker(name);
        let is_idle = start.ready && !start.worked;
        if is_idle && rss > idle && !std::mem::replace(&mut start.told[0], true) {
            verdict.violation(format!("{name} takes {rss} bytes when idle, more than {idle}"), &[name]);
        }
        if most > peak && !std::mem::replace(&mut start.told[1], true) {
            verdict.violation(format!("{name} took {most} bytes, more than {peak}"), &[name]);
        }
    }
}

impl Oracle for Resident {
    fn id(&self) -> &'static str {
        "resident"
    }

    fn observe(&mut self, fact: &Fact, verdict: &mut Findings) {
        match &fact.event {
            Event::WorkerStarted { worker, .. } => *self.worker(worker) = Start::default(),
            Event::Ready { worker, .. } => self.worker(worker).ready = true,
            Event::TurnChanged { worker, to: TurnState::Claimed, .. } => self.worker(worker).worked = true,
            Event::Process { worker, rss, peak_rss, .. } => self.measured(worker, *rss, *peak_rss, verdict),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{claimed, judge, name, ready, started};

    fn process(rss: u64, peak_rss: u64) -> Event {
        let worker = name("worker-1");
        Event::Process { worker, rss, peak_rss, pss: 0, heap: 0, cpu_ms: 0, threads: 1, files: 9 }
    }

    #[track_caller]
    fn check(events: Vec<Event>, expected: &[&str]) {
        let ceilings = Ceilings { idle: 16, peak: 48 };
        assert_eq!(judge(Resident::new(ceilings), (0..).zip(events)), expected);
    }

    #[test]
    fn a_small_process_is_fine_and_may_grow_with_its_work() {
        let idle = [started(1), process(20, 20), ready(), process(16, 20)];
        check([&idle[..], &[claimed("t1"), process(40, 48)]].concat(), &[]);
    }

    #[test]
    fn an_idle_process_that_is_too_large_is_told_once_for_each_start() {
        let told = "worker-1 takes 17 bytes when idle, more than 16";
        let start = [ready(), process(17, 17), process(17, 17)];
        check([&[started(1)], &start[..], &[started(2)], &start[..]].concat(), &[told, told]);
    }

    #[test]
    fn a_peak_between_two_measurements_is_seen() {
        check(
            vec![started(1), ready(), claimed("t1"), process(20, 49)],
            &["worker-1 took 49 bytes, more than 48"],
        );
    }
}
