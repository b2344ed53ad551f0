//! A model whose provider puts OpenCode off: overload, a rate limit, a quota.
//!
//! OpenCode asks again without limit, after 2 s, 4 s and so on up to 30 s, or when the provider says, which may be in an
//! hour; each time `session.status` tells of it, with what the provider said (measured on 1.18.33). A turn waits within
//! bounds.

use std::time::Duration;

use crate::{config::TurnSettings, turns::failure::Failure};

/// The attempts at one step of the reply.
#[derive(Debug)]
pub(super) struct Retries {
    max: u64,
    timeout: Duration,
    /// Nothing while the model answers.
    last: Option<Refused>,
}

#[derive(Debug)]
struct Refused {
    /// Since when the model has been refusing.
    since: Duration,
    attempts: u64,
    said: String,
}

impl Retries {
    pub(super) fn new(settings: &TurnSettings) -> Self {
        Self { max: settings.max_retries as u64, timeout: settings.retry_timeout, last: None }
    }

    /// Returns when the model will have refused for too long.
    pub(super) fn until(&self) -> Option<Duration> {
        self.last.as_ref().map(|refused| refused.since + self.timeout)
    }

    /// The model answers.
    pub(super) fn reset(&mut self) {
        self.last = None;
    }

    /// The model has refused for the `attempt`th time. False if that is too often.
    pub(super) fn refused(&mut self, attempt: u64, said: String, now: Duration) -> bool {
        let since = self.last.as_ref().map_or(now, |refused| refused.since);
        self.last = Some(Refused { since, attempts: attempt, said });
        attempt <= self.max
    }

    /// Returns why the turn fails that waits no longer, if it is the model that it waits for.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.last.as_ref().map(|refused| Failure::put_off(&refused.said, refused.attempts))
    }
}
