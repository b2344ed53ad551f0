//! What Convex is known to have, for the sessions that were seen last: so that what did not change costs no call.
//!
//! A table of fixed size. A session has one place, which it shares with others: whoever comes last has it. Forgetting
//! costs a call that changes nothing.

use super::plan::{InConvex, fingerprint};
use crate::opencode::OpencodeSessionId;

/// Places in the table: 16 KiB.
const PLACES: usize = 512;

#[derive(Debug, Clone, Copy)]
struct Place {
    /// The fingerprint of the session's id; 0 for nobody's.
    session: u64,
    title: Option<u64>,
}

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Known {
    places: Box<[Place]>,
}

impl Default for Known {
    fn default() -> Self {
        Self { places: vec![Place { session: 0, title: None }; PLACES].into() }
    }
}

impl Known {
    pub(super) fn get(&self, id: &OpencodeSessionId) -> InConvex {
        let session = fingerprint(id.as_str());
        let place = &self.places[place_of(session)];
        match place.title {
            _ if place.session != session => InConvex::Unknown,
            Some(title) => InConvex::Titled(title),
            None => InConvex::Absent,
        }
    }

    pub(super) fn put(&mut self, id: &OpencodeSessionId, convex: InConvex) {
        let title = match convex {
            InConvex::Titled(title) => Some(title),
            InConvex::Absent => None,
            InConvex::Unknown => return,
        };
        let session = fingerprint(id.as_str());
        self.places[place_of(session)] = Place { session, title };
    }
}

fn place_of(session: u64) -> usize {
    // The remainder is below 512.
    (session % PLACES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> OpencodeSessionId {
        OpencodeSessionId::new(&format!("ses_{number}")).unwrap()
    }

    #[test]
    fn ten_thousand_sessions_are_known_rightly_or_not_at_all() {
        let mut known = Known::default();
        for number in 0..10_000 {
            known.put(&id(number), InConvex::Titled(number as u64));
            assert_eq!(known.get(&id(number)), InConvex::Titled(number as u64));
        }
        let kept = (0..10_000).filter(|number| known.get(&id(*number)) != InConvex::Unknown);
        let kept: Vec<_> = kept.collect();
        assert!(
            kept.len() <= PLACES && kept.iter().all(|n| known.get(&id(*n)) == InConvex::Titled(*n as u64))
        );
    }

    #[test]
    fn what_is_known_to_be_absent_is_not_unknown() {
        let mut known = Known::default();
        assert_eq!(known.get(&id(1)), InConvex::Unknown);
        known.put(&id(1), InConvex::Absent);
        assert_eq!(known.get(&id(1)), InConvex::Absent);
    }
}
