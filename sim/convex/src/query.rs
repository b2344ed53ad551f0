//! What a query asks: an index range, an order, a filter; and the cursors of its pages.

use std::rc::Rc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use convex::Value;

use super::{
    encoding::{Interval, encode, successor},
    filter::Expression,
    store::{Document, Index, IndexId, Store},
};

/// A query over one index.
#[derive(Debug, Clone)]
pub struct Query {
    /// Which index.
    pub index: IndexId,
    /// Which keys of it.
    pub interval: Interval,
    /// From the greatest key down.
    pub descending: bool,
    /// Which of the documents found are wanted.
    pub filter: Option<Rc<Expression>>,
}

/// How a range expression compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub enum Comparison {
    Eq,
    Gt,
    Gte,
    Lt,
    Lte,
}

/// One step of a range expression: `q.eq(field, value)`; `None` is `undefined`.
pub type RangeStep = (Comparison, String, Option<Value>);

/// Finds an index by its table's and its own name; no name is the full table scan, by creation time.
pub fn find_index(store: &Store, table: &str, index: Option<&str>) -> Result<IndexId, String> {
    let found = store.table(table).ok_or_else(|| format!("Table {table} is not in the schema"))?;
    let name = index.unwrap_or("by_creation_time");
    let place = found.indexes.iter().position(|index| index.name == name);
    let place = place.ok_or_else(|| format!("Index {table}.{name} not found."))?;
    Ok(IndexId(found.number, place as u16))
}

/// Turns a range expression into the keys that it describes. Fields must come in the index's order: any number of
/// `eq`, then at most one lower and one upper bound on the next field.
pub fn range(index: &Index, steps: &[RangeStep]) -> Result<Interval, String> {
    let mut prefix = Vec::new();
    let equal = steps.iter().take_while(|(comparison, ..)| *comparison == Comparison::Eq).count();
    for (at, (_, field, value)) in steps[..equal].iter().enumerate() {
        expect_field(index, at, field)?;
        encode(value.as_ref(), &mut prefix);
    }
    let mut interval = Interval::prefix(&prefix);
    let (mut lower, mut upper) = (false, false);
    for (comparison, field, value) in &steps[equal..] {
        expect_field(index, equal, field)?;
        let mut key = prefix.clone();
        encode(value.as_ref(), &mut key);
        let bound = match comparison {
            Comparison::Gt | Comparison::Gte => &mut lower,
            Comparison::Lt | Comparison::Lte => &mut upper,
            Comparison::Eq => return Err(out_of_order(index, field)),
        };
        if std::mem::replace(bound, true) {
            return Err(format!(
                "Already defined a bound of this side for `{field}` in the range of index {}.",
                index.name
            ));
        }
        match comparison {
            Comparison::Gt => interval.start = successor(&key).expect("a key begins with a tag below 0xff"),
            Comparison::Gte => interval.start = key,
            Comparison::Lt => interval.end = Some(key),
            _ => interval.end = successor(&key),
        }
    }
    Ok(interval)
}

fn expect_field(index: &Index, at: usize, field: &str) -> Result<(), String> {
    if index.fields.get(at).is_some_and(|expected| expected == field) {
        Ok(())
    } else {
        Err(out_of_order(index, field))
    }
}

fn out_of_order(index: &Index, field: &str) -> String {
    format!(
        "Tried to query index {} but the query didn't use the index fields in order (at `{field}`).\n\
         Index fields: {:?}\n\
         For more information see https://docs.convex.dev/using/indexes.",
        index.name, index.fields
    )
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// After this key.
    After(Vec<u8>),
    /// At the end of the range.
    End,
}

/// Prints a cursor: opaque, bound to its query, and the same whenever the run is the same.
pub fn print_cursor(query: &Query, position: &Position) -> String {
    let mut bytes = fingerprint(query).to_vec();
    match position {
        Position::End => bytes.push(0),
        Position::After(key) => {
            bytes.push(1);
            bytes.extend(key);
        }
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a cursor of this query.
pub fn read_cursor(query: &Query, text: &str) -> Result<Position, String> {
    let invalid = || {
        format!(
            "InvalidCursor: Tried to run a query starting from a cursor, but it looks like this cursor is from a different query: {text}"
        )
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
    let rest = bytes.strip_prefix(&fingerprint(query)).ok_or_else(invalid)?;
    match rest.split_first() {
        Some((0, [])) => Ok(Position::End),
        Some((1, key)) => Ok(Position::After(key.to_vec())),
        _ => Err(invalid()),
    }
}

fn fingerprint(query: &Query) -> [u8; 8] {
    let Query { index, interval, descending, filter } = query;
    let text = format!("{index:?} {interval:?} {descending} {filter:?}");
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash.to_be_bytes()
}

/// How a page is asked for.
#[derive(Debug, Clone, Default)]
pub struct PageOptions {
    /// How many documents, unless `end` says where to stop.
    pub items: usize,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// Where this page is to end.
    pub end: Option<String>,
    /// At most this many documents are read.
    pub maximum_rows: Option<usize>,
    /// At most about this many bytes are read.
    pub maximum_bytes: Option<usize>,
}

/// A page of documents.
#[derive(Debug)]
pub struct Page {
    /// The documents.
    pub documents: Vec<Rc<Document>>,
    /// Whether the range is exhausted.
    pub done: bool,
    /// Where the next page begins.
    pub cursor: String,
    /// Where this page could be split, and whether it has to be.
    pub split: Option<(String, bool)>,
}
