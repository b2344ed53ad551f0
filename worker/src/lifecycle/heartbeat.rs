//! How often a worker says that it lives, and when the next heartbeat is due.

use std::time::Duration;

use crate::config::HeartbeatSettings;

/// How far a beat may stray from its interval, so that many workers do not beat at once (percent).
const JITTER_PERCENT: u32 = 10;
/// Whoever asked a worker to connect is taken to look at it for this long.
pub const LATELY: Duration = Duration::from_secs(5 * 60);

/// How often a worker beats. Each beat tells the backend the interval to the next one: it takes a worker for lost after
/// three of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Somebody waits for it, and should soon see that it is gone.
    Busy,
    /// Nobody does.
    Idle,
}

impl Pace {
    /// The pace of a worker that runs so many turns, and was asked to connect so long ago.
    pub fn of(turns: usize, asked: Option<Duration>) -> Self {
        let is_looked_at = asked.is_some_and(|ago| ago < LATELY);
        if turns > 0 || is_looked_at { Self::Busy } else { Self::Idle }
    }

    /// The longest time between two beats.
    pub fn interval(self, settings: &HeartbeatSettings) -> Duration {
        match self {
            Self::Busy => settings.busy,
            Self::Idle => settings.idle,
        }
    }
}

/// The pause until the next beat: `interval`, up to a tenth shorter. `random` is any uniformly drawn number.
pub fn next_pause(interval: Duration, random: u32) -> Duration {
    let shorter = random % (JITTER_PERCENT * 100 + 1);
    interval * (10_000 - shorter) / 10_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_worker_is_busy_while_turns_run_or_somebody_looks() {
        let ago = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!((Pace::of(1, None), Pace::of(0, ago(299))), (Pace::Busy, Pace::Busy));
        assert_eq!((Pace::of(0, None), Pace::of(0, ago(300))), (Pace::Idle, Pace::Idle));
    }

    proptest! {
        #[test]
        fn a_beat_is_never_late_and_at_most_a_tenth_early(random: u32) {
            let pause = next_pause(Duration::from_secs(5), random);
            prop_assert!((Duration::from_millis(4_500)..=Duration::from_secs(5)).contains(&pause), "{pause:?}");
        }
    }
}
