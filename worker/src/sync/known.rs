//! What Convex is known to have, for the sessions that were seen last: so that what did not change costs no call.
//!
//! A table of fixed size. A session may stand in one of its rows only, which it shares with others: the last few of a
//! row have it. Forgetting costs a call that changes nothing.

use super::plan::{InConvex, fingerprint};
use crate::opencode::OpencodeSessionId;

const ROWS: usize = 64;
const PLACES: usize = 8;
/// The title of a session that no chat is linked with. No other session is so unlucky but once in 2^64.
const ABSENT: u64 = 0;

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The fingerprint of the session's id; 0 for nobody's.
    session: u64,
    /// That of its title.
    title: u64,
}

/// See the file's comment. 8 KiB, from the first session on.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// In each row whoever came last stands first.
    rows: Vec<[Place; PLACES]>,
}

impl Known {
    pub(super) fn get(&self, id: &OpencodeSessionId) -> InConvex {
        let session = fingerprint(id.as_str());
        let row = self.rows.get(row_of(session)).map_or(&[][..], |row| row);
        match row.iter().find(|place| place.session == session) {
            None => InConvex::Unknown,
            Some(Place { title: ABSENT, .. }) => InConvex::Absent,
            Some(Place { title, .. }) => InConvex::Titled(*title),
        }
    }

    pub(super) fn put(&mut self, id: &OpencodeSessionId, convex: InConvex) {
        let title = match convex {
            InConvex::Titled(title) => title,
            InConvex::Absent => ABSENT,
            InConvex::Unknown => return,
        };
        let session = fingerprint(id.as_str());
        self.rows.resize(ROWS, [Place::default(); PLACES]);
        let row = &mut self.rows[row_of(session)];
        let place = row.iter().position(|place| place.session == session).unwrap_or(PLACES - 1);
        row[..=place].rotate_right(1);
        row[0] = Place { session, title };
    }
}

fn row_of(session: u64) -> usize {
    // The remainder is below 64.
    (session % ROWS as u64) as usize
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
        for number in 1..10_000 {
            known.put(&id(number), InConvex::Titled(number as u64));
            assert_eq!(known.get(&id(number)), InConvex::Titled(number as u64));
        }
        let kept = (1..10_000).filter(|number| known.get(&id(*number)) != InConvex::Unknown);
        let kept: Vec<_> = kept.collect();
        assert!(
            kept.len() <= ROWS * PLACES
                && kept.iter().all(|n| known.get(&id(*n)) == InConvex::Titled(*n as u64))
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
