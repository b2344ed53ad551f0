//! What OpenCode may still be working on when nobody follows it any more.
//!
//! A prompt into a session that is busy is merged into the reply in progress (measured), so nothing is prompted there
//! before the session is idle.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use tracing::warn;

use super::{generation::Generation, http::Client, types::OpencodeSessionId};

/// Sessions of one generation that are remembered as perhaps busy; the oldest is forgotten first.
const MAX_DOUBTED: usize = 64;
/// How often a session that is perhaps busy is looked at, and asked to stop, before it is given up.
const LOOKS: u32 = 5;
/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// A prompt that OpenCode works on. Whoever drops it without having seen the end (the worker begins anew, a write
/// failed, a panic) leaves a session that is asked to stop, and not prompted before it is idle.
pub struct Work {
    generation: Arc<Generation>,
    session: OpencodeSessionId,
    is_over: bool,
}

impl Work {
    pub(super) fn new(generation: Arc<Generation>, session: &OpencodeSessionId) -> Self {
        Self { generation, session: session.clone(), is_over: false }
    }

    /// OpenCode does not work on it any more, or never did.
    pub fn is_over(mut self) {
        self.is_over = true;
    }

    /// OpenCode was asked to stop, in vain.
    pub fn is_stuck(mut self) {
        self.is_over = true;
        self.generation.doubted.add(&self.session);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.generation.doubted.add(&self.session);
        let (client, session) = (self.generation.client.clone(), self.session.clone());
        self.generation.client.spawn(async move { abort(&client, &session).await });
    }
}

/// Sessions that are perhaps busy.
#[derive(Debug, Default)]
pub(super) struct Doubted(Mutex<VecDeque<OpencodeSessionId>>);

impl Doubted {
    fn add(&self, session: &OpencodeSessionId) {
        let mut all = self.all();
        all.retain(|known| known != session);
        all.push_back(session.clone());
        if all.len() > MAX_DOUBTED {
            all.pop_front();
        }
    }

    fn contains(&self, session: &OpencodeSessionId) -> bool {
        self.all().contains(session)
    }

    fn remove(&self, session: &OpencodeSessionId) {
        self.all().retain(|known| known != session);
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<OpencodeSessionId>> {
        // Nothing here panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the session is idle, as far as is known. One that is perhaps busy is waited for and asked to stop again,
/// within bounds.
pub(super) async fn settle(generation: &Generation, session: &OpencodeSessionId) -> bool {
    if !generation.doubted.contains(session) {
        return true;
    }
    let client = &generation.client;
    for look in 0..LOOKS {
        if look > 0 {
            abort(client, session).await;
            sleep(PAUSE).await;
        }
        match client.statuses().await {
            Ok(busy) if !busy.contains_key(session) => {
                generation.doubted.remove(session);
                return true;
            }
            Ok(_) => {}
            Err(error) => warn!(%error, %session, "cannot tell whether the session is busy"),
        }
    }
    false
}

async fn abort(client: &Client, session: &OpencodeSessionId) {
    if let Err(error) = client.abort(session).await {
        warn!(%error, %session, "cannot abort");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sessions_that_are_perhaps_busy_are_bounded_and_each_is_known_once() {
        let doubted = Doubted::default();
        let session = |number: usize| OpencodeSessionId::new(&format!("ses_{number}")).unwrap();
        for number in (0..=MAX_DOUBTED).chain([5]) {
            doubted.add(&session(number));
        }
        assert_eq!(doubted.all().len(), MAX_DOUBTED);
        assert!(!doubted.contains(&session(0)) && doubted.contains(&session(5)));
        doubted.remove(&session(5));
        assert!(!doubted.contains(&session(5)));
    }
}
