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

use crate::world::determinism::thread_time;

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

    /// How late its timers were since the last call, in µs. Up to 1,000 is the timers' own grain.
    pub fn take_late(&self) -> Histogram<u64> {
        std::mem::replace(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner), empty())
    }
}
