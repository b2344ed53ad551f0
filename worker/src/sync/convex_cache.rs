//! What Convex is known to have, for the sessions that were seen last: so that what did not change costs no call.

use std::hash::RandomState;

use lru::LruCache;

use super::plan::{InConvex, fingerprint};
use crate::opencode::OpencodeSessionId;

/// Sessions that are remembered. Forgetting one costs a call that changes nothing.
const CAPACITY: usize = 512;

/// A bounded cache by the fingerprints of ids, of which two are the same once in 2^64.
#[derive(Debug)]
pub(super) struct ConvexCache {
    /// The standard hasher, as in [`SessionCache`](crate::session::cache::SessionCache). Bounded here, because a bounded
    /// `LruCache` takes the room of all its entries at once, and most workers see few sessions.
    entries: LruCache<u64, InConvex, RandomState>,
}

impl Default for ConvexCache {
    fn default() -> Self {
        Self { entries: LruCache::unbounded_with_hasher(RandomState::new()) }
    }
}

impl ConvexCache {
    /// Looks a session up, which is no use of it.
    pub(super) fn get(&self, id: &OpencodeSessionId) -> InConvex {
        self.entries.peek(&fingerprint(id.as_str())).copied().unwrap_or(InConvex::Unknown)
    }

    /// Remembers a session to which something happened; it is forgotten last.
    pub(super) fn put(&mut self, id: &OpencodeSessionId, convex: InConvex) {
        if convex != InConvex::Unknown {
            self.entries.put(fingerprint(id.as_str()), convex);
        }
        if self.entries.len() > CAPACITY {
            self.entries.pop_lru();
        }
    }

    /// Remembers a session that was only listed; it is forgotten first. So a listing of all sessions does not push out
    /// the few that will be heard of again.
    pub(super) fn put_listed(&mut self, id: &OpencodeSessionId, convex: InConvex) {
        self.put(id, convex);
        self.entries.demote(&fingerprint(id.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> OpencodeSessionId {
        OpencodeSessionId::new(&format!("ses_{number}")).unwrap()
    }

    #[test]
    fn ten_thousand_sessions_are_known_rightly_or_not_at_all() {
        let mut cache = ConvexCache::default();
        for number in 1..10_000 {
            cache.put(&id(number), InConvex::Titled(number as u64));
        }
        let known: Vec<_> = (1..10_000).filter(|n| cache.get(&id(*n)) != InConvex::Unknown).collect();
        assert_eq!(known.len(), CAPACITY);
        assert!(known.iter().all(|n| cache.get(&id(*n)) == InConvex::Titled(*n as u64)));
    }

    #[test]
    fn a_listing_of_everything_pushes_out_nobody_who_is_in_use() {
        let mut cache = ConvexCache::default();
        let in_use = 1..CAPACITY;
        in_use.clone().for_each(|number| cache.put(&id(number), InConvex::Titled(7)));
        (1_000..50_000).for_each(|number| cache.put_listed(&id(number), InConvex::Titled(8)));
        assert!(in_use.into_iter().all(|number| cache.get(&id(number)) == InConvex::Titled(7)));
    }

    #[test]
    fn what_is_known_to_be_absent_is_not_unknown() {
        let mut cache = ConvexCache::default();
        assert_eq!(cache.get(&id(1)), InConvex::Unknown);
        cache.put(&id(1), InConvex::Absent);
        assert_eq!(cache.get(&id(1)), InConvex::Absent);
    }
}
