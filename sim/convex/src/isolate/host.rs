//! What functions ask of the backend while they run. All of it is synchronous and belongs to one execution.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use convex::Value;
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use rquickjs::{Function, Persistent};

use crate::{
    filter::Expression,
    id::{Id, SYSTEM_TABLE},
    kind::Kind,
    limits,
    query::{Page, PageOptions, Query, RangeStep, find_index, range},
    schema::SCHEDULED_FUNCTIONS,
    size::size,
    store::{Document, Store},
    transaction::{Savepoint, Transaction, scan::Stream},
};

/// One run of one function, while it lasts.
#[derive(Debug)]
pub struct Execution {
    /// Its transaction.
    pub transaction: Transaction,
    /// The frozen clock, in milliseconds since the Unix epoch.
    pub now: f64,
    /// The stream behind `Math.random`, `crypto` and new ids.
    pub random: ChaCha8Rng,
    /// Who calls.
    pub identity: Option<Value>,
    /// Where the page of this live query ended when it last ran; where it ends now.
    pub journal: Option<String>,
    /// What the function logged.
    pub logs: Vec<String>,
    /// What an action has asked for since it last went on; `None` in queries and mutations, which ask for nothing.
    pub(super) asked: Option<Vec<Asked>>,
    scheduled: (usize, usize),
    streams: Vec<Stream>,
    savepoints: Vec<Option<Savepoint>>,
}

impl Execution {
    /// An execution that has done nothing.
    pub fn new(transaction: Transaction, now: u64, random: ChaCha8Rng, identity: Option<Value>) -> Self {
        Self {
            transaction,
            now: (now / 1_000_000) as f64,
            random,
            identity,
            journal: None,
            logs: Vec::new(),
            asked: None,
            scheduled: (0, 0),
            streams: Vec::new(),
            savepoints: Vec::new(),
        }
    }
}

/// A call that an action has made.
#[derive(Debug)]
pub(crate) struct Asked {
    /// A query or a mutation.
    pub(crate) kind: Kind,
    /// `module:function`.
    pub(crate) path: String,
    /// Its arguments.
    pub(crate) args: Value,
    /// Settles the promise that the action has for it.
    pub(crate) settle: Settle,
}

/// The JavaScript side of a promise: called with whether it succeeded, the value or the error's data, and the message.
#[derive(Debug)]
pub(crate) struct Settle(pub(super) Persistent<Function<'static>>);

/// The meeting point of the engine's native functions and the execution that runs.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) store: Rc<RefCell<Store>>,
    pub(super) execution: RefCell<Option<Execution>>,
    /// What `Date.now()` says while modules are loaded.
    pub(super) load_time: f64,
    /// Calls of the interrupt handler in this execution.
    pub(super) polls: Cell<u64>,
}

/// A query as the builder describes it.
pub(super) struct Request {
    pub(super) table: String,
    pub(super) index: Option<String>,
    pub(super) steps: Vec<RangeStep>,
    pub(super) descending: bool,
    pub(super) filter: Option<Value>,
}

type Outcome<T> = Result<T, String>;

impl Host {
    fn with<R>(&self, f: impl FnOnce(&mut Execution, &Store) -> Outcome<R>) -> Outcome<R> {
        let mut execution = self.execution.borrow_mut();
        let execution = execution.as_mut().ok_or(
            "this may only be used inside a running function (was a promise not awaited, or is this at import time?)",
        )?;
        f(execution, &self.store.borrow())
    }

    pub(super) fn now(&self) -> f64 {
        self.execution.borrow().as_ref().map_or(self.load_time, |execution| execution.now)
    }

    pub(super) fn random(&self) -> Outcome<f64> {
        self.with(|execution, _| Ok(execution.random.random()))
    }

    pub(super) fn random_bytes(&self, count: usize) -> Outcome<Vec<u8>> {
        self.with(|execution, _| {
            let mut bytes = vec![0; count.min(65_536)];
            execution.random.fill_bytes(&mut bytes);
            Ok(bytes)
        })
    }

    pub(super) fn identity(&self) -> Outcome<Value> {
        self.with(|execution, _| Ok(execution.identity.clone().unwrap_or(Value::Null)))
    }

    pub(super) fn log(&self, mut line: String) {
        let mut execution = self.execution.borrow_mut();
        let Some(execution) = execution.as_mut() else { return };
        if execution.logs.len() < limits::LOG_LINES {
            if line.len() > limits::LOG_LINE_BYTES {
                let cut = (0..=limits::LOG_LINE_BYTES).rev().find(|at| line.is_char_boundary(*at));
                line.truncate(cut.unwrap_or_default());
                line.push_str(" (truncated due to length)");
            }
            execution.logs.push(line);
        }
    }

    pub(super) fn get(&self, id: &str) -> Outcome<Option<Rc<Document>>> {
        self.with(|execution, store| execution.transaction.get(store, parse_id("get", id)?))
    }

    pub(super) fn insert(&self, table: &str, fields: BTreeMap<String, Value>) -> Outcome<Id> {
        if table.starts_with('_') {
            return Err(format!("Invalid table name {table} starts with metadata prefix '_'"));
        }
        self.with(|execution, store| {
            let number = store.number(table).ok_or_else(|| format!("Table {table} is not in the schema"))?;
            let id = Id::draw(number, &mut execution.random);
            execution.transaction.insert(store, id, fields)?;
            Ok(id)
        })
    }

    pub(super) fn patch(&self, id: &str, fields: BTreeMap<String, Option<Value>>) -> Outcome<()> {
        self.with(|execution, store| execution.transaction.patch(store, user_id("patch", id)?, fields))
    }

    pub(super) fn replace(&self, id: &str, fields: BTreeMap<String, Value>) -> Outcome<()> {
        self.with(|execution, store| execution.transaction.replace(store, user_id("replace", id)?, fields))
    }

    pub(super) fn remove(&self, id: &str) -> Outcome<()> {
        self.with(|execution, store| execution.transaction.delete(store, user_id("delete", id)?))
    }

    pub(super) fn normalize_id(&self, table: &str, id: &str) -> Outcome<Option<String>> {
        let number = self.store.borrow().number(table);
        let id = Id::parse(id).filter(|id| Some(id.table_number()) == number);
        Ok(id.map(|id| id.to_string()))
    }

    pub(super) fn query(&self, request: Request, limit: usize) -> Outcome<Vec<Rc<Document>>> {
        self.with(|execution, store| {
            let mut stream = Stream::new(prepare(store, request)?);
            execution.transaction.read(store, &mut stream, limit)
        })
    }

    pub(super) fn open(&self, request: Request) -> Outcome<usize> {
        self.with(|execution, store| {
            execution.streams.push(Stream::new(prepare(store, request)?));
            Ok(execution.streams.len() - 1)
        })
    }

    pub(super) fn next(&self, stream: usize) -> Outcome<Option<Rc<Document>>> {
        self.with(|execution, store| {
            let stream = execution.streams.get_mut(stream).ok_or("there is no such query stream")?;
            Ok(execution.transaction.read(store, stream, 1)?.pop())
        })
    }

    pub(super) fn paginate(&self, request: Request, options: &PageOptions) -> Outcome<Page> {
        self.with(|execution, store| {
            let query: Query = prepare(store, request)?;
            let journal = execution.journal.take();
            let page = execution.transaction.paginate(store, query, options, journal.as_deref())?;
            execution.journal = Some(page.cursor.clone());
            Ok(page)
        })
    }

    pub(super) fn schedule(&self, at: f64, path: String, args: Value) -> Outcome<Id> {
        self.with(|execution, store| {
            execution.scheduled.0 += 1;
            execution.scheduled.1 += size(&args);
            if execution.scheduled.0 > limits::SCHEDULED {
                return Err(format!("Too many functions scheduled by this mutation (limit: {})", limits::SCHEDULED));
            }
            if execution.scheduled.1 > limits::SCHEDULED_BYTES {
                return Err(format!("Too large total size of the arguments of scheduled functions from this mutation (limit: {} bytes)", limits::SCHEDULED_BYTES));
            }
            let number = store.number(SCHEDULED_FUNCTIONS).expect("every deployment has this table");
            let id = Id::draw(number, &mut execution.random);
            let state = BTreeMap::from([("kind".to_owned(), Value::from("pending"))]);
            let fields = BTreeMap::from([
                ("name".to_owned(), Value::String(path)),
                ("args".to_owned(), Value::Array(vec![args])),
                ("scheduledTime".to_owned(), Value::Float64(at)),
                ("state".to_owned(), Value::Object(state)),
            ]);
            execution.transaction.insert(store, id, fields)?;
            Ok(id)
        })
    }

    pub(super) fn cancel(&self, id: &str) -> Outcome<()> {
        self.with(|execution, store| {
            let id = parse_id("cancel", id)?;
            if store.number(SCHEDULED_FUNCTIONS) != Some(id.table_number()) {
                return Err(format!("{id} is not the id of a scheduled function"));
            }
            let Some(job) = execution.transaction.get(store, id)? else { return Ok(()) };
            match job.fields().get("state") {
                Some(Value::Object(state)) if state.get("kind") == Some(&Value::from("pending")) => {}
                _ => return Ok(()),
            }
            let state = Value::Object(BTreeMap::from([("kind".to_owned(), Value::from("canceled"))]));
            let now = Value::Float64(execution.now);
            let change = [("state".to_owned(), Some(state)), ("completedTime".to_owned(), Some(now))];
            execution.transaction.patch(store, id, BTreeMap::from(change))
        })
    }

    /// Whether it is an action that runs.
    pub(super) fn is_action(&self) -> bool {
        self.execution.borrow().as_ref().is_some_and(|execution| execution.asked.is_some())
    }

    /// Keeps a call that an action makes. Its promise is settled later.
    pub(super) fn ask(&self, call: Asked) -> Outcome<()> {
        self.with(|execution, _| {
            execution.asked.as_mut().ok_or("only actions wait for what they call")?.push(call);
            Ok(())
        })
    }

    pub(super) fn savepoint(&self) -> Outcome<usize> {
        self.with(|execution, _| {
            execution.savepoints.push(Some(execution.transaction.savepoint()));
            Ok(execution.savepoints.len() - 1)
        })
    }

    pub(super) fn roll_back(&self, savepoint: usize) -> Outcome<()> {
        self.with(|execution, _| {
            let kept = execution.savepoints.get_mut(savepoint).and_then(Option::take);
            execution.transaction.roll_back(kept.ok_or("there is no such savepoint")?);
            Ok(())
        })
    }
}

fn prepare(store: &Store, request: Request) -> Outcome<Query> {
    let index = find_index(store, &request.table, request.index.as_deref())?;
    let interval = range(store.index_by_id(index), &request.steps)?;
    let filter = request.filter.as_ref().map(Expression::parse).transpose()?.map(Rc::new);
    Ok(Query { index, interval, descending: request.descending, filter })
}

fn parse_id(method: &str, id: &str) -> Outcome<Id> {
    Id::parse(id)
        .ok_or_else(|| format!("Invalid argument `id` for `db.{method}`: Unable to decode ID: {id:?}"))
}

/// The id of a document that functions may write.
fn user_id(method: &str, id: &str) -> Outcome<Id> {
    let id = parse_id(method, id)?;
    if id.table_number() == SYSTEM_TABLE {
        Err(format!("`db.{method}` cannot write system tables"))
    } else {
        Ok(id)
    }
}
