//! Which sessions OpenCode may still be working in though nobody follows them.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::id::OpencodeSessionId;

/// Sessions of one generation that are remembered as perhaps busy; the oldest is forgotten first.
const MAX_SESSIONS: usize = 64;

/// Sessions that are perhaps busy.
#[derive(Debug, Default)]
pub(super) struct MaybeBusy(Mutex<VecDeque<OpencodeSessionId>>);

impl MaybeBusy {
    pub(super) fn add(&self, session: &OpencodeSessionId) {
        let mut all = self.all();
        all.retain(|known| known != session);
        all.push_back(session.clone());
        if all.len() > MAX_SESSIONS {
            all.pop_front();
        }
    }

    pub(super) fn contains(&self, session: &OpencodeSessionId) -> bool {
        self.all().contains(session)
    }

    pub(super) fn remove(&self, session: &OpencodeSessionId) {
        self.all().retain(|known| known != session);
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<OpencodeSessionId>> {
        // Nothing here panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sessions_that_are_perhaps_busy_are_bounded_and_each_is_known_once() {
        let sessions = MaybeBusy::default();
        let session = |number: usize| OpencodeSessionId::new(&format!("ses_{number}")).unwrap();
        for number in (0..=MAX_SESSIONS).chain([5]) {
            sessions.add(&session(number));
        }
        assert_eq!(sessions.all().len(), MAX_SESSIONS);
        assert!(!sessions.contains(&session(0)) && sessions.contains(&session(5)));
        sessions.remove(&session(5));
        assert!(!sessions.contains(&session(5)));
    }
}
