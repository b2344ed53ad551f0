//! The committed documents, their indexes, and the log of commits.
//!
//! A function runs synchronously at the newest timestamp, so only one version of each document is kept; what
//! optimistic concurrency needs of the past is the log of written index keys.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use convex::Value;

use super::{
    encoding::{Interval, encode, encode_float, encode_str},
    id::{Id, TableNumber},
    schema::{IndexSchema, TableSchema},
    validator::Validator,
};

/// A stored document.
#[derive(Debug)]
pub struct Document {
    /// Its id.
    pub id: Id,
    /// When the transaction that inserted it began, in milliseconds.
    pub creation_time: f64,
    /// All fields, `_id` and `_creationTime` too.
    pub value: Value,
    /// Its size in bytes.
    pub size: usize,
}

impl Document {
    /// The fields.
    pub fn fields(&self) -> &BTreeMap<String, Value> {
        let Value::Object(fields) = &self.value else { unreachable!("a document is an object") };
        fields
    }
}

/// Names an index: the table's number and the index's place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexId(pub TableNumber, pub u16);

/// The place of `by_id` in every table.
pub const BY_ID: u16 = 0;
/// The place of `by_creation_time` in every table.
pub const BY_CREATION_TIME: u16 = 1;

/// An index with its committed entries.
#[derive(Debug)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Its fields, with the implicit `_creationTime`, without the implicit `_id` (except for `by_id`).
    pub fields: Vec<String>,
    /// Key to document, in Convex order.
    pub entries: BTreeMap<Vec<u8>, Rc<Document>>,
}

impl Index {
    fn new(name: &str, fields: &[&str]) -> Self {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Self { name: name.into(), fields, entries: BTreeMap::new() }
    }

    fn declared(schema: &IndexSchema) -> Self {
        let mut fields = schema.fields.clone();
        fields.push("_creationTime".into());
        Self { name: schema.name.clone(), fields, entries: BTreeMap::new() }
    }

    /// The key of a document in this index.
    pub fn key(&self, document: &Document) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        for field in &self.fields {
            match field.as_str() {
                "_id" => {}
                "_creationTime" => encode_float(document.creation_time, &mut key),
                path => encode(lookup(document.fields(), path), &mut key),
            }
        }
        encode_str(document.id.as_str(), &mut key);
        key
    }
}

/// The value at a dotted path; `None` is `undefined`.
pub fn lookup<'a>(fields: &'a BTreeMap<String, Value>, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => fields.get(path),
        Some((head, rest)) => match fields.get(head)? {
            Value::Object(inner) => lookup(inner, rest),
            _ => None,
        },
    }
}

/// A table with its committed documents.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: Rc<str>,
    /// The number inside its documents' ids.
    pub number: TableNumber,
    /// What its documents must look like, without system fields.
    pub validator: Option<Rc<Validator>>,
    /// `by_id`, `by_creation_time`, then the declared ones.
    pub indexes: Vec<Index>,
}

impl Table {
    fn new(schema: &TableSchema) -> Self {
        let mut indexes =
            vec![Index::new("by_id", &["_id"]), Index::new("by_creation_time", &["_creationTime"])];
        indexes.extend(schema.indexes.iter().map(Index::declared));
        Self {
            name: schema.name.clone(),
            number: schema.number,
            validator: schema.validator.clone(),
            indexes,
        }
    }

    fn check(&self, document: &Document) -> Result<(), String> {
        let Some(validator) = &self.validator else { return Ok(()) };
        let declared = document.fields().iter().filter(|(name, _)| !name.starts_with('_'));
        let fields = declared.map(|(name, field)| (name.clone(), field.clone())).collect();
        validator.check(&Value::Object(fields)).map_err(|why| {
            let (id, table) = (document.id, &self.name);
            format!(
                "Schema validation failed. Document with ID \"{id}\" in table \"{table}\" does not match the schema: {why}"
            )
        })
    }

    /// The document with an id.
    pub fn get(&self, id: Id) -> Option<&Rc<Document>> {
        let mut key = Vec::with_capacity(40);
        encode_str(id.as_str(), &mut key);
        self.indexes[usize::from(BY_ID)].entries.get(&key)
    }
}

/// What a commit did to one document.
#[derive(Debug, Clone)]
pub struct Write {
    /// The table's name.
    pub table: Rc<str>,
    /// The document's id.
    pub id: Id,
    /// The document before; `None` if this inserts it.
    pub old: Option<Rc<Document>>,
    /// The document after; `None` if this deletes it.
    pub new: Option<Rc<Document>>,
}

/// The index keys that one commit touched: those of the old and of the new versions.
#[derive(Debug)]
pub struct Touched {
    /// When it was committed, in nanoseconds since the Unix epoch.
    pub ts: u64,
    /// Which keys of which indexes.
    pub keys: Vec<(IndexId, Vec<u8>)>,
}

/// A part of a transaction's read set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Which index was read.
    pub index: IndexId,
    /// Which keys of it.
    pub interval: Interval,
}

impl Read {
    /// Whether a commit touched what was read.
    pub fn is_hit_by(&self, touched: &Touched) -> bool {
        touched.keys.iter().any(|(index, key)| *index == self.index && self.interval.contains(key))
    }
}

/// Commits are at least this far apart, in nanoseconds. In simulation time can stand still over many commits; they
/// differ by so much that `_creationTime`, a float of milliseconds, still tells one mutation from the next.
const COMMIT_STEP: u64 = 256;

/// The committed state of a deployment.
#[derive(Debug)]
pub struct Store {
    tables: BTreeMap<TableNumber, Table>,
    numbers: BTreeMap<Rc<str>, TableNumber>,
    last_ts: u64,
    /// Commits since the oldest transaction that is still open; empty when none is.
    log: VecDeque<Rc<Touched>>,
    /// Begin timestamps of open transactions, with how many began there.
    open: BTreeMap<u64, usize>,
}

impl Store {
    /// An empty deployment with these tables, at this timestamp.
    pub fn new(tables: &[TableSchema], now: u64) -> Self {
        Self {
            tables: tables.iter().map(|schema| (schema.number, Table::new(schema))).collect(),
            numbers: tables.iter().map(|schema| (schema.name.clone(), schema.number)).collect(),
            last_ts: now,
            log: VecDeque::new(),
            open: BTreeMap::new(),
        }
    }

    /// The numbers of all tables.
    pub fn numbers(&self) -> BTreeMap<String, TableNumber> {
        self.numbers.iter().map(|(name, number)| (name.to_string(), *number)).collect()
    }

    /// Takes over all documents of another store, whose tables have the same numbers here. Refused if one has no table or
    /// does not match it, with what Convex says then.
    pub fn take_over(&mut self, old: &Self) -> Result<(), String> {
        for table in old.tables.values() {
            for document in table.indexes[usize::from(BY_CREATION_TIME)].entries.values() {
                let declared = self.tables.get_mut(&table.number);
                let new = declared.ok_or_else(|| format!("table \"{}\" has documents", table.name))?;
                new.check(document)?;
                for index in &mut new.indexes {
                    index.entries.insert(index.key(document), document.clone());
                }
            }
        }
        self.last_ts = self.last_ts.max(old.last_ts);
        Ok(())
    }

    /// The timestamp of the newest commit.
    pub fn last_ts(&self) -> u64 {
        self.last_ts
    }

    /// The table with a name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(self.numbers.get(name)?)
    }

    /// The table with a number.
    pub fn table_numbered(&self, number: TableNumber) -> Option<&Table> {
        self.tables.get(&number)
    }

    /// The number of a table.
    pub fn number(&self, name: &str) -> Option<TableNumber> {
        self.numbers.get(name).copied()
    }

    /// An index by its id, which must come from this store.
    pub fn index_by_id(&self, id: IndexId) -> &Index {
        &self.tables[&id.0].indexes[usize::from(id.1)]
    }

    /// Notes that a transaction began at the newest timestamp, so that the log is kept for it.
    pub fn open(&mut self) -> u64 {
        *self.open.entry(self.last_ts).or_default() += 1;
        self.last_ts
    }

    /// Notes that a transaction that began at `ts` is over.
    pub fn close(&mut self, ts: u64) {
        let count = self.open.get_mut(&ts).expect("a transaction is closed once, after it was opened");
        *count -= 1;
        if *count == 0 {
            self.open.remove(&ts);
        }
        let oldest = self.open.keys().next().copied().unwrap_or(u64::MAX);
        while self.log.front().is_some_and(|touched| touched.ts <= oldest) {
            self.log.pop_front();
        }
    }

    /// Whether a commit after `begin_ts` touched one of these reads.
    pub fn conflicts(&self, begin_ts: u64, reads: &[Read]) -> bool {
        let since = self.log.iter().rev().take_while(|touched| touched.ts > begin_ts);
        since.into_iter().any(|touched| reads.iter().any(|read| read.is_hit_by(touched)))
    }

    /// Applies the writes of one transaction at a new timestamp and returns what it touched.
    pub fn commit(&mut self, writes: &[Write], now: u64) -> Rc<Touched> {
        self.last_ts = now.max(self.last_ts + COMMIT_STEP);
        let mut keys = Vec::with_capacity(writes.len() * 6);
        for write in writes {
            self.apply(write, &mut keys);
        }
        let touched = Rc::new(Touched { ts: self.last_ts, keys });
        if !self.open.is_empty() {
            self.log.push_back(touched.clone());
        }
        touched
    }

    fn apply(&mut self, write: &Write, keys: &mut Vec<(IndexId, Vec<u8>)>) {
        let number = write.id.table_number();
        let table = self.tables.get_mut(&number).expect("a write names a table of this store");
        for (index, place) in table.indexes.iter_mut().zip(0..) {
            let old = write.old.as_ref().map(|document| index.key(document));
            let new = write.new.as_ref().map(|document| (index.key(document), document.clone()));
            if let Some(old) = old
                && new.as_ref().is_none_or(|(key, _)| *key != old)
            {
                index.entries.remove(&old);
                keys.push((IndexId(number, place), old));
            }
            if let Some((key, document)) = new {
                keys.push((IndexId(number, place), key.clone()));
                index.entries.insert(key, document);
            }
        }
    }
}
