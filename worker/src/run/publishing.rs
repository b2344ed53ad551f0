//! How far OpenCode's models are published, within bounded attempts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    convex::Backend,
    error::CallError,
    opencode::{ApiError, Server},
    sync::plan::fingerprint,
};

/// Attempts to publish the models in one start of the worker. Each turn that ends is an occasion for one.
const MAX_ATTEMPTS: u32 = 5;

/// How far the models are published: listed once per start, published once, and at most so often in vain.
#[derive(Debug, Clone, Default)]
pub(super) struct Publishing(Arc<Mutex<Attempts>>);

#[derive(Debug, Default)]
struct Attempts {
    begun: u32,
    state: State,
}

#[derive(Debug, Default)]
pub(super) enum State {
    #[default]
    NotListed,
    /// And not published yet.
    Listed(Vec<String>),
    UnderWay,
    /// Published, or never to be: a list whose answer got lost has cost what it costs.
    Over,
}

impl Publishing {
    /// Returns true if an attempt is due.
    pub(super) fn is_due(&self) -> bool {
        let attempts = self.attempts();
        matches!(attempts.state, State::NotListed | State::Listed(_)) && attempts.begun < MAX_ATTEMPTS
    }

    /// Begins an attempt if one is due, from where the last one came to.
    pub(super) fn begin(&self) -> Option<State> {
        if !self.is_due() {
            return None;
        }
        let mut attempts = self.attempts();
        attempts.begun += 1;
        Some(std::mem::replace(&mut attempts.state, State::UnderWay))
    }

    pub(super) async fn attempt(
        &self,
        begun: State,
        server: &Server,
        backend: &Backend,
        known: Option<String>,
    ) -> anyhow::Result<()> {
        let models = match begun {
            State::Listed(models) => models,
            _ => match list(server).await {
                Ok(models) => models,
                Err((error, state)) => {
                    self.attempts().state = state;
                    return Err(error);
                }
            },
        };
        let published = publish(backend, &models, known).await;
        self.attempts().state = if published.is_ok() { State::Over } else { State::Listed(models) };
        Ok(published?)
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        // Nothing here panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The models that OpenCode offers; or why they are not known, and whether to ask again.
async fn list(server: &Server) -> Result<Vec<String>, (anyhow::Error, State)> {
    let lease = server.acquire().await.map_err(|error| (error.into(), State::NotListed))?;
    match lease.client().models().await {
        Ok(models) => Ok(models.iter().map(ToString::to_string).collect()),
        Err(error @ (ApiError::Timeout { .. } | ApiError::Interrupted { .. })) => {
            Err((error.into(), State::Over))
        }
        Err(error) => Err((error.into(), State::NotListed)),
    }
}

/// Publishes the models, unless they are those that the backend has. Until the next start people choose from that
/// list, also while no server runs.
async fn publish(backend: &Backend, models: &[String], known: Option<String>) -> Result<(), CallError> {
    let digest = format!("{:016x}", fingerprint(&models.join("\n")));
    if known.as_deref() == Some(&*digest) {
        return Ok(());
    }
    backend.update_models(models.to_vec(), digest).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_can_never_be_listed_are_given_up() {
        let models = Publishing::default();
        for _ in 0..MAX_ATTEMPTS {
            assert!(models.begin().is_some());
            models.attempts().state = State::NotListed;
        }
        assert!(!models.is_due() && models.begin().is_none());
    }

    #[test]
    fn one_attempt_at_a_time_begins_and_none_once_it_is_over() {
        let models = Publishing::default();
        assert!(models.begin().is_some());
        assert!(models.begin().is_none(), "one is under way");
        models.attempts().state = State::Listed(vec!["a/b".into()]);
        assert!(matches!(models.begin(), Some(State::Listed(_))));
        models.attempts().state = State::Over;
        assert!(models.begin().is_none());
    }
}
