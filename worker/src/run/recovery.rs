//! How long a worker rests after a failure before it registers anew.

use std::time::Duration;

use backon::BackoffBuilder;
use tokio::time::sleep;

use super::worker::Worker;
use crate::{backoff::exponential, env::Env, lifecycle::state::LifecycleEvent};

/// First pause after a failure; doubles up to `lifecycle.recovery_cap`, jitter included.
const RECOVERY_MIN: Duration = Duration::from_secs(1);

impl<E: Env> Worker<E> {
    pub(super) fn pause(&self, attempt: u32) {
        let pause = recovery_pause(&self.env, self.config.settings.lifecycle.recovery_cap, attempt);
        self.calls.push(Box::pin(async move {
            sleep(pause).await;
            Some(LifecycleEvent::Recovered)
        }));
    }
}

/// The pause before recovery number `attempt`: half of it is fixed and the other half random, so that a fleet does not
/// come back at once, and all of it is at most `cap`.
fn recovery_pause(env: &impl Env, cap: Duration, attempt: u32) -> Duration {
    let mut pauses = exponential(env, RECOVERY_MIN.min(cap / 2), cap / 2).build();
    pauses.nth(attempt.min(32) as usize).expect("the backoff has no end")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::testing::TestEnv;

    #[test]
    fn a_recovery_pause_grows_to_its_cap_and_never_beyond() {
        let env = TestEnv::new();
        for cap in [1, 3, 30].map(Duration::from_secs) {
            for attempt in 0..40 {
                let pause = recovery_pause(&env, cap, attempt);
                assert!(pause <= cap, "attempt {attempt} waits {pause:?}, more than {cap:?}");
                assert!(attempt < 10 || pause >= cap / 2, "attempt {attempt} waits {pause:?} of {cap:?}");
            }
        }
    }
}
