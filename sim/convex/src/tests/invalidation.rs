//! Live queries run again exactly when what they read was written.

use proptest::prelude::*;
use tokio::sync::Notify;

use super::{fixture::*, *};
use crate::{
    encoding::{Interval, encode_float},
    query::Query,
    store::IndexId,
    subscriptions::Subscription,
    transaction::{Transaction, scan::Stream},
};

/// A range of `by_n`, read up to a number of documents.
#[derive(Debug, Clone)]
struct Range {
    from: i8,
    to: i8,
    take: usize,
    descending: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Insert(i8),
    Move(usize, i8),
    Delete(usize),
}

fn any_range() -> impl Strategy<Value = Range> {
    (0..8i8, 0..9i8, 1..4usize, any::<bool>()).prop_map(|(from, to, take, descending)| Range {
        from,
        to,
        take,
        descending,
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..8i8).prop_map(Change::Insert),
        (any::<usize>(), 0..8i8).prop_map(|(which, n)| Change::Move(which, n)),
        any::<usize>().prop_map(Change::Delete),
    ]
}

/// What an index row is sorted by.
type Row = (f64, f64, String);

fn rows(convex: &Convex) -> Vec<Row> {
    let documents = convex.table("items");
    let row = |document: &Value| match (
        field(document, "n"),
        field(document, "_creationTime"),
        field(document, "_id"),
    ) {
        (Value::Float64(n), Value::Float64(time), Value::String(id)) => (n, time, id),
        other => panic!("{other:?}"),
    };
    let mut rows: Vec<_> = documents.iter().map(row).collect();
    rows.sort_by(|a, b| a.partial_cmp(b).unwrap());
    rows
}

impl Range {
    fn query(&self) -> Query {
        let bound = |n: i8| {
            let mut key = Vec::new();
            encode_float(f64::from(n), &mut key);
            key
        };
        let interval = Interval { start: bound(self.from), end: Some(bound(self.to)) };
        // Table 16 is the schema's first; its third index is its first declared one, `by_n`.
        Query { index: IndexId(16, 2), interval, descending: self.descending, filter: None }
    }

    fn holds(&self, row: &Row) -> bool {
        f64::from(self.from) <= row.0 && row.0 < f64::from(self.to)
    }

    /// The rows that it yields, and whether a row lies in what it had to look at.
    fn model(&self, rows: &[Row]) -> (Vec<Row>, impl Fn(&Row) -> bool) {
        let mut found: Vec<_> = rows.iter().filter(|row| self.holds(row)).cloned().collect();
        if self.descending {
            found.reverse();
        }
        found.truncate(self.take);
        let last = found.last().filter(|_| found.len() == self.take).cloned();
        let range = self.clone();
        let covers = move |row: &Row| {
            let before = |last: &Row| if range.descending { row >= last } else { row <= last };
            range.holds(row) && last.as_ref().is_none_or(before)
        };
        (found, covers)
    }
}

fn read(convex: &Convex, range: &Range) -> (Vec<String>, Transaction) {
    let store = convex.0.store.borrow();
    let mut transaction = Transaction::new(store.last_ts(), START);
    let found = transaction.read(&store, &mut Stream::new(range.query()), range.take).unwrap();
    (found.iter().map(|document| document.id.to_string()).collect(), transaction)
}

fn write(convex: &Convex, change: &Change) {
    let rows = rows(convex);
    let id = |which: usize| rows.get(which % rows.len().max(1)).map(|(.., id)| id::Id::parse(id).unwrap());
    let now = (convex.0.options.clock)();
    let mut transaction = Transaction::new(convex.present().last_ts, now);
    {
        let store = convex.0.store.borrow();
        match *change {
            Change::Insert(n) => {
                let id = id::Id::draw(16, &mut *convex.0.random.borrow_mut());
                transaction.insert(&store, id, item("x", f64::from(n), None)).unwrap();
            }
            Change::Move(which, n) => {
                let Some(id) = id(which) else { return };
                let patch = BTreeMap::from([("n".to_owned(), Some(f64::from(n).into()))]);
                transaction.patch(&store, id, patch).unwrap();
            }
            Change::Delete(which) => {
                let Some(id) = id(which) else { return };
                transaction.delete(&store, id).unwrap();
            }
        }
    }
    convex.apply(&transaction.writes());
}

fn replay(ranges: &[Range], changes: &[Change]) {
    let (convex, _) = deploy(FIXTURE, Duration::ZERO, SyncOptions::default());
    for change in changes {
        let before = rows(&convex);
        let wake = Rc::new(Notify::new());
        let watched: Vec<_> = ranges
            .iter()
            .map(|range| {
                let (found, transaction) = read(&convex, range);
                let (expected, covers) = range.model(&before);
                assert_eq!(found, expected.into_iter().map(|(.., id)| id).collect::<Vec<_>>(), "{range:?}");
                (range, covers, Subscription::new(&convex.0.subscriptions, transaction.reads, &wake))
            })
            .collect();
        write(&convex, change);
        let after = rows(&convex);
        // A document that was patched without moving is written all the same.
        let touched = |row: &&Row| {
            !after.contains(row)
                || matches!(change, Change::Move(which, _) if before.get(which % before.len()) == Some(*row))
        };
        let old = before.iter().filter(touched);
        let new = after.iter().filter(|row| !before.contains(row));
        let written: Vec<_> = old.chain(new).collect();
        for (range, covers, subscription) in &watched {
            let expected = written.iter().any(|row| covers(row));
            assert_eq!(subscription.is_invalid(), expected, "{range:?} after {change:?} of {before:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_query_is_invalidated_exactly_when_its_read_set_is_written(
        ranges in prop::collection::vec(any_range(), 1..6),
        changes in prop::collection::vec(any_change(), 1..40),
    ) {
        simulate(|| async move { replay(&ranges, &changes) });
    }
}

#[test]
fn a_transaction_sees_its_own_writes_in_order() {
    simulate(|| async {
        let (convex, _) = deploy(FIXTURE, Duration::ZERO, SyncOptions::default());
        for n in [1, 3, 5] {
            write(&convex, &Change::Insert(n));
        }
        let all = Range { from: 0, to: 9, take: 10, descending: false };
        let store = convex.0.store.borrow();
        let mut transaction = Transaction::new(store.last_ts(), START);
        let ids = read(&convex, &all).0;
        let id = |at: usize| id::Id::parse(&ids[at]).unwrap();
        transaction.patch(&store, id(0), BTreeMap::from([("n".to_owned(), Some(4.0.into()))])).unwrap();
        transaction.delete(&store, id(1)).unwrap();
        let added = id::Id::draw(16, &mut *convex.0.random.borrow_mut());
        transaction.insert(&store, added, item("new", 2.0, None)).unwrap();
        let found = transaction.read(&store, &mut Stream::new(all.query()), 10).unwrap();
        let seen: Vec<_> = found.iter().map(|document| document.id).collect();
        assert_eq!(seen, [added, id(0), id(2)]);
        let down = Range { descending: true, ..all };
        let found = transaction.read(&store, &mut Stream::new(down.query()), 2).unwrap();
        assert_eq!(found.iter().map(|document| document.id).collect::<Vec<_>>(), [id(2), id(0)]);
    });
}
