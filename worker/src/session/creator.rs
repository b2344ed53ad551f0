//! Waits for the throttle: first come, first served.

use std::time::Duration;

use tokio::{
    sync::{Mutex, Notify},
    time::Instant,
};

use super::throttle::{Admission, Throttle};

/// The one gate through which every creation passes.
pub(crate) struct Gate {
    /// Held by whoever is next in line, so that nobody overtakes; tokio's mutex is fair.
    turn: Mutex<()>,
    throttle: std::sync::Mutex<Throttle>,
    ended: Notify,
    epoch: Instant,
}

/// Leave to create one session; give it back by dropping it.
pub(crate) struct Permit<'a>(&'a Gate);

impl Gate {
    /// See [`Throttle::new`].
    pub(crate) fn new(max_in_flight: usize, per_second: usize) -> Self {
        Self {
            turn: Mutex::new(()),
            throttle: std::sync::Mutex::new(Throttle::new(max_in_flight, per_second)),
            ended: Notify::new(),
            epoch: Instant::now(),
        }
    }

    /// Waits until one more creation may start. Dropping the future gives up the place in line.
    pub(crate) async fn enter(&self) -> Permit<'_> {
        let _turn = self.turn.lock().await;
        loop {
            match self.admit(self.epoch.elapsed()) {
                Admission::Start => return Permit(self),
                Admission::At(moment) => tokio::time::sleep_until(self.epoch + moment).await,
                Admission::WhenOneEnds => self.ended.notified().await,
            }
        }
    }

    fn admit(&self, now: Duration) -> Admission {
        self.lock().admit(now)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Throttle> {
        self.throttle.lock().expect("the throttle does not panic")
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.lock().ended();
        self.0.ended.notify_one();
    }
}
