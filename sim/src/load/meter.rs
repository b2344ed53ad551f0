//! Measures over some time: processor time of workers, fakes and machine, and what was added by the worker.

use std::{sync::Arc, time::Duration};

use hdrhistogram::Histogram;
use procfs::{CurrentSI as _, KernelStats};

use crate::{
    engine::determinism::wall_clock,
    load::{gauge::Gauge, probe::SharedProbe},
};
use sim_report::{Latency, Reading};

/// The counters at one moment. Nothing is reset by it, so that several may measure at the same time.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    at: Duration,
    workers_ms: u64,
    fakes: [Duration; 2],
    late: [Histogram<u64>; 2],
    machine: Machine,
    said: u64,
    added: Histogram<u64>,
}

/// The machine's processor time so far, in ticks, over all processors.
#[derive(Debug, Clone, Copy, Default)]
struct Machine {
    busy: u64,
    all: u64,
}

impl Machine {
    fn now() -> Self {
        let Ok(KernelStats { total, .. }) = KernelStats::current() else { return Self::default() };
        let idle = total.idle + total.iowait.unwrap_or(0);
        let busy =
            total.user + total.nice + total.system + total.irq.unwrap_or(0) + total.softirq.unwrap_or(0);
        let busy = busy + total.steal.unwrap_or(0);
        Self { busy, all: busy + idle }
    }
}

impl Machine {
    /// The share that was busy since `before`: nothing if the kernel's counters went back, as they may.
    fn busy_since(self, before: Self) -> f64 {
        ratio(self.busy.saturating_sub(before.busy), self.all.saturating_sub(before.all).max(1)).min(1.0)
    }
}

impl Meter {
    /// Begins to measure; `workers_ms` is the processor time of all workers so far.
    pub(super) fn begin(workers_ms: u64, gauges: &[Arc<Gauge>; 2], probe: &SharedProbe) -> Self {
        let probe = probe.lock();
        Self {
            at: wall_clock(),
            workers_ms,
            fakes: [0, 1].map(|fake: usize| gauges[fake].processor()),
            late: [0, 1].map(|fake: usize| gauges[fake].late()),
            machine: Machine::now(),
            said: probe.said_so_far(),
            added: probe.added().clone(),
        }
    }

    /// What was measured since.
    pub(super) fn read(&self, workers_ms: u64, gauges: &[Arc<Gauge>; 2], probe: &SharedProbe) -> Reading {
        let now = Self::begin(workers_ms, gauges, probe);
        let seconds = now.at.saturating_sub(self.at).as_secs_f64().max(1e-3);
        let cores = |fake: usize| now.fakes[fake].saturating_sub(self.fakes[fake]).as_secs_f64() / seconds;
        let lag = |fake: usize, name| Latency::of(name, &since(&now.late[fake], &self.late[fake]));
        Reading {
            seconds,
            worker_cores: ratio(workers_ms.saturating_sub(self.workers_ms), 1000) / seconds,
            fake_cores: [0, 1].map(cores),
            fake_lag: [lag(0, "lag of the fake Convex"), lag(1, "lag of the fake OpenCode")],
            machine_busy: now.machine.busy_since(self.machine),
            deltas_per_second: ratio(now.said.saturating_sub(self.said), 1) / seconds,
            added: Latency::of("added by the worker", &since(&now.added, &self.added)),
        }
    }
}

/// What `now` has and `before` had not.
fn since(now: &Histogram<u64>, before: &Histogram<u64>) -> Histogram<u64> {
    let mut since = now.clone();
    since.subtract(before).expect("a histogram only grows");
    since
}

fn ratio(count: u64, of: u64) -> f64 {
    count as f64 / of as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::probe::Collects;

    fn recorded(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        histogram
    }

    #[test]
    fn counters_of_the_machine_that_go_back_are_no_load() {
        let [before, after] = [Machine { busy: 50, all: 100 }, Machine { busy: 80, all: 140 }];
        assert_eq!((after.busy_since(before), before.busy_since(after)), (0.75, 0.0));
        assert!(Machine::now().all > 0);
    }

    #[test]
    fn what_was_before_does_not_count_and_the_longest_is_that_since() {
        let (before, now) = (recorded(&[900, 5]), recorded(&[900, 5, 7, 100_000]));
        let since = since(&now, &before);
        assert_eq!((since.len(), since.min(), since.max() / 1000), (2, 7, 100));
    }

    #[test]
    fn a_reading_is_of_its_own_time_alone() {
        let collects = Collects { interval: 1, bytes: 1 };
        let (gauges, probe) = (Default::default(), SharedProbe::new(collects));
        let whole = Meter::begin(100, &gauges, &probe);
        probe.lock().note_for_test(30_000);
        let step = Meter::begin(300, &gauges, &probe);
        probe.lock().note_for_test(4_000);
        let readings = [&step, &whole].map(|meter| meter.read(600, &gauges, &probe));
        // A step that is read takes nothing from the whole.
        assert_eq!(readings.clone().map(|reading| reading.added.count), [1, 2]);
        assert_eq!(readings.clone().map(|reading| reading.added.max.round()), [4.0, 30.0]);
        let used = readings.map(|reading| (reading.worker_cores * reading.seconds * 1000.0).round());
        assert_eq!(used, [300.0, 500.0]);
    }
}
