//! A store of the fake Convex with one table of turns, as the backend's schema has it.

use std::{collections::BTreeMap, rc::Rc};

use convex::Value;
use fake_convex::{
    id::Id,
    query::{Comparison, Page, PageOptions, Query, find_index, range},
    schema::{IndexSchema, TableSchema},
    store::{Document, Read, Store, Touched},
    transaction::{Transaction, scan::Stream},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng as _};

/// The table.
const TURNS: &str = "turns";
/// Its index.
const BY_SESSION: &str = "by_session";
/// Its number.
const NUMBER: u16 = 16;
/// 2026-01-01, in nanoseconds.
const NOW: u64 = 1_767_225_600_000_000_000;

/// A store and what draws its ids.
pub struct Turns {
    store: Store,
    random: ChaCha8Rng,
    sessions: u64,
}

impl Turns {
    /// A store with `count` turns in `sessions` sessions.
    #[must_use]
    pub fn new(count: u64, sessions: u64) -> Self {
        let index = |name: &str, fields: &[&str]| IndexSchema {
            name: name.into(),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        };
        let indexes = vec![index(BY_SESSION, &["session"]), index("by_worker_state", &["worker", "state"])];
        let table = TableSchema { name: TURNS.into(), number: NUMBER, validator: None, indexes };
        let (store, random) = (Store::new(&[table], NOW), ChaCha8Rng::seed_from_u64(1));
        let mut turns = Self { store, random, sessions };
        (0..count).for_each(|number| drop(turns.insert(number)));
        turns
    }

    /// Inserts and commits turn number `number`. Returns what that touched.
    ///
    /// # Panics
    /// If the store refuses it.
    pub fn insert(&mut self, number: u64) -> Rc<Touched> {
        let mut transaction = Transaction::new(self.store.last_ts(), NOW);
        let id = Id::draw(NUMBER, &mut self.random);
        let fields = fields(number % self.sessions);
        transaction.insert(&self.store, id, fields).expect("the table takes turns");
        self.store.commit(&transaction.writes(), NOW)
    }

    /// The turns of a session, at most `items` of them, and what was read for it.
    ///
    /// # Panics
    /// If there is no such index.
    #[must_use]
    pub fn of_session(&self, session: u64, items: usize) -> (Vec<Rc<Document>>, Vec<Read>) {
        let mut transaction = Transaction::new(self.store.last_ts(), NOW);
        let mut stream = Stream::new(self.query(session));
        let found = transaction.read(&self.store, &mut stream, items).expect("the index is there");
        (found, transaction.reads)
    }

    /// A page of a session's turns.
    ///
    /// # Panics
    /// If there is no such index.
    #[must_use]
    pub fn page(&self, session: u64, items: usize) -> Page {
        let mut transaction = Transaction::new(self.store.last_ts(), NOW);
        let options = PageOptions { items, ..PageOptions::default() };
        transaction.paginate(&self.store, self.query(session), &options, None).expect("a first page")
    }

    fn query(&self, session: u64) -> Query {
        let index = find_index(&self.store, TURNS, Some(BY_SESSION)).expect("declared above");
        let steps = [(Comparison::Eq, "session".to_owned(), Some(name(session)))];
        let interval = range(self.store.index_by_id(index), &steps).expect("a field of the index");
        Query { index, interval, descending: false, filter: None }
    }

    /// The keys of the index by session, as a plain map: what a query cannot be faster than.
    ///
    /// # Panics
    /// If there is no such index.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<Vec<u8>, Rc<Document>> {
        let index = find_index(&self.store, TURNS, Some(BY_SESSION)).expect("declared above");
        &self.store.index_by_id(index).entries
    }

    /// The keys of a session in that map.
    #[must_use]
    pub fn interval(&self, session: u64) -> (Vec<u8>, Option<Vec<u8>>) {
        let interval = self.query(session).interval;
        (interval.start, interval.end)
    }
}

fn name(session: u64) -> Value {
    format!("session {session:04}").into()
}

fn fields(session: u64) -> BTreeMap<String, Value> {
    let fields = [
        ("session", name(session)),
        ("worker", "worker 1".into()),
        ("state", "completed".into()),
        ("content", "What does this test check?".into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_found_and_touches_its_readers_alone() {
        let mut turns = Turns::new(100, 10);
        let (found, reads) = turns.of_session(3, 100);
        assert_eq!(found.len(), 10);
        assert_eq!(turns.page(3, 4).documents.len(), 4);
        let (start, end) = turns.interval(3);
        let plain = turns.entries().range(start..end.unwrap()).count();
        assert_eq!(plain, 10);
        let [hit, missed] = [3, 4].map(|session| turns.insert(session));
        let is_hit = |touched: &Touched| reads.iter().any(|read| read.is_hit_by(touched));
        assert!(is_hit(&hit) && !is_hit(&missed));
    }
}
