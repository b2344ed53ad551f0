//! Runs functions: queries at the newest timestamp, mutations as optimistic transactions with retries.

use std::{cell::RefCell, rc::Rc, time::Duration};

use convex::Value;
use convex_sync_types::UdfPath;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use super::{
    auth::Identity,
    call::{Call, Committed, QueryRun},
    deployment::Convex,
    error::{Failure, FunctionError, MutationError},
    isolate::{Execution, LoadedFunction},
    kind::Kind,
    limits,
    observation::{Observation, Outcome},
    size::size,
    store::{Store, Write},
    transaction::{Transaction, Usage},
};

/// Waits between the attempts of a mutation: 100 ms, doubled up to 2 s, times a random part of one.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// What is written together with a mutation's own writes.
pub type Finish<'a> = &'a dyn Fn(&mut Transaction, &Store, f64) -> Result<(), String>;

/// Keeps the log of commits for a transaction while it is open.
struct Open {
    store: Rc<RefCell<Store>>,
    ts: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.store.borrow_mut().close(self.ts);
    }
}

struct Attempt {
    result: Result<Value, FunctionError>,
    execution: Execution,
}

impl Convex {
    /// Runs a query at the newest timestamp. `journal` is where its page ended when it last ran.
    pub(super) fn run_query(&self, call: &Call, journal: Option<String>, rerun: bool) -> QueryRun {
        let ts = self.0.store.borrow().last_ts();
        let Attempt { result, execution } = match self.resolve(call, Kind::Query) {
            Ok(function) => self.attempt(&function, call, ts, journal, None),
            Err(error) => Attempt { result: Err(error), execution: self.execution(call, ts) },
        };
        self.observe(call, Kind::Query, &result, execution.transaction.usage, 1, rerun);
        let Execution { transaction, logs, journal, .. } = execution;
        let result = result.map_err(|error| self.failure(error));
        QueryRun { ts, result, logs, journal, reads: transaction.reads }
    }

    /// Runs a mutation until it is committed or has failed for good. `session` is the key under which its answer is
    /// recorded, so that it runs once.
    pub(super) async fn run_mutation(
        &self,
        call: &Call,
        session: Option<(Uuid, u32)>,
        finish: Option<Finish<'_>>,
    ) -> Result<Committed, MutationError> {
        for attempt in 0..=limits::CONFLICT_RETRIES {
            if let Some(answer) = self.answered(call, session) {
                return Ok(answer);
            }
            if let Some(outcome) = self.try_mutation(call, session, finish, attempt + 1).await {
                return outcome;
            }
            tokio::time::sleep(self.backoff(attempt)).await;
        }
        let conflict = FunctionError { message: "OptimisticConcurrencyControlFailure".into(), data: None };
        self.observe(
            call,
            Kind::Mutation,
            &Err(conflict),
            Usage::default(),
            limits::CONFLICT_RETRIES + 1,
            false,
        );
        Err(MutationError::Conflict)
    }

    fn answered(&self, call: &Call, session: Option<(Uuid, u32)>) -> Option<Committed> {
        let answer = self.0.requests.borrow().answer(&session?).cloned()?;
        let path = canonical(&call.path);
        (self.0.options.observer)(&Observation::Executed {
            caller: &call.caller,
            kind: Kind::Mutation,
            path: path.as_deref().unwrap_or(&call.path),
            args: &call.args,
            outcome: Outcome::Ok,
            usage: Usage::default(),
            attempts: 0,
            rerun: false,
            replayed: true,
            result_bytes: size(&answer.value),
        });
        Some(answer)
    }

    /// One attempt; `None` after a conflict.
    async fn try_mutation(
        &self,
        call: &Call,
        session: Option<(Uuid, u32)>,
        finish: Option<Finish<'_>>,
        attempts: u32,
    ) -> Option<Result<Committed, MutationError>> {
        let ts = self.0.store.borrow_mut().open();
        let _open = Open { store: self.0.store.clone(), ts };
        let Attempt { result, execution } = match self.resolve(call, Kind::Mutation) {
            Ok(function) => self.attempt(&function, call, ts, None, finish),
            Err(error) => Attempt { result: Err(error), execution: self.execution(call, ts) },
        };
        self.execution_latency().await;
        if session.is_some() && self.0.options.faults.conflicts(&call.caller, &call.path) {
            return None;
        }
        let Execution { transaction, logs, .. } = execution;
        let committed = match &result {
            Ok(_) => Some(self.commit(&transaction, session)?),
            Err(_) => None,
        };
        self.observe(call, Kind::Mutation, &result, transaction.usage, attempts, false);
        Some(match (result, committed) {
            (Ok(value), Some(ts)) => {
                let answer = Committed { value, ts, logs };
                if let Some(key) = session {
                    self.0.requests.borrow_mut().record(key, answer.clone());
                }
                Ok(answer)
            }
            (Err(error), _) => Err(MutationError::Failed(self.failure(error), logs)),
            (Ok(_), None) => unreachable!("what succeeded was committed above"),
        })
    }

    /// Validates and applies; `None` on a conflict. A transaction without writes has nothing to validate, unless the
    /// record of its request is a write.
    fn commit(&self, transaction: &Transaction, session: Option<(Uuid, u32)>) -> Option<u64> {
        if transaction.is_read_only() && session.is_none() {
            return Some(transaction.begin_ts);
        }
        if self.0.store.borrow().conflicts(transaction.begin_ts, &transaction.reads) {
            return None;
        }
        if session.is_some_and(|key| self.0.requests.borrow().answer(&key).is_some()) {
            return None;
        }
        Some(self.apply(&transaction.writes()))
    }

    /// Commits writes and tells everybody whom they concern.
    pub(super) fn apply(&self, writes: &[Write]) -> u64 {
        let touched = self.0.store.borrow_mut().commit(writes, (self.0.options.clock)());
        self.0.subscriptions.borrow_mut().invalidate(&touched);
        self.0.jobs.borrow_mut().note(writes);
        if self.0.jobs.borrow_mut().take_changed() {
            self.0.jobs_changed.notify_one();
        }
        if !writes.is_empty() {
            (self.0.options.observer)(&Observation::Committed { ts: touched.ts, writes });
        }
        touched.ts
    }

    /// Waits as long as an execution takes.
    pub(super) async fn execution_latency(&self) {
        if !self.0.options.execution_latency.is_zero() {
            tokio::time::sleep(self.0.options.execution_latency).await;
        }
    }

    pub(super) fn execution(&self, call: &Call, ts: u64) -> Execution {
        let now = (self.0.options.clock)();
        let seed = self.0.random.borrow_mut().random();
        let identity = call.identity.as_ref().map(Identity::to_value);
        Execution::new(Transaction::new(ts, now), now, ChaCha8Rng::seed_from_u64(seed), identity)
    }

    fn attempt(
        &self,
        function: &LoadedFunction,
        call: &Call,
        ts: u64,
        journal: Option<String>,
        finish: Option<Finish<'_>>,
    ) -> Attempt {
        let mut execution = self.execution(call, ts);
        execution.journal = journal;
        let (mut result, mut execution) = self.0.isolate.execute(function, &call.args, execution);
        if let (Ok(_), Some(finish)) = (&result, finish) {
            let finished = finish(&mut execution.transaction, &self.0.store.borrow(), execution.now);
            result = finished.map_err(|message| FunctionError { message, data: None }).and(result);
        }
        Attempt { result, execution }
    }

    pub(super) fn resolve(&self, call: &Call, kind: Kind) -> Result<Rc<LoadedFunction>, FunctionError> {
        let error = |message: String| FunctionError { message, data: None };
        let path = canonical(&call.path).map_err(error)?;
        if kind == Kind::Mutation && call.public && self.0.options.faults.fails(&call.caller, &path) {
            return Err(error("Uncaught Error: a mistake was deployed".into()));
        }
        let found = self.0.isolate.registry().find(&path);
        let which = if call.public { "public function" } else { "function" };
        let found = found.filter(|function| function.public || !call.public).ok_or_else(|| {
            error(format!("Could not find {which} for '{path}'. Did you forget to run `npx convex dev` or `npx convex deploy`?\n"))
        })?;
        if found.kind != kind {
            let (wanted, defined) = (title(kind), title(found.kind));
            return Err(error(format!(
                "Trying to execute {path} as {wanted}, but it is defined as {defined}.\n"
            )));
        }
        if !matches!(call.args, Value::Object(_)) {
            return Err(error("The arguments of a function are one object.\n".into()));
        }
        Ok(found)
    }

    /// What a development deployment shows of an error.
    pub(super) fn failure(&self, error: FunctionError) -> Failure {
        let request: u64 = self.0.random.borrow_mut().random();
        let FunctionError { message, data } = error;
        Failure { message: format!("[Request ID: {request:016x}] Server Error\n{message}"), data }
    }

    fn backoff(&self, attempt: u32) -> Duration {
        let longest = (FIRST_BACKOFF * 2u32.pow(attempt)).min(LONGEST_BACKOFF);
        longest.mul_f64(self.0.random.borrow_mut().random())
    }

    pub(super) fn observe(
        &self,
        call: &Call,
        kind: Kind,
        result: &Result<Value, FunctionError>,
        usage: Usage,
        attempts: u32,
        rerun: bool,
    ) {
        let outcome = match result {
            Ok(_) => Outcome::Ok,
            Err(FunctionError { data: Some(data), .. }) => Outcome::ConvexError(code(data)),
            Err(FunctionError { message, .. }) => Outcome::Error(message.clone()),
        };
        let path = canonical(&call.path);
        (self.0.options.observer)(&Observation::Executed {
            caller: &call.caller,
            kind,
            path: path.as_deref().unwrap_or(&call.path),
            args: &call.args,
            outcome,
            usage,
            attempts,
            rerun,
            replayed: false,
            result_bytes: result.as_ref().map_or(0, size),
        });
    }
}

/// `queue.js:mine`, `queue:mine` and, for default exports, `queue` name functions in more than one way.
fn canonical(path: &str) -> Result<String, String> {
    if path.contains(':') && !path.contains(".js:") {
        return Ok(path.to_owned());
    }
    let parsed: UdfPath = path.parse().map_err(|why| format!("{path} is not a path to a function: {why}"))?;
    let canonical = String::from(parsed.canonicalize());
    let (module, function) = canonical.rsplit_once(':').expect("a canonical path names its function");
    Ok(format!("{}:{function}", module.strip_suffix(".js").unwrap_or(module)))
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Query => "Query",
        Kind::Mutation => "Mutation",
        Kind::Action => "Action",
    }
}

fn code(data: &Value) -> String {
    match data {
        Value::String(text) => text.clone(),
        Value::Object(fields) => match fields.get("code") {
            Some(Value::String(code)) => code.clone(),
            _ => format!("{data:?}"),
        },
        _ => format!("{data:?}"),
    }
}
