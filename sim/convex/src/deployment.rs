//! A deployment: what it is loaded from, what it keeps, how it behaves.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    time::Duration,
};

use convex::Value;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{Notify, watch};

use super::{
    error::LoadError,
    faults::Faults,
    isolate::{Isolate, Loaded},
    jobs::{Cron, Jobs},
    kind::Kind,
    observation::Observation,
    requests::Requests,
    sources::Modules,
    store::{self, Store},
    subscriptions::Subscriptions,
    sync_protocol::{Present, SyncOptions},
};

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

/// A deployment. Clones are the same one.
#[derive(Clone)]
pub struct Convex(pub(crate) Rc<Deployment>);

impl fmt::Debug for Convex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Convex").field("last_ts", &self.0.store.borrow().last_ts()).finish_non_exhaustive()
    }
}

/// How all connections broke last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Break {
    /// Whether what ran for them was cut off too.
    pub(crate) restart: bool,
}

/// What a deployment keeps; the modules around it say what happens to it.
pub(crate) struct Deployment {
    pub(crate) isolate: Isolate,
    pub(crate) store: Rc<RefCell<Store>>,
    pub(crate) subscriptions: Rc<RefCell<Subscriptions>>,
    pub(crate) requests: RefCell<Requests>,
    pub(crate) jobs: RefCell<Jobs>,
    pub(crate) jobs_changed: Notify,
    pub(crate) crons: RefCell<Vec<Cron>>,
    pub(crate) random: RefCell<ChaCha8Rng>,
    /// Changed whenever all connections break.
    pub(crate) disconnects: watch::Sender<Break>,
    pub(crate) connections: Cell<usize>,
    pub(crate) options: Options,
}

impl Convex {
    /// Loads the files of a `convex/` directory, by path relative to it (`chat.ts`, `lib/auth.ts`). Crons begin now.
    pub fn load(sources: &BTreeMap<String, String>, options: Options) -> Result<Self, LoadError> {
        let random = ChaCha8Rng::seed_from_u64(options.seed);
        Self::load_over(sources, options, random, None)
    }

    /// Deploys other functions over the same data, as `npx convex deploy` does. What is scheduled stays, and calls the new
    /// functions once [`Self::run_scheduler`] of the new deployment runs; that of the old one must not run any more, and
    /// whoever is connected to it has to connect anew.
    ///
    /// # Errors
    /// As [`Self::load`], and if a document does not match the new schema: then all stays as it was.
    pub fn redeploy(&self, sources: &BTreeMap<String, String>) -> Result<Self, LoadError> {
        let random = self.0.random.borrow().clone();
        let new = Self::load_over(sources, self.0.options.clone(), random, Some(&self.0.store.borrow()))?;
        new.0.requests.replace(self.0.requests.take());
        Ok(new)
    }

    fn load_over(
        sources: &BTreeMap<String, String>,
        options: Options,
        random: ChaCha8Rng,
        old: Option<&Store>,
    ) -> Result<Self, LoadError> {
        let now = (options.clock)();
        let modules = Modules::compile(sources).map_err(LoadError)?;
        let Loaded { isolate, store, crons } = Isolate::load(&modules, now, old).map_err(LoadError)?;
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
            random: RefCell::new(random),
            disconnects: watch::Sender::new(Break::default()),
            connections: Cell::new(0),
            options,
        })))
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
    /// answered mutations, stay: they are data too (convex-backend, `crates/model/src/session_requests`).
    pub fn restart(&self) {
        self.0.disconnects.send_modify(|last| last.restart = true);
    }

    pub(crate) fn present(&self) -> Present {
        Present {
            last_ts: self.0.store.borrow().last_ts(),
            now: (self.0.options.clock)(),
            invalidated: Vec::new(),
        }
    }

    pub(crate) fn draw(&self) -> u64 {
        self.0.random.borrow_mut().random()
    }

    /// How long it is until a moment in seconds since the Unix epoch.
    pub(crate) fn until(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).saturating_sub(Duration::from_nanos((self.0.options.clock)()))
    }
}
