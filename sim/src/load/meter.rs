//! Measures over some time: processor time of workers, fakes and machine, and what was added by the worker.

use std::time::Duration;

use procfs::{CurrentSI as _, KernelStats};

use super::{figures::Reading, gauge::Gauge, probe::SharedProbe};
use crate::{report::Latency, world::determinism::wall_clock};

/// The counters at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    at: Duration,
    workers_ms: u64,
    fakes: [Duration; 2],
    machine: Machine,
    said: u64,
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

impl Meter {
    /// Begins to measure; `workers_ms` is the processor time of all workers so far.
    pub(super) fn begin(workers_ms: u64, gauges: &[std::sync::Arc<Gauge>; 2], probe: &SharedProbe) -> Self {
        gauges.iter().for_each(|gauge| drop(gauge.take_late()));
        let mut probe = probe.lock();
        drop(probe.take());
        Self {
            at: wall_clock(),
            workers_ms,
            fakes: [gauges[0].processor(), gauges[1].processor()],
            machine: Machine::now(),
            said: probe.said_so_far(),
        }
    }

    /// What was measured since.
    pub(super) fn read(
        &self,
        workers_ms: u64,
        gauges: &[std::sync::Arc<Gauge>; 2],
        probe: &SharedProbe,
    ) -> Reading {
        let seconds = wall_clock().saturating_sub(self.at).as_secs_f64().max(1e-3);
        let (mut probe, machine) = (probe.lock(), Machine::now());
        let cores = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() / seconds;
        let (busy, all) = (machine.busy - self.machine.busy, machine.all - self.machine.all);
        let lag = |gauge: &Gauge, name| Latency::of(name, &gauge.take_late());
        Reading {
            seconds,
            worker_cores: ratio(workers_ms.saturating_sub(self.workers_ms), 1000) / seconds,
            fake_cores: [0, 1].map(|fake: usize| cores(gauges[fake].processor(), self.fakes[fake])),
            fake_lag: [
                lag(&gauges[0], "lag of the fake Convex"),
                lag(&gauges[1], "lag of the fake OpenCode"),
            ],
            machine_busy: ratio(busy, all.max(1)),
            deltas_per_second: ratio(probe.said_so_far() - self.said, 1) / seconds,
            added: Latency::of("added by the worker", &probe.take()),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn ratio(count: u64, of: u64) -> f64 {
    count as f64 / of as f64
}
