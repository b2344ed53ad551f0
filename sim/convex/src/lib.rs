//! A fake Convex deployment: the real backend functions over a store of our own, behind the real protocols.
//!
//! It lives in one thread (`Rc`), inside a simulated host or on real loopback. The user's TypeScript runs in an
//! embedded engine; a function runs synchronously at the newest timestamp and is committed later, optimistically, with
//! exact read sets. Data outlive the host: [`Convex`] is kept outside and [`Convex::serve_connection`] and
//! [`Convex::run_scheduler`] are simply started again.
//!
//! # Not modelled
//!
//! Refused loudly: HTTP actions, and in actions `fetch`, timers, the scheduler and other actions; scheduled actions,
//! components, file storage, search and vector indexes, admin keys,
//! monthly crons and crons in cron syntax, imports other than relative ones, `convex/server` and `convex/values`,
//! a deployment without `schema.ts`, other HTTP routes.
//!
//! Silently simpler than Convex: no cache of query results (every client's subscription runs its own query); module
//! variables survive between calls; token signatures are not checked; no limits on write throughput, on concurrent
//! functions or on bandwidth; invalidations are never splayed; cursors are opaque but not encrypted; answers are those
//! of a development deployment (stacks and log lines are shown); user code is limited by a count of engine polls
//! instead of by one second; results of scheduled functions are kept for ever.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    time::Duration,
};

use ::convex::Value;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, watch},
};

pub use self::{
    actions::ActionRun,
    auth::Identity,
    executor::Failure,
    faults::{Faults, NoFaults, Point, Refusal},
    observation::{Observation, Outcome},
    seeder::Seeder,
    serve::Listener,
    store::Write,
    sync_protocol::SyncOptions,
};
use self::{
    executor::{Call, MutationError, Requests},
    isolate::{Isolate, Loaded},
    jobs::{Cron, Jobs},
    sources::Modules,
    store::Store,
    subscriptions::Subscriptions,
    sync_protocol::Present,
};

mod actions;
pub mod auth;
pub mod encoding;
pub mod executor;
mod faults;
pub mod filter;
mod http;
pub mod id;
pub mod isolate;
pub mod jobs;
pub mod limits;
pub mod observation;
pub mod query;
mod scheduler;
pub mod schema;
mod seeder;
mod serve;
pub mod size;
mod socket;
pub mod sources;
pub mod store;
pub mod subscriptions;
pub mod sync_protocol;
pub mod transaction;
pub mod validator;

#[cfg(test)]
mod tests;

/// What a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Reads.
    Query,
    /// Reads and writes, in one transaction.
    Mutation,
    /// Calls queries and mutations, each in a transaction of its own.
    Action,
}

impl Kind {
    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
            Self::Action => "action",
        }
    }
}

/// The wall clock, in nanoseconds since the Unix epoch.
pub type Clock = Rc<dyn Fn() -> u64>;

/// Who is told what happens. It is called in the middle of things and must not call the deployment, except
/// [`Convex::table`].
pub type Observer = Rc<dyn Fn(&Observation<'_>)>;

/// How a deployment behaves.
#[derive(Clone)]
pub struct Options {
    /// Where its ids, its functions' randomness and its choices come from.
    pub seed: u64,
    /// Its wall clock.
    pub clock: Clock,
    /// How long an execution takes: between a function's snapshot and its commit or answer.
    pub execution_latency: Duration,
    /// Choices that the sync protocol leaves open.
    pub sync: SyncOptions,
    /// Who is told what happens.
    pub observer: Observer,
    /// Asked what goes wrong.
    pub faults: Rc<dyn Faults>,
}

/// Why a deployment was not loaded.
#[derive(Debug, thiserror::Error)]
#[error("cannot load the backend functions: {0}")]
pub struct LoadError(String);

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The function failed, or there is none.
    #[error("{0}")]
    Failed(Failure),
    /// A mutation conflicted with other writes at every attempt.
    #[error("the mutation conflicted with other writes at every attempt")]
    Conflict,
}

/// A deployment. Clones are the same one.
#[derive(Clone)]
pub struct Convex(Rc<Deployment>);

impl fmt::Debug for Convex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Convex").field("last_ts", &self.0.store.borrow().last_ts()).finish_non_exhaustive()
    }
}

/// How all connections broke last.
#[derive(Debug, Clone, Copy, Default)]
struct Break {
    /// Whether what ran for them was cut off too.
    restart: bool,
}

struct Deployment {
    isolate: Isolate,
    store: Rc<RefCell<Store>>,
    subscriptions: Rc<RefCell<Subscriptions>>,
    requests: RefCell<Requests>,
    jobs: RefCell<Jobs>,
    jobs_changed: Notify,
    crons: RefCell<Vec<Cron>>,
    random: RefCell<ChaCha8Rng>,
    /// Changed whenever all connections break.
    disconnects: watch::Sender<Break>,
    connections: Cell<usize>,
    options: Options,
}

impl Convex {
    /// Loads the files of a `convex/` directory, by path relative to it (`chat.ts`, `lib/auth.ts`). Crons begin now.
    pub fn load(sources: &BTreeMap<String, String>, options: Options) -> Result<Self, LoadError> {
        let now = (options.clock)();
        let modules = Modules::compile(sources).map_err(LoadError)?;
        let Loaded { isolate, store, crons } = Isolate::load(&modules, now).map_err(LoadError)?;
        let crons = crons.iter().map(|cron| match isolate.registry().find(&cron.path) {
            Some(function) if function.kind == Kind::Mutation => Cron::new(cron, now / 1_000_000),
            Some(_) => Err(format!("cron `{}`: only mutations are modelled", cron.name)),
            None => Err(format!("cron `{}`: there is no function {}", cron.name, cron.path)),
        });
        let crons = crons.collect::<Result<_, _>>().map_err(LoadError)?;
        Ok(Self(Rc::new(Deployment {
            isolate,
            store,
            subscriptions: Rc::default(),
            requests: RefCell::default(),
            jobs: RefCell::default(),
            jobs_changed: Notify::new(),
            crons: RefCell::new(crons),
            random: RefCell::new(ChaCha8Rng::seed_from_u64(options.seed)),
            disconnects: watch::Sender::new(Break::default()),
            connections: Cell::new(0),
            options,
        })))
    }

    /// Calls a public function, as a client over HTTP would: mutations are not recorded by request.
    pub async fn call(
        &self,
        kind: Kind,
        path: &str,
        args: Value,
        identity: Option<Identity>,
        caller: &str,
    ) -> Result<Value, CallError> {
        let call = Call { path: path.into(), args, identity, caller: caller.into(), public: true };
        match kind {
            Kind::Query => {
                let run = self.run_query(&call, None, false);
                self.execution_latency().await;
                run.result.map_err(CallError::Failed)
            }
            Kind::Mutation => self.mutate(&call).await,
            Kind::Action => self.run_action(&call).await.result.map_err(CallError::Failed),
        }
    }

    /// Runs a mutation, internal or public, as a cron job would.
    pub async fn call_as_cron(&self, path: &str, args: Value) -> Result<Value, CallError> {
        let call = Call { path: path.into(), args, identity: None, caller: "cron".into(), public: false };
        self.mutate(&call).await
    }

    async fn mutate(&self, call: &Call) -> Result<Value, CallError> {
        match self.run_mutation(call, None, None).await {
            Ok(committed) => Ok(committed.value),
            Err(MutationError::Failed(failure, _)) => Err(CallError::Failed(failure)),
            Err(MutationError::Conflict) => Err(CallError::Conflict),
        }
    }

    /// Serves one connection, HTTP and WebSocket, until it ends. `peer` is its name in observations.
    pub async fn serve_connection<S>(&self, stream: S, peer: &str)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        http::serve(self.clone(), stream, peer.into()).await;
    }

    /// All documents of a table, by creation time; none if there is no such table.
    pub fn table(&self, name: &str) -> Vec<Value> {
        let store = self.0.store.borrow();
        let index = store.table(name).map(|table| &table.indexes[usize::from(store::BY_CREATION_TIME)]);
        let entries = index.into_iter().flat_map(|index| index.entries.values());
        entries.map(|document| document.value.clone()).collect()
    }

    /// Cuts all connections, without a close frame.
    pub fn disconnect_all(&self) {
        self.0.disconnects.send_modify(|last| last.restart = false);
    }

    /// Restarts the deployment: all connections break, and what runs for them is cut off. Data, and the records of
    /// answered mutations, stay: they are data too (facts/convex.md §2).
    pub fn restart(&self) {
        self.0.disconnects.send_modify(|last| last.restart = true);
    }

    /// Inserts documents without a function: the population from before a run. Each is validated against the schema.
    pub fn seed<R>(&self, f: impl FnOnce(&mut Seeder<'_>) -> R) -> R {
        let mut seeder = Seeder::new(self);
        let result = f(&mut seeder);
        seeder.finish();
        result
    }

    fn present(&self) -> Present {
        Present {
            last_ts: self.0.store.borrow().last_ts(),
            now: (self.0.options.clock)(),
            invalidated: Vec::new(),
        }
    }

    fn draw(&self) -> u64 {
        self.0.random.borrow_mut().random()
    }

    /// How long it is until a moment in seconds since the Unix epoch.
    fn until(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).saturating_sub(Duration::from_nanos((self.0.options.clock)()))
    }
}
