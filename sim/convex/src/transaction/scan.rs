//! Reading index ranges: what a transaction sees, and exactly what that adds to its read set.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    rc::Rc,
};

use super::{Overlay, Transaction};
use crate::{
    encoding::{Interval, successor},
    limits,
    query::{Page, PageOptions, Position, Query, print_cursor, read_cursor},
    store::{Document, Read, Store},
};

/// A query that is being read, front to back.
#[derive(Debug)]
pub struct Stream {
    query: Query,
    /// What was not read yet.
    rest: Interval,
    /// Where the transaction's read set holds what this stream read so far.
    read: Option<usize>,
    done: bool,
}

impl Stream {
    /// A stream that has read nothing.
    pub fn new(query: Query) -> Self {
        let rest = query.interval.clone();
        Self { query, done: rest.is_empty(), rest, read: None }
    }

    /// Whether the range is exhausted.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Skips what lies at or before a position.
    fn skip_to(&mut self, position: &Position) {
        match position {
            Position::End => self.done = true,
            Position::After(key) => self.cut(key),
        }
    }

    fn cut(&mut self, key: &[u8]) {
        if self.query.descending {
            self.rest.end = Some(key.to_vec());
        } else {
            self.rest.start = successor(key).expect("a key begins with a tag below 0xff");
        }
        self.done |= self.rest.is_empty();
    }

    /// Leaves out what lies beyond a position.
    fn stop_at(&mut self, key: &[u8]) {
        if self.query.descending {
            self.rest.start = key.to_vec();
        } else {
            self.rest.end = successor(key);
        }
        self.done |= self.rest.is_empty();
    }
}

/// What stops a read before the range is exhausted.
#[derive(Debug, Clone, Copy)]
struct Budget {
    items: usize,
    rows: usize,
    bytes: usize,
}

impl Budget {
    fn items(items: usize) -> Self {
        Self { items, rows: usize::MAX, bytes: usize::MAX }
    }
}

/// What one read found.
#[derive(Default)]
struct Found {
    documents: Vec<Rc<Document>>,
    /// Key of each of the documents.
    keys: Vec<Vec<u8>>,
    /// The last key that was looked at, if the range was not exhausted.
    stopped_at: Option<Vec<u8>>,
    rows: usize,
    bytes: usize,
}

impl Transaction {
    /// Reads at most `items` further documents.
    pub fn read(
        &mut self,
        store: &Store,
        stream: &mut Stream,
        items: usize,
    ) -> Result<Vec<Rc<Document>>, String> {
        if stream.done || items == 0 {
            return Ok(Vec::new());
        }
        Ok(self.advance(store, stream, Budget::items(items))?.documents)
    }

    fn advance(&mut self, store: &Store, stream: &mut Stream, budget: Budget) -> Result<Found, String> {
        let read = match stream.read {
            Some(read) => read,
            None => {
                let nothing =
                    Interval { start: stream.rest.start.clone(), end: Some(stream.rest.start.clone()) };
                self.note_range(Read { index: stream.query.index, interval: nothing })?;
                *stream.read.insert(self.reads.len() - 1)
            }
        };
        let found = self.find(store, &stream.query, &stream.rest, budget);
        let first = self.reads[read].interval.is_empty();
        let mut covered = stream.rest.clone();
        match &found {
            Ok(Found { stopped_at: Some(key), .. }) if stream.query.descending => {
                covered.start.clone_from(key)
            }
            Ok(Found { stopped_at: Some(key), .. }) => covered.end = successor(key),
            _ => stream.done = true,
        }
        let interval = &mut self.reads[read].interval;
        if stream.query.descending {
            interval.start.clone_from(&covered.start);
            if first {
                interval.end = covered.end;
            }
        } else {
            interval.end = covered.end;
        }
        if let Ok(Found { stopped_at: Some(key), .. }) = &found {
            stream.cut(key);
        }
        found
    }

    fn find(
        &mut self,
        store: &Store,
        query: &Query,
        rest: &Interval,
        budget: Budget,
    ) -> Result<Found, String> {
        let empty = Overlay::new();
        let overlays = std::mem::take(&mut self.buffer.overlays);
        let overlay = overlays.get(&query.index).unwrap_or(&empty);
        let entries = merged(&store.index_by_id(query.index).entries, overlay, rest, query.descending);
        let found = self.collect(entries, query, budget);
        self.buffer.overlays = overlays;
        found
    }

    fn collect<'a>(
        &mut self,
        entries: impl Iterator<Item = (&'a Vec<u8>, &'a Rc<Document>)>,
        query: &Query,
        budget: Budget,
    ) -> Result<Found, String> {
        let mut found = Found::default();
        for (key, document) in entries {
            self.note_document(document)?;
            found.rows += 1;
            found.bytes += document.size;
            if query.filter.as_ref().map_or(Ok(true), |filter| filter.accepts(document))? {
                found.documents.push(document.clone());
                found.keys.push(key.clone());
            }
            if found.documents.len() >= budget.items
                || found.rows >= budget.rows
                || found.bytes >= budget.bytes
            {
                found.stopped_at = Some(key.clone());
                break;
            }
        }
        Ok(found)
    }

    /// Reads a page. One function may read one page only. `journal` is where this page ended when a live query last
    /// ran; `None` for a first run.
    pub fn paginate(
        &mut self,
        store: &Store,
        query: Query,
        options: &PageOptions,
        journal: Option<&str>,
    ) -> Result<Page, String> {
        if std::mem::replace(&mut self.paginated, true) {
            return Err("This query or mutation function ran multiple paginated queries. Convex only supports a single paginated query in each function.".into());
        }
        if options.items == 0 {
            return Err("NoDocumentsForPagination: Must request at least 1 document while paginating".into());
        }
        if options.items > limits::DOCUMENTS_READ {
            return Err(format!(
                "PageSizeTooLarge: Page size {} is larger than the maximum {}",
                options.items,
                limits::DOCUMENTS_READ
            ));
        }
        let mut stream = Stream::new(query.clone());
        if let Some(cursor) = &options.cursor {
            stream.skip_to(&read_cursor(&query, cursor)?);
        }
        let end = options.end.as_deref().or(journal).map(|end| read_cursor(&query, end)).transpose()?;
        let mut budget = Budget {
            items: options.items,
            rows: options.maximum_rows.unwrap_or(usize::MAX),
            bytes: options.maximum_bytes.unwrap_or(usize::MAX),
        };
        if let Some(end) = &end {
            budget.items = usize::MAX;
            if let Position::After(key) = end {
                stream.stop_at(key);
            }
        }
        let found = if stream.done { Found::default() } else { self.advance(store, &mut stream, budget)? };
        let position = match (&found.stopped_at, end) {
            (Some(key), _) => Position::After(key.clone()),
            (None, Some(end)) => end,
            (None, None) => Position::End,
        };
        Ok(Page {
            done: position == Position::End,
            cursor: print_cursor(&query, &position),
            split: split(&query, &found),
            documents: found.documents,
        })
    }
}

/// Long pages are to be split in their middle: recommended from 75 % of a limit.
fn split(query: &Query, found: &Found) -> Option<(String, bool)> {
    let near = |used: usize, limit: usize| used * 4 >= limit * 3;
    let recommended = found.documents.len() > limits::PAGE_SPLIT_ROWS
        || near(found.rows, limits::DOCUMENTS_READ)
        || near(found.bytes, limits::BYTES_READ);
    let middle = found.keys.get(found.keys.len() / 2).filter(|_| recommended)?;
    Some((print_cursor(query, &Position::After(middle.clone())), false))
}

type Entry<'a> = (&'a Vec<u8>, &'a Rc<Document>);

/// The committed entries with the transaction's own changes on top, in the query's order.
fn merged<'a>(
    base: &'a BTreeMap<Vec<u8>, Rc<Document>>,
    overlay: &'a Overlay,
    interval: &'a Interval,
    descending: bool,
) -> Box<dyn Iterator<Item = Entry<'a>> + 'a> {
    let end = interval.end.as_deref().map_or(Unbounded, Excluded);
    let bounds = (Included(interval.start.as_slice()), end);
    let base = base.range::<[u8], _>(bounds);
    let overlay = overlay.range::<[u8], _>(bounds);
    if descending {
        Box::new(merge(base.rev(), overlay.rev(), |a, b| a > b))
    } else {
        Box::new(merge(base, overlay, |a, b| a < b))
    }
}

fn merge<'a>(
    base: impl Iterator<Item = Entry<'a>>,
    overlay: impl Iterator<Item = (&'a Vec<u8>, &'a Option<Rc<Document>>)>,
    before: impl Fn(&Vec<u8>, &Vec<u8>) -> bool,
) -> impl Iterator<Item = Entry<'a>> {
    let (mut base, mut overlay) = (base.peekable(), overlay.peekable());
    std::iter::from_fn(move || {
        loop {
            let Some((changed, _)) = overlay.peek() else { return base.next() };
            match base.peek() {
                Some((key, _)) if before(key, changed) => return base.next(),
                Some((key, _)) if key == changed => {
                    base.next();
                }
                _ => {}
            }
            if let Some((key, Some(document))) = overlay.next() {
                return Some((key, document));
            }
        }
    })
}
