//! Runs scheduled functions and crons when they are due.

use std::{collections::BTreeMap, future::Future, pin::Pin, time::Duration};

use convex::Value;
use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{
    call::Call,
    deployment::Convex,
    error::MutationError,
    id::Id,
    jobs::{Millis, due},
    limits,
    schema::SCHEDULED_FUNCTIONS,
    store::Store,
    transaction::Transaction,
};

/// The clock may jump, so nobody sleeps longer than this.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

type Running = Pin<Box<dyn Future<Output = ()>>>;

impl Convex {
    /// Runs scheduled functions and crons, for ever; one at a time of this may run. What was running when it was
    /// dropped is pending and runs again: it had no effect.
    pub async fn run_scheduler(&self) {
        let mut running = FuturesUnordered::<Running>::new();
        self.requeue();
        loop {
            self.start_due(&mut running);
            let sleep = tokio::time::sleep(self.until_next(running.len()));
            tokio::select! {
                biased;
                Some(()) = running.next(), if !running.is_empty() => {}
                () = self.0.jobs_changed.notified() => {}
                () = sleep => {}
            }
        }
    }

    fn now(&self) -> Millis {
        (self.0.options.clock)() / 1_000_000
    }

    /// Finds the pending functions in the store: those that a dropped scheduler had taken are among them.
    fn requeue(&self) {
        let store = self.0.store.borrow();
        let table = store.table(SCHEDULED_FUNCTIONS).expect("every deployment has this table");
        let jobs = table.indexes[0].entries.values();
        self.0.jobs.borrow_mut().requeue(jobs.map(|job| &**job));
    }

    fn until_next(&self, running: usize) -> Duration {
        let jobs = self.0.jobs.borrow().next_due().filter(|_| running < limits::SCHEDULED_AT_A_TIME);
        let crons = self.0.crons.borrow().iter().map(|cron| cron.next).min();
        let next = jobs.into_iter().chain(crons).min();
        let wait = next.map(|next| Duration::from_millis(next.saturating_sub(self.now())));
        wait.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
    }

    fn start_due(&self, running: &mut FuturesUnordered<Running>) {
        let now = self.now();
        for cron in self.0.crons.borrow_mut().iter_mut().filter(|cron| cron.next <= now) {
            cron.advance(now);
            let call = internal_call("cron", &cron.path, cron.args.clone());
            let convex = self.clone();
            running.push(Box::pin(async move {
                let _ = convex.run_mutation(&call, None, None).await;
            }));
        }
        while running.len() < limits::SCHEDULED_AT_A_TIME {
            let Some(id) = self.0.jobs.borrow_mut().take_due(now) else { return };
            let convex = self.clone();
            running.push(Box::pin(async move { convex.run_job(id).await }));
        }
    }

    /// A mutation's success is recorded in its own transaction, so it takes effect exactly once.
    async fn run_job(&self, id: Id) {
        let Some(call) = self.job_call(id) else { return };
        let finish = |transaction: &mut Transaction, store: &Store, now: f64| {
            let job = transaction.get(store, id)?.ok_or("the scheduled function vanished")?;
            let pending = due(&job).is_some();
            if pending {
                transaction.patch(store, id, state("success", now, None))
            } else {
                Err("canceled".into())
            }
        };
        match self.run_mutation(&call, None, Some(&finish)).await {
            Ok(_) => {}
            Err(MutationError::Failed(failure, _)) => self.fail_job(id, failure.message),
            Err(MutationError::Conflict) => self.requeue(),
        }
    }

    fn job_call(&self, id: Id) -> Option<Call> {
        let store = self.0.store.borrow();
        let job = store.table(SCHEDULED_FUNCTIONS)?.get(id)?.clone();
        due(&job)?;
        match (job.fields().get("name"), job.fields().get("args")) {
            (Some(Value::String(path)), Some(Value::Array(args))) => {
                Some(internal_call("scheduler", path, args.first().cloned().unwrap_or(Value::Null)))
            }
            _ => None,
        }
    }

    fn fail_job(&self, id: Id, message: String) {
        let mut transaction = {
            let store = self.0.store.borrow();
            Transaction::new(store.last_ts(), (self.0.options.clock)())
        };
        let now = self.now() as f64;
        let patched = {
            let store = self.0.store.borrow();
            let pending =
                store.table(SCHEDULED_FUNCTIONS).and_then(|table| table.get(id)).and_then(|job| due(job));
            pending.map(|_| transaction.patch(&store, id, state("failed", now, Some(message))))
        };
        if let Some(Ok(())) = patched {
            self.apply(&transaction.writes());
        }
    }
}

fn internal_call(caller: &str, path: &str, args: Value) -> Call {
    Call { path: path.into(), args, identity: None, caller: caller.into(), public: false }
}

fn state(kind: &str, now: f64, error: Option<String>) -> BTreeMap<String, Option<Value>> {
    let mut state = BTreeMap::from([("kind".to_owned(), Value::from(kind))]);
    state.extend(error.map(|error| ("error".to_owned(), Value::String(error))));
    BTreeMap::from([
        ("state".to_owned(), Some(Value::Object(state))),
        ("completedTime".to_owned(), Some(Value::Float64(now))),
    ])
}
