//! A model whose provider puts OpenCode off: overload, a rate limit, a quota.
//!
//! OpenCode asks again without limit, after 2 s, 4 s and so on up to 30 s, or when the provider says, which may be in an
//! hour; each time `session.status` tells of it, with what the provider said (measured on 1.18.33). A turn waits within
//! bounds.

use std::time::Duration;

use super::{Action, Step, Turn};
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

    /// When the model has refused for too long.
    pub(super) fn until(&self) -> Option<Duration> {
        self.last.as_ref().map(|refused| refused.since + self.timeout)
    }

    /// The model answers.
    pub(super) fn are_over(&mut self) {
        self.last = None;
    }

    /// Why the turn fails that waits no longer, if it is the model that it waits for.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.last.as_ref().map(|refused| Failure::put_off(&refused.said, refused.attempts))
    }
}

impl Turn {
    /// The model has refused; `attempt` counts its refusals.
    pub(super) fn put_off(
        &mut self,
        attempt: u64,
        said: String,
        now: Duration,
        actions: &mut Vec<Action>,
    ) -> Step {
        let retries = &mut self.retries;
        let since = retries.last.as_ref().map_or(now, |refused| refused.since);
        retries.last = Some(Refused { since, attempts: attempt, said });
        if attempt > retries.max { self.give_up_the_model(now, actions) } else { Ok(()) }
    }

    pub(super) fn give_up_the_model(&mut self, now: Duration, actions: &mut Vec<Action>) -> Step {
        let failure = self.retries.failure().expect("it is given up because it refused");
        self.abort(failure, now, actions)
    }
}
