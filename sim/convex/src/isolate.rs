//! The engine: loads the user's modules once and runs their functions, synchronously, one at a time; an action step
//! by step.
//!
//! One JavaScript context serves all executions of a deployment. So a module's own mutable variables would survive
//! between calls here, while Convex gives no promise about them: backend code must not rely on either.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use convex::Value;
use rquickjs::{
    CatchResultExt, CaughtError, Context, Ctx, Function, Persistent, Promise, Runtime, Value as JsValue,
    promise::PromiseState,
};

pub(crate) use self::function::LoadedFunction;
pub use self::{function::CronDeclaration, host::Execution};
use self::{
    function::Registry,
    host::Host,
    marshal::{from_js_or_undefined, to_js},
    thrown::{convex_error_data, describe},
};
use super::{error::FunctionError, limits, sources::Modules, store::Store};

pub(super) mod action;
mod bindings;
mod function;
pub(super) mod host;
mod load;
mod marshal;
mod thrown;

/// A loaded deployment.
pub struct Isolate {
    host: Rc<Host>,
    polls_allowed: Rc<Cell<u64>>,
    // Values of the engine go before the engine: fields drop in this order.
    registry: Rc<Registry>,
    run: Persistent<Function<'static>>,
    context: Context,
    runtime: Runtime,
}

impl Drop for Isolate {
    fn drop(&mut self) {
        self.registry.0.borrow_mut().clear();
    }
}

/// What became of a function when there was nothing more to run.
enum Driven<'js> {
    /// It is over.
    Ended(Result<Value, FunctionError>),
    /// It waits for something that does not come by itself.
    Waits(Promise<'js>),
}

/// What loading yields.
pub(super) struct Loaded {
    pub(super) isolate: Isolate,
    pub(super) store: Rc<RefCell<Store>>,
    pub(super) crons: Vec<CronDeclaration>,
}

impl Isolate {
    /// Loads all modules, over the data of an `old` deployment if there is one; `now` is the wall clock in nanoseconds.
    pub(super) fn load(modules: &Modules, now: u64, old: Option<&Store>) -> Result<Loaded, String> {
        let runtime = Runtime::new().map_err(|why| format!("the engine did not start: {why}"))?;
        runtime.set_loader(modules.clone(), modules.clone());
        runtime.set_memory_limit(limits::HEAP_BYTES);
        runtime.set_gc_threshold(4 << 20);
        let context = Context::full(&runtime).map_err(|why| format!("the engine did not start: {why}"))?;
        let registry = Rc::new(Registry::default());
        let store = Rc::new(RefCell::new(Store::new(&[], now)));
        let load_time = (now / 1_000_000) as f64;
        let host = Rc::new(Host {
            store: store.clone(),
            execution: RefCell::default(),
            load_time,
            polls: Cell::new(0),
        });
        let polls_allowed = Rc::new(Cell::new(u64::MAX));
        let (counter, allowed) = (host.clone(), polls_allowed.clone());
        runtime.set_interrupt_handler(Some(Box::new(move || {
            counter.polls.set(counter.polls.get() + 1);
            counter.polls.get() > allowed.get()
        })));
        let loaded = context.with(|ctx| {
            bindings::install(&ctx, &host, &registry).catch(&ctx).map_err(|why| describe(&why))?;
            load::load_modules(&ctx, modules, (&store, old), &registry, now)
        });
        // The registry is reachable from the engine's own functions: emptied, it does not outlive the engine.
        let (run, crons) = loaded.inspect_err(|_| registry.0.borrow_mut().clear())?;
        polls_allowed.set(limits::USER_CODE_POLLS);
        Ok(Loaded { isolate: Self { host, polls_allowed, registry, run, context, runtime }, store, crons })
    }

    /// The loaded functions.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Runs a function to its end.
    pub(super) fn execute(
        &self,
        function: &LoadedFunction,
        args: &Value,
        execution: Execution,
    ) -> (Result<Value, FunctionError>, Execution) {
        if let Err(error) = function.check_args(args) {
            return (Err(error), execution);
        }
        let (result, execution) =
            self.enter(execution, |ctx| match self.drive(ctx, |ctx| self.start(ctx, function, args)) {
                Driven::Ended(result) => result,
                Driven::Waits(_) => Err(self.stuck()),
            });
        (result.and_then(|value| function.check_result(&value).map(|()| value)), execution)
    }

    /// Lets the engine work for an execution. What is left over then finds none any more.
    fn enter<R>(&self, execution: Execution, work: impl FnOnce(&Ctx<'_>) -> R) -> (R, Execution) {
        let before = self.host.execution.replace(Some(execution));
        assert!(before.is_none(), "one function runs at a time");
        self.host.polls.set(0);
        let result = self.context.with(|ctx| work(&ctx));
        let execution = self.host.execution.take().expect("put there above; nothing else takes it");
        self.drain();
        (result, execution)
    }

    fn start<'js>(
        &self,
        ctx: &Ctx<'js>,
        function: &LoadedFunction,
        args: &Value,
    ) -> rquickjs::Result<Promise<'js>> {
        let run = self.run.clone().restore(ctx)?;
        run.call((function.definition.clone().restore(ctx)?, to_js(ctx, args)?))
    }

    /// Begins or goes on with a function, and runs what there is to run.
    fn drive<'js>(
        &self,
        ctx: &Ctx<'js>,
        begin: impl FnOnce(&Ctx<'js>) -> rquickjs::Result<Promise<'js>>,
    ) -> Driven<'js> {
        let promise = match begin(ctx).catch(ctx) {
            Ok(promise) => promise,
            Err(caught) => return Driven::Ended(Err(self.failure(&caught))),
        };
        while promise.state() == PromiseState::Pending {
            if self.timed_out() {
                return Driven::Ended(Err(self.stuck()));
            }
            if !ctx.execute_pending_job() {
                return Driven::Waits(promise);
            }
        }
        let settled = promise.result::<JsValue<'_>>().expect("the promise is settled").catch(ctx);
        Driven::Ended(match settled {
            Ok(value) => from_js_or_undefined(&value)
                .map(|value| value.unwrap_or(Value::Null))
                .map_err(FunctionError::plain),
            Err(caught) => Err(self.failure(&caught)),
        })
    }

    fn timed_out(&self) -> bool {
        self.host.polls.get() > self.polls_allowed.get()
    }

    pub(super) fn stuck(&self) -> FunctionError {
        if self.timed_out() {
            FunctionError::plain("Function execution timed out (maximum duration: 1s)")
        } else {
            FunctionError::plain(
                "Function execution unexpectedly timed out. Check your function for infinite loops or other long-running operations: a promise never resolves",
            )
        }
    }

    fn failure(&self, caught: &CaughtError<'_>) -> FunctionError {
        if self.timed_out() {
            return self.stuck();
        }
        let data = match caught {
            CaughtError::Exception(exception) => convex_error_data(exception.as_object()),
            _ => None,
        };
        FunctionError { message: format!("Uncaught {}", describe(caught)), data }
    }

    /// Runs what a function left behind without awaiting it. It finds no execution any more and so changes nothing.
    fn drain(&self) {
        self.host.polls.set(0);
        for _ in 0..10_000 {
            if self.timed_out() || !self.runtime.is_job_pending() {
                return;
            }
            let _ = self.runtime.execute_pending_job();
        }
    }
}
