//! One transaction: reads of a snapshot plus its own writes, an exact read set, buffered writes, and limits.

use std::{collections::BTreeMap, rc::Rc};

use convex::Value;

use super::{
    encoding::{Interval, encode_str},
    id::{Id, SYSTEM_TABLE},
    limits,
    size::{check_document, size},
    store::{BY_ID, Document, IndexId, Read, Store, Table, Write},
};

pub mod scan;

/// What a transaction cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Documents scanned.
    pub documents_read: usize,
    /// Bytes of these documents.
    pub bytes_read: usize,
    /// Index ranges read.
    pub index_ranges: usize,
    /// Writes.
    pub documents_written: usize,
    /// Bytes written.
    pub bytes_written: usize,
}

/// Changes of an index: `None` hides a committed entry.
type Overlay = BTreeMap<Vec<u8>, Option<Rc<Document>>>;

/// Buffered writes, to which a failed nested mutation returns.
#[derive(Debug, Clone, Default)]
struct Buffer {
    overlays: BTreeMap<IndexId, Overlay>,
    writes: BTreeMap<Id, Write>,
}

/// A point to roll back to.
#[derive(Debug)]
pub struct Savepoint(Buffer);

/// An open transaction.
#[derive(Debug)]
pub struct Transaction {
    /// The snapshot that it reads.
    pub begin_ts: u64,
    /// What it read.
    pub reads: Vec<Read>,
    /// What it cost so far.
    pub usage: Usage,
    next_creation_time: f64,
    buffer: Buffer,
    paginated: bool,
}

impl Transaction {
    /// Begins at a snapshot. `now` is the wall clock in nanoseconds.
    pub fn new(begin_ts: u64, now: u64) -> Self {
        Self {
            begin_ts,
            reads: Vec::new(),
            usage: Usage::default(),
            next_creation_time: begin_ts.max(now) as f64 / 1e6,
            buffer: Buffer::default(),
            paginated: false,
        }
    }

    /// The buffered writes, by id; what changed nothing in the end is left out.
    pub fn writes(&self) -> Vec<Write> {
        self.buffer
            .writes
            .values()
            .filter(|write| write.old.is_some() || write.new.is_some())
            .cloned()
            .collect()
    }

    /// Whether nothing was written.
    pub fn is_read_only(&self) -> bool {
        self.buffer.writes.is_empty()
    }

    /// Marks the point to which [`Self::roll_back`] returns.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint(self.buffer.clone())
    }

    /// Drops the writes since the savepoint. What was read stays read.
    pub fn roll_back(&mut self, savepoint: Savepoint) {
        self.buffer = savepoint.0;
    }

    /// The document with an id, as this transaction sees it.
    pub fn get(&mut self, store: &Store, id: Id) -> Result<Option<Rc<Document>>, String> {
        let mut key = Vec::with_capacity(40);
        encode_str(id.as_str(), &mut key);
        self.note_range(Read { index: IndexId(id.table_number(), BY_ID), interval: Interval::prefix(&key) })?;
        let found = match self.buffer.writes.get(&id) {
            Some(write) => write.new.clone(),
            None => table_of(store, id)?.get(id).cloned(),
        };
        if let Some(document) = &found {
            self.note_document(document)?;
        }
        Ok(found)
    }

    /// Inserts a document under a new id.
    pub fn insert(&mut self, store: &Store, id: Id, fields: BTreeMap<String, Value>) -> Result<(), String> {
        if let Some(name) = fields.keys().find(|name| name.starts_with('_')) {
            return Err(format!(
                "Field '{name}' starts with an underscore, which is only allowed for system fields like '_id'"
            ));
        }
        let creation_time = self.next_creation_time;
        self.next_creation_time = creation_time.next_up();
        self.put(store, id, None, creation_time, fields)
    }

    /// Inserts a document that has a creation time of its own: population from before the run.
    pub fn insert_at(
        &mut self,
        store: &Store,
        id: Id,
        creation_time: f64,
        fields: BTreeMap<String, Value>,
    ) -> Result<(), String> {
        self.put(store, id, None, creation_time, fields)
    }

    /// Sets fields of a document; `None` removes one.
    pub fn patch(
        &mut self,
        store: &Store,
        id: Id,
        patch: BTreeMap<String, Option<Value>>,
    ) -> Result<(), String> {
        let old = self.get(store, id)?.ok_or_else(|| format!("Update on nonexistent document ID {id}"))?;
        let mut fields = old.fields().clone();
        for (name, value) in patch {
            match value {
                Some(value) => fields.insert(name, value),
                None => fields.remove(&name),
            };
        }
        let creation_time = old.creation_time;
        check_system_fields(&old, &mut fields, true)?;
        self.put(store, id, Some(old), creation_time, fields)
    }

    /// Sets all fields of a document.
    pub fn replace(
        &mut self,
        store: &Store,
        id: Id,
        mut fields: BTreeMap<String, Value>,
    ) -> Result<(), String> {
        let old = self.get(store, id)?.ok_or_else(|| format!("Replace on nonexistent document ID {id}"))?;
        check_system_fields(&old, &mut fields, false)?;
        let creation_time = old.creation_time;
        self.put(store, id, Some(old), creation_time, fields)
    }

    /// Deletes a document.
    pub fn delete(&mut self, store: &Store, id: Id) -> Result<(), String> {
        let old = self.get(store, id)?.ok_or_else(|| format!("Delete on nonexistent document ID {id}"))?;
        self.note_write(old.size)?;
        self.write(store, id, Some(old), None)
    }

    fn put(
        &mut self,
        store: &Store,
        id: Id,
        old: Option<Rc<Document>>,
        creation_time: f64,
        fields: BTreeMap<String, Value>,
    ) -> Result<(), String> {
        let table = table_of(store, id)?;
        let mut value = Value::Object(fields);
        if let Some(validator) = &table.validator {
            validator.check(&value).map_err(|why| mismatch(&table.name, &why))?;
        }
        let Value::Object(fields) = &mut value else { unreachable!("made an object above") };
        fields.insert("_id".into(), Value::String(id.to_string()));
        fields.insert("_creationTime".into(), Value::Float64(creation_time));
        let size = size(&value);
        // What is scheduled may be larger than a document: its arguments have a limit of their own.
        if id.table_number() != SYSTEM_TABLE {
            check_document(&value, size)?;
        }
        self.note_write(size)?;
        self.write(store, id, old, Some(Rc::new(Document { id, creation_time, value, size })))
    }

    fn write(
        &mut self,
        store: &Store,
        id: Id,
        old: Option<Rc<Document>>,
        new: Option<Rc<Document>>,
    ) -> Result<(), String> {
        let table = table_of(store, id)?;
        for (index, place) in table.indexes.iter().zip(0..) {
            let overlay = self.buffer.overlays.entry(IndexId(table.number, place)).or_default();
            if let Some(old) = &old {
                overlay.insert(index.key(old), None);
            }
            if let Some(new) = &new {
                overlay.insert(index.key(new), Some(new.clone()));
            }
        }
        let first = || Write { table: table.name.clone(), id, old, new: None };
        self.buffer.writes.entry(id).or_insert_with(first).new = new;
        Ok(())
    }

    fn note_range(&mut self, read: Read) -> Result<(), String> {
        self.usage.index_ranges += 1;
        self.reads.push(read);
        if self.usage.index_ranges > limits::INDEX_RANGES {
            return Err(format!(
                "Too many reads in a single function execution (limit: {})",
                limits::INDEX_RANGES
            ));
        }
        Ok(())
    }

    fn note_document(&mut self, document: &Document) -> Result<(), String> {
        self.usage.documents_read += 1;
        self.usage.bytes_read += document.size;
        let Usage { documents_read, bytes_read, .. } = self.usage;
        let read = [(documents_read, limits::DOCUMENTS_READ), (bytes_read, limits::BYTES_READ)];
        let Some((what, limit)) = exceeded(read) else { return Ok(()) };
        Err(format!(
            "Too many {what} read in a single function execution (limit: {limit}). Consider using smaller limits in \
             your queries, paginating your queries, or using indexed queries with a selective index range expressions."
        ))
    }

    fn note_write(&mut self, size: usize) -> Result<(), String> {
        self.usage.documents_written += 1;
        self.usage.bytes_written += size;
        let Usage { documents_written, bytes_written, .. } = self.usage;
        let written =
            [(documents_written, limits::DOCUMENTS_WRITTEN), (bytes_written, limits::BYTES_WRITTEN)];
        let Some((what, limit)) = exceeded(written) else { return Ok(()) };
        Err(format!("Too many {what} written in a single function execution (limit: {limit})"))
    }
}

/// Which limit of documents and bytes is exceeded first, if one is; each comes after what was used.
fn exceeded(used: [(usize, usize); 2]) -> Option<(&'static str, usize)> {
    let mut named = ["documents", "bytes"].into_iter().zip(used);
    named.find_map(|(what, (used, limit))| (used > limit).then_some((what, limit)))
}

fn table_of(store: &Store, id: Id) -> Result<&Table, String> {
    store
        .table_numbered(id.table_number())
        .ok_or_else(|| format!("Unable to decode ID {id}: it names no table"))
}

fn mismatch(table: &str, why: &str) -> String {
    format!(
        "Failed to insert or update a document in table \"{table}\" because it does not match the schema: {why}"
    )
}

/// System fields may be given if they are what they were; they are taken out for validation.
fn check_system_fields(
    old: &Document,
    fields: &mut BTreeMap<String, Value>,
    required: bool,
) -> Result<(), String> {
    for name in ["_id", "_creationTime"] {
        match fields.remove(name) {
            Some(value) if old.fields().get(name) == Some(&value) => {}
            None if !required => {}
            _ => return Err(format!("Provided document's `{name}` field does not match the document's own")),
        }
    }
    match fields.keys().find(|name| name.starts_with('_')) {
        Some(name) => Err(format!(
            "Field '{name}' starts with an underscore, which is only allowed for system fields like '_id'"
        )),
        None => Ok(()),
    }
}
