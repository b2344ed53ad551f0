//! The seam of the simulated worker: the same trait as in production, on the simulated network, clock and dice.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinHandle;
use worker::env::{Address, Env, Launch, LaunchError, UnixMillis};

use super::{
    freeze::{Freezable, Freezer},
    launcher::{Launcher, SimServer},
};
use crate::{
    trace::Name,
    world::{
        determinism::{EPOCH, elapsed},
        memory::{Attributed, Owner},
        network,
    },
};

/// What a simulated worker gets from its surroundings. One per start of the worker.
#[derive(Clone)]
pub struct SimEnv(Arc<Inner>);

struct Inner {
    /// The host's.
    name: Name,
    owner: Owner,
    random: Mutex<ChaCha8Rng>,
    launcher: Launcher,
    clock: MachineClock,
    freezer: Freezer,
}

/// By how much the wall clock of a worker's machine is wrong. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MachineClock(Arc<AtomicI64>);

impl MachineClock {
    /// Moves the clock by so many milliseconds.
    pub fn jump(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }

    /// By how many milliseconds it is ahead.
    #[must_use]
    pub fn is_ahead_by(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl SimEnv {
    /// The surroundings of a worker whose memory is charged to `owner`.
    #[must_use]
    pub fn new(
        name: Name,
        owner: Owner,
        random: ChaCha8Rng,
        launcher: Launcher,
        clock: MachineClock,
        freezer: Freezer,
    ) -> Self {
        Self(Arc::new(Inner { name, owner, random: Mutex::new(random), launcher, clock, freezer }))
    }
}

/// The wall clock of the simulation, in Unix milliseconds.
#[must_use]
pub fn unix_millis() -> UnixMillis {
    u64::try_from((EPOCH + elapsed()).as_millis()).expect("simulations end before the year 292 million")
}

impl Env for SimEnv {
    type Stream = network::Stream;
    type Server = SimServer;

    async fn connect(&self, address: &Address) -> io::Result<network::Stream> {
        network::connect(&self.0.name, address).await
    }

    async fn launch(&self, launch: Launch) -> Result<SimServer, LaunchError> {
        self.0.launcher.launch(launch).await
    }

    fn now(&self) -> UnixMillis {
        unix_millis().saturating_add_signed(self.0.clock.is_ahead_by())
    }

    fn random(&self, buffer: &mut [u8]) {
        self.0.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(buffer);
    }

    #[expect(clippy::disallowed_methods, reason = "this is `Env::spawn`: the caller owns the handle")]
    fn spawn<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(Attributed::new(self.0.owner, Freezable::new(self.0.freezer.clone(), task)))
    }
}
