//! Runs actions: they are no transactions, but call queries and mutations, each of which is one.

use std::pin::Pin;

use convex::Value;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use super::{
    call::{ActionRun, Call},
    deployment::Convex,
    error::{Failure, FunctionError, MutationError},
    isolate::{
        Execution, LoadedFunction,
        action::Step,
        host::{Asked, Settle},
    },
    kind::Kind,
    limits,
    transaction::Usage,
};

type Nested<'a> = Pin<Box<dyn Future<Output = (Settle, Result<Value, Failure>)> + 'a>>;

impl Convex {
    /// Runs an action to its end. What it called has happened, whatever becomes of it.
    pub(super) async fn run_action(&self, call: &Call) -> ActionRun {
        let execution = self.execution(call, self.present().last_ts);
        let (result, logs) = match self.resolve(call, Kind::Action) {
            Ok(action) => {
                let (result, execution) = self.follow(&action, call, execution).await;
                (result, execution.logs)
            }
            Err(error) => (Err(error), Vec::new()),
        };
        self.observe(call, Kind::Action, &result, Usage::default(), 1, false);
        ActionRun { result: result.map_err(|error| self.failure(error)), logs }
    }

    /// Goes through an action step by step. What it does not wait for is dropped with its end.
    async fn follow(
        &self,
        action: &LoadedFunction,
        call: &Call,
        execution: Execution,
    ) -> (Result<Value, FunctionError>, Execution) {
        let deadline = Instant::now() + limits::ACTION_TIME;
        let mut running = FuturesUnordered::<Nested<'_>>::new();
        let mut step = self.0.isolate.begin(action, &call.args, execution);
        loop {
            let (mut waiting, asked) = match step {
                Step::Ended(result, execution) => return (result, execution),
                Step::Waits(waiting, asked) => (waiting, asked),
            };
            running.extend(asked.into_iter().map(|asked| self.nested(call, asked)));
            let (settle, outcome) = match timeout_at(deadline, running.next()).await {
                Ok(Some(settled)) => settled,
                Ok(None) => return (Err(self.0.isolate.stuck()), waiting.execution),
                Err(_) => return (Err(timed_out()), waiting.execution),
            };
            // Unlike that of queries and mutations, the clock of an action goes on.
            waiting.execution.now = (self.present().now / 1_000_000) as f64;
            step = self.0.isolate.resume(action, waiting, settle, &outcome);
        }
    }

    /// A call that an action makes: in its caller's name, of any function.
    fn nested<'a>(&'a self, outer: &Call, asked: Asked) -> Nested<'a> {
        let Asked { kind, path, args, settle } = asked;
        let call = Call { path, args, public: false, ..outer.clone() };
        Box::pin(async move { (settle, self.transact(kind, &call).await) })
    }

    async fn transact(&self, kind: Kind, call: &Call) -> Result<Value, Failure> {
        if kind == Kind::Query {
            let run = self.run_query(call, None, false);
            self.execution_latency().await;
            return run.result;
        }
        match self.run_mutation(call, None, None).await {
            Ok(committed) => Ok(committed.value),
            Err(MutationError::Failed(failure, _)) => Err(failure),
            Err(MutationError::Conflict) => Err(Failure { message: CONFLICT.into(), data: None }),
        }
    }
}

/// What an action reads when a mutation of it met a conflict at every attempt.
const CONFLICT: &str =
    "Documents read from or written to by this mutation changed while it was being run. Try again.";

fn timed_out() -> FunctionError {
    let seconds = limits::ACTION_TIME.as_secs();
    let message = format!("Function execution timed out (maximum duration: {seconds}s)");
    FunctionError { message, data: None }
}
