//! How busy a fake's thread is: a fake that is late itself says nothing about the worker.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep_until};

use crate::engine::determinism::thread_time;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(5);

/// What a thread shows of itself.
#[derive(Debug)]
pub struct Gauge {
    /// Its processor time so far, in µs.
    processor: AtomicU64,
    /// How late its timers were, in µs.
    late: Mutex<Histogram<u64>>,
}

impl Default for Gauge {
    fn default() -> Self {
        Self { processor: AtomicU64::new(0), late: Mutex::new(empty()) }
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

impl Gauge {
    /// Watches the thread that this runs on, for ever.
    pub async fn watch(&self) {
        loop {
            let due = Instant::now() + EVERY;
            sleep_until(due).await;
            let late = Instant::now().saturating_duration_since(due);
            let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX / 4);
            let mut all = self.late.lock().unwrap_or_else(PoisonError::into_inner);
            all.record(late).expect("it grows with its values");
            drop(all);
            self.processor.store(u64::try_from(thread_time().as_micros()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// The thread's processor time so far.
    #[must_use]
    pub fn processor(&self) -> Duration {
        Duration::from_micros(self.processor.load(Relaxed))
    }

    /// How late its timers were so far, in µs. Up to 1,000 is the timers' own grain.
    pub fn late(&self) -> Histogram<u64> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::determinism::wall_clock;

    #[tokio::test]
    async fn a_thread_that_is_held_up_is_seen_by_its_late_timers_and_its_processor_time() {
        const BUSY: Duration = Duration::from_millis(60);
        let gauge = Arc::new(Gauge::default());
        let hold_up = async {
            sleep_until(Instant::now() + EVERY * 2).await;
            let until = wall_clock() + BUSY;
            while wall_clock() < until {}
            sleep_until(Instant::now() + EVERY * 2).await;
        };
        tokio::select! {
            () = gauge.watch() => {}
            () = hold_up => {}
        }
        let late = Duration::from_micros(gauge.late().max());
        // The timer was due at most so long after the thread was held up.
        assert!(late > BUSY - EVERY * 2, "{late:?}");
        // Others may use the processor meanwhile, so that it is not all of it.
        assert!(gauge.processor() > BUSY / 10, "{:?}", gauge.processor());
    }
}
