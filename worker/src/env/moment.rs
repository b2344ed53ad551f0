//! A moment by two clocks, because each of them may miss time: the wall clock may be set back, and the monotonic one stands
//! still while a laptop sleeps.

use std::time::Duration;

use tokio::time::Instant;

use super::{Env, UnixMillis};

/// A moment, by the wall clock and by the monotonic one.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    wall: UnixMillis,
    awake: Instant,
}

impl Moment {
    /// The present one.
    pub fn now(env: &impl Env) -> Self {
        Self { wall: env.now(), awake: env.awake() }
    }

    /// How long ago it was, by the clock that says more.
    pub fn age(self, env: &impl Env) -> Duration {
        Self::now(env).since(self).0
    }

    /// How long the machine has slept since, as far as the clocks tell: by how much the wall clock ran ahead. One that was
    /// set forward looks the same.
    pub fn slept_since(self, env: &impl Env) -> Duration {
        Self::now(env).since(self).1
    }

    /// The time since an earlier moment, and how much of it was slept.
    fn since(self, earlier: Self) -> (Duration, Duration) {
        let wall = Duration::from_millis(self.wall.saturating_sub(earlier.wall));
        let awake = self.awake.saturating_duration_since(earlier.awake);
        (wall.max(awake), wall.saturating_sub(awake))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the clocks show `wall` and `awake` seconds after a moment: the time since then, and the sleep.
    #[track_caller]
    fn check(wall: i64, awake: u64, age: u64, slept: u64) {
        let earlier = Moment { wall: 1_000_000, awake: Instant::now() };
        let now = Moment {
            wall: earlier.wall.checked_add_signed(1000 * wall).unwrap(),
            awake: earlier.awake + Duration::from_secs(awake),
        };
        assert_eq!(now.since(earlier), (Duration::from_secs(age), Duration::from_secs(slept)));
    }

    #[test]
    fn a_sleep_is_what_the_wall_clock_ran_ahead() {
        check(5, 5, 5, 0);
        check(600, 1, 600, 599);
    }

    #[test]
    fn a_wall_clock_that_was_set_back_hides_nothing_that_the_other_one_saw() {
        check(-60, 5, 5, 0);
    }
}
