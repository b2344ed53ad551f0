//! Which OpenCode session belongs to which session, for the sessions that were used last.
//!
//! Nothing is loaded at start. A session enters when its first turn is prompted and leaves when it is the least
//! recently used one. Forgetting costs nothing: the backend has the link, and a running turn holds its own copy.

use std::{hash::RandomState, num::NonZeroUsize};

use lru::LruCache;

use crate::{convex::api::SessionId, opencode::OpencodeSessionId};

/// A bounded cache; its memory does not depend on how many sessions exist.
pub(crate) struct SessionCache {
    /// The standard hasher takes its keys from the operating system, so simulation controls them; the crate's own
    /// takes them from addresses, and the table's growth would differ from run to run.
    entries: LruCache<SessionId, Entry, RandomState>,
}

struct Entry {
    opencode: OpencodeSessionId,
    /// It keeps a model that does not exist.
    is_spoiled: bool,
}

impl SessionCache {
    /// Remembers at most `capacity` sessions.
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self { entries: LruCache::with_hasher(capacity, RandomState::new()) }
    }

    /// The session's OpenCode session, which counts as a use.
    pub(crate) fn get(&mut self, session: &str) -> Option<&OpencodeSessionId> {
        self.entries.get(session).map(|entry| &entry.opencode)
    }

    /// Notes that the session's OpenCode session keeps a model that does not exist.
    pub(crate) fn spoil(&mut self, session: &str) {
        self.entries.peek_mut(session).into_iter().for_each(|entry| entry.is_spoiled = true);
    }

    /// Returns true if it is known to keep such a model.
    pub(crate) fn is_spoiled(&self, session: &str) -> bool {
        self.entries.peek(session).is_some_and(|entry| entry.is_spoiled)
    }

    /// Remembers a link. Beyond capacity the least recently used session is forgotten.
    pub(crate) fn insert(&mut self, session: SessionId, opencode: OpencodeSessionId) {
        self.entries.put(session, Entry { opencode, is_spoiled: false });
    }

    /// Forgets a session: its OpenCode session is gone.
    pub(crate) fn forget(&mut self, session: &str) {
        self.entries.pop(session);
    }

    /// Returns how many sessions are remembered.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_of(capacity: usize, sessions: &[&str]) -> SessionCache {
        let mut cache = SessionCache::new(NonZeroUsize::new(capacity).unwrap());
        for session in sessions {
            cache.insert((*session).into(), OpencodeSessionId::new(&format!("ses_{session}")).unwrap());
        }
        cache
    }

    #[test]
    fn the_least_recently_used_session_is_forgotten_first() {
        let mut cache = cache_of(2, &["a", "b"]);
        cache.get("a");
        cache.insert("c".into(), OpencodeSessionId::new("ses_c").unwrap());
        assert_eq!(cache.get("b"), None);
        assert_eq!(cache.get("a").map(OpencodeSessionId::as_str), Some("ses_a"));
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn a_session_is_spoiled_until_it_is_used_again() {
        let mut cache = cache_of(2, &["a", "b"]);
        cache.spoil("a");
        cache.spoil("unknown");
        assert!(cache.is_spoiled("a") && !cache.is_spoiled("b") && !cache.is_spoiled("unknown"));
        cache.insert("a".into(), OpencodeSessionId::new("ses_a").unwrap());
        assert!(!cache.is_spoiled("a"));
    }

    #[test]
    fn a_thousand_sessions_take_no_more_room_than_the_capacity() {
        let names: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
        let cache = cache_of(8, &names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(cache.len(), 8);
    }
}
