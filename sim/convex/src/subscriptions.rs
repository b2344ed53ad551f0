//! Which live queries a commit invalidates: exactly those whose read set it touched.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use convex_sync_types::QueryId;
use tokio::sync::Notify;

use super::{
    encoding::Interval,
    store::{IndexId, Read, Touched},
};

/// All live queries of a deployment.
#[derive(Debug, Default)]
pub struct Subscriptions {
    next: u64,
    intervals: BTreeMap<IndexId, BTreeMap<u64, Vec<Interval>>>,
    watched: BTreeMap<u64, Rc<Watched>>,
}

#[derive(Debug)]
struct Watched {
    invalid: Cell<bool>,
    wake: Rc<Notify>,
}

impl Subscriptions {
    /// Marks the subscriptions that a commit touched and wakes their owners.
    pub fn invalidate(&mut self, touched: &Touched) {
        let mut hit = Vec::new();
        for (index, key) in &touched.keys {
            let Some(subscribed) = self.intervals.get(index) else { continue };
            let reads = subscribed.iter().filter(|(_, intervals)| intervals.iter().any(|i| i.contains(key)));
            hit.extend(reads.map(|(subscription, _)| *subscription));
        }
        for subscription in hit {
            let watched = &self.watched[&subscription];
            if !watched.invalid.replace(true) {
                watched.wake.notify_one();
            }
        }
    }

    fn remove(&mut self, subscription: u64) {
        self.watched.remove(&subscription);
        self.intervals.retain(|_, subscribed| {
            subscribed.remove(&subscription);
            !subscribed.is_empty()
        });
    }
}

/// A live query. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    id: u64,
    all: Rc<RefCell<Subscriptions>>,
    watched: Rc<Watched>,
}

impl Subscription {
    /// Watches a read set; `wake` is notified when it is written for the first time.
    pub fn new(all: &Rc<RefCell<Subscriptions>>, reads: Vec<Read>, wake: &Rc<Notify>) -> Self {
        let watched = Rc::new(Watched { invalid: Cell::new(false), wake: wake.clone() });
        let mut inner = all.borrow_mut();
        inner.next += 1;
        let id = inner.next;
        for Read { index, interval } in reads {
            inner.intervals.entry(index).or_default().entry(id).or_default().push(interval);
        }
        inner.watched.insert(id, watched.clone());
        Self { id, all: all.clone(), watched }
    }

    /// Whether what was read has been written since.
    pub fn is_invalid(&self) -> bool {
        self.watched.invalid.get()
    }
}

/// Takes the queries out whose subscriptions have become invalid.
pub fn take_invalid(subscriptions: &mut BTreeMap<u32, Subscription>) -> Vec<QueryId> {
    let invalid = subscriptions.iter().filter(|(_, subscription)| subscription.is_invalid());
    let ids: Vec<_> = invalid.map(|(id, _)| *id).collect();
    ids.iter().for_each(|id| drop(subscriptions.remove(id)));
    ids.into_iter().map(QueryId::new).collect()
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.all.borrow_mut().remove(self.id);
    }
}
