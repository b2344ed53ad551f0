//! What Convex is known to have, for the sessions that were seen last: so that what did not change costs no call.
//!
//! A table of fixed size. A session may stand in one of its rows only, which it shares with others. In each row those
//! that are in use stand before those that were merely listed, and whoever stands last goes first: a listing of all
//! sessions does not push out the few that will be heard of again. Forgetting costs a call that changes nothing.

use super::plan::{InConvex, fingerprint};
use crate::opencode::OpencodeSessionId;

const ROWS: usize = 64;
const PLACES: usize = 8;
/// The title of a session that no chat is linked with. No other session is so unlucky but once in 2^64.
const ABSENT: u64 = 0;
/// The fingerprint of no session's id, as above.
const NOBODY: u64 = 0;

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The fingerprint of the session's id.
    session: u64,
    /// That of its title.
    title: u64,
}

/// See the file's comment. 8 KiB, from the first session on.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Free places stand last.
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

    /// Something happened to this session; it is forgotten last.
    pub(super) fn put(&mut self, id: &OpencodeSessionId, convex: InConvex) {
        self.place(id, convex, |row, place| {
            row[..=place].rotate_right(1);
            0
        });
    }

    /// As [`Known::put`], for a session that was only listed.
    pub(super) fn put_listed(&mut self, id: &OpencodeSessionId, convex: InConvex) {
        self.place(id, convex, |_, place| place);
    }

    /// `choose` is given the row and the place that the session has in it, or may take, and says where it goes.
    fn place(
        &mut self,
        id: &OpencodeSessionId,
        convex: InConvex,
        choose: impl FnOnce(&mut [Place; PLACES], usize) -> usize,
    ) {
        let title = match convex {
            InConvex::Titled(title) => title,
            InConvex::Absent => ABSENT,
            InConvex::Unknown => return,
        };
        let session = fingerprint(id.as_str());
        self.rows.resize(ROWS, [Place::default(); PLACES]);
        let row = &mut self.rows[row_of(session)];
        let is_its = |place: &Place| place.session == session || place.session == NOBODY;
        let place = row.iter().position(is_its).unwrap_or(PLACES - 1);
        let chosen = choose(row, place);
        row[chosen] = Place { session, title };
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
    fn a_listing_of_everything_pushes_out_nobody_who_is_in_use() {
        let mut known = Known::default();
        let in_use = 1..=ROWS;
        in_use.clone().for_each(|number| known.put(&id(number), InConvex::Titled(7)));
        (1_000..50_000).for_each(|number| known.put_listed(&id(number), InConvex::Titled(8)));
        let kept = in_use.filter(|number| known.get(&id(*number)) == InConvex::Titled(7)).count();
        assert_eq!(kept, ROWS, "no row had more than its places of those in use");
    }

    #[test]
    fn what_is_known_to_be_absent_is_not_unknown() {
        let mut known = Known::default();
        assert_eq!(known.get(&id(1)), InConvex::Unknown);
        known.put(&id(1), InConvex::Absent);
        assert_eq!(known.get(&id(1)), InConvex::Absent);
    }
}
