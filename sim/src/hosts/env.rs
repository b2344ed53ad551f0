//! The seam of the simulated worker: the same trait as in production, on the simulated network, clock and dice.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinHandle;
use worker::env::{Address, Env, Launch, LaunchError, UnixMillis};

use super::launcher::{Launcher, SimServer};
use crate::world::{
    determinism::{EPOCH, elapsed},
    memory::{Attributed, Owner},
    network,
};

/// What a simulated worker gets from its surroundings. One per start of the worker.
#[derive(Clone)]
pub struct SimEnv(Arc<Inner>);

struct Inner {
    owner: Owner,
    random: Mutex<ChaCha8Rng>,
    launcher: Launcher,
}

impl SimEnv {
    /// The surroundings of a worker whose memory is charged to `owner`.
    #[must_use]
    pub fn new(owner: Owner, random: ChaCha8Rng, launcher: Launcher) -> Self {
        Self(Arc::new(Inner { owner, random: Mutex::new(random), launcher }))
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
        network::connect(address).await
    }

    async fn launch(&self, launch: Launch) -> Result<SimServer, LaunchError> {
        self.0.launcher.launch(launch).await
    }

    fn now(&self) -> UnixMillis {
        unix_millis()
    }

    fn random(&self, buffer: &mut [u8]) {
        self.0.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(buffer);
    }

    #[expect(clippy::disallowed_methods, reason = "this is `Env::spawn`: the caller owns the handle")]
    fn spawn<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(Attributed::new(self.0.owner, task))
    }
}
