//! How long to wait before the next attempt.

use std::time::Duration;

use backon::ExponentialBuilder;

use crate::env::Env;

/// Pauses that begin at `min` and double up to `max`, each longer by a random part of itself, so that many workers
/// do not return at once. Attempts are not limited: say so where it is used.
pub(crate) fn exponential(env: &impl Env, min: Duration, max: Duration) -> ExponentialBuilder {
    let mut seed = [0; 8];
    env.random(&mut seed);
    ExponentialBuilder::default()
        .with_min_delay(min)
        .with_max_delay(max)
        .without_max_times()
        .with_jitter()
        .with_jitter_seed(u64::from_le_bytes(seed))
}
