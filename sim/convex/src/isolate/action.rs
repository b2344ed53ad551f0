//! Actions: functions that wait for what they call. Between two steps nothing of an action runs; what it awaits are
//! promises, which are settled from here, one in a step.

use convex::Value;
use rquickjs::{Ctx, Persistent, Promise};

use super::{
    Driven, Isolate,
    function::LoadedFunction,
    host::{Asked, Execution, Settle},
    marshal::to_js,
};
use crate::error::{Failure, FunctionError};

/// An action that waits.
pub(crate) struct Waiting {
    promise: Persistent<Promise<'static>>,
    /// Its execution.
    pub(crate) execution: Execution,
}

/// Where an action has come to.
pub(crate) enum Step {
    /// It is over.
    Ended(Result<Value, FunctionError>, Execution),
    /// It waits, for these calls too.
    Waits(Waiting, Vec<Asked>),
}

impl Isolate {
    /// Starts an action.
    pub(crate) fn begin(&self, action: &LoadedFunction, args: &Value, mut execution: Execution) -> Step {
        if let Err(error) = action.check_args(args) {
            return Step::Ended(Err(error), execution);
        }
        execution.asked = Some(Vec::new());
        self.step(action, execution, |ctx| self.start(ctx, action, args))
    }

    /// Tells an action what a call of it came to.
    pub(crate) fn resume(
        &self,
        action: &LoadedFunction,
        waiting: Waiting,
        settle: Settle,
        outcome: &Result<Value, Failure>,
    ) -> Step {
        let Waiting { promise, execution } = waiting;
        self.step(action, execution, |ctx| {
            let settle = settle.0.restore(ctx)?;
            match outcome {
                Ok(value) => settle.call::<_, ()>((true, to_js(ctx, value)?))?,
                Err(Failure { message, data }) => {
                    let data = data.as_ref().map(|data| to_js(ctx, data)).transpose()?;
                    settle.call::<_, ()>((false, data, message.as_str()))?;
                }
            }
            promise.restore(ctx)
        })
    }

    fn step(
        &self,
        action: &LoadedFunction,
        execution: Execution,
        begin: impl for<'js> FnOnce(&Ctx<'js>) -> rquickjs::Result<Promise<'js>>,
    ) -> Step {
        let (driven, mut execution) = self.enter(execution, |ctx| match self.drive(ctx, begin) {
            Driven::Ended(result) => Err(result),
            Driven::Waits(promise) => Ok(Persistent::save(ctx, promise)),
        });
        let asked = execution.asked.replace(Vec::new()).unwrap_or_default();
        match driven {
            Ok(promise) => Step::Waits(Waiting { promise, execution }, asked),
            Err(result) => {
                let result = result.and_then(|value| action.check_result(&value).map(|()| value));
                Step::Ended(result, execution)
            }
        }
    }
}
