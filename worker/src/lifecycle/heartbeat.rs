//! When the next heartbeat is due.

use std::time::Duration;

/// How far a beat may stray from its interval, so that many workers do not beat at once (percent).
const JITTER_PERCENT: u32 = 10;

/// The pause until the next beat: `interval`, up to a tenth shorter. `random` is any uniformly drawn number.
pub fn next_pause(interval: Duration, random: u32) -> Duration {
    let shorter = random % (JITTER_PERCENT * 100 + 1);
    interval * (10_000 - shorter) / 10_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_beat_is_never_late_and_at_most_a_tenth_early(random: u32) {
            let pause = next_pause(Duration::from_secs(5), random);
            prop_assert!((Duration::from_millis(4_500)..=Duration::from_secs(5)).contains(&pause), "{pause:?}");
        }
    }
}
