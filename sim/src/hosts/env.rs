//! The seam of the simulated worker: the same trait as in production, on the simulated network, clock and dice.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use tokio::{task::JoinHandle, time::Instant};
use worker::env::{Address, Env, Launch, LaunchError, UnixMillis};

use crate::{
    engine::{
        determinism::{EPOCH, elapsed, wall_clock},
        memory::{Attributed, Owner, unattributed},
        network,
    },
    hosts::{
        freeze::{Freezable, Freezer},
        launcher::{Launcher, SimServer},
    },
};
use sim_model::{plant::EnvPlants, trace::Name};

/// What a simulated worker gets from its machine. One per start of the worker.
#[derive(Clone)]
pub struct SimEnv(Arc<Inner>);

struct Inner {
    owner: Owner,
    random: Mutex<ChaCha8Rng>,
    launcher: Launcher,
    machine: Machine,
    env_plants: EnvPlants,
}

/// What the process is in, besides.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The host's name.
    pub name: Name,
    /// The machine's clock.
    pub clock: MachineClock,
    /// What lets it stand still.
    pub freezer: Freezer,
}

/// What is odd about the clocks of a worker's machine. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MachineClock(Arc<Clocks>);

#[derive(Debug, Default)]
struct Clocks {
    /// By how many milliseconds the wall clock is ahead.
    ahead: AtomicI64,
    /// For how many milliseconds the machine has slept.
    slept: AtomicU64,
}

impl MachineClock {
    /// Moves the wall clock by so many milliseconds.
    pub fn jump(&self, millis: i64) {
        self.0.ahead.fetch_add(millis, Ordering::Relaxed);
    }

    /// By how many milliseconds the wall clock is ahead.
    #[must_use]
    pub fn is_ahead_by(&self) -> i64 {
        self.0.ahead.load(Ordering::Relaxed)
    }

    /// The machine has slept for so long.
    pub fn sleep(&self, slept: Duration) {
        let millis = u64::try_from(slept.as_millis()).unwrap_or(u64::MAX);
        self.0.slept.fetch_add(millis, Ordering::Relaxed);
    }

    /// For how long the machine has slept since it was started.
    #[must_use]
    pub fn has_slept(&self) -> Duration {
        Duration::from_millis(self.0.slept.load(Ordering::Relaxed))
    }
}

impl SimEnv {
    /// The machine of a worker whose memory is charged to `owner`.
    #[must_use]
    pub fn new(
        owner: Owner,
        random: ChaCha8Rng,
        launcher: Launcher,
        machine: Machine,
        env_plants: EnvPlants,
    ) -> Self {
        Self(Arc::new(Inner { owner, random: Mutex::new(random), launcher, machine, env_plants }))
    }
}

/// The wall clock of the simulation, in Unix milliseconds.
#[must_use]
pub fn unix_millis() -> UnixMillis {
    u64::try_from((EPOCH + elapsed()).as_millis()).expect("simulations end before the year 292 million")
}

/// Planted nondeterminism: how long the machine has been up, within a second (ms).
fn jitter_of_the_real_clock() -> UnixMillis {
    u64::try_from(wall_clock().as_nanos() % 1_000).expect("below a thousand")
}

/// Planted nondeterminism: `bytes` in the order in which a randomly hashed map yields them. The keys are the kernel's:
/// those of the standard library are seeded on this thread.
#[expect(clippy::disallowed_types, reason = "the bug that this plants")]
fn random_order(bytes: &[u8]) -> Vec<u8> {
    use std::{collections::HashMap, hash::RandomState, thread};
    let keys = thread::spawn(RandomState::new).join().expect("it only draws keys");
    let mut places = HashMap::with_hasher(keys);
    places.extend(bytes.iter().copied().enumerate());
    places.into_values().collect()
}

impl Env for SimEnv {
    type Stream = network::Stream;
    type Server = SimServer;

    async fn connect(&self, address: &Address) -> io::Result<network::Stream> {
        network::connect(&self.0.machine.name, address).await
    }

    async fn launch(&self, launch: Launch) -> Result<SimServer, LaunchError> {
        self.0.launcher.launch(launch).await
    }

    fn now(&self) -> UnixMillis {
        let EnvPlants { clock_panic, real_clock, suspend_unseen, .. } = self.0.env_plants;
        assert!(!clock_panic, "this panic was planted");
        let clock = &self.0.machine.clock;
        let mut now = unix_millis().saturating_add_signed(clock.is_ahead_by());
        if suspend_unseen {
            now -= u64::try_from(clock.has_slept().as_millis()).expect("a run is shorter");
        }
        if real_clock { now + jitter_of_the_real_clock() } else { now }
    }

    /// The timers of all hosts run on while a machine sleeps: they go off when it wakes, which is early.
    fn awake(&self) -> Instant {
        Instant::now() - self.0.machine.clock.has_slept()
    }

    fn random(&self, buffer: &mut [u8]) {
        self.0.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(buffer);
        if self.0.env_plants.random_order {
            let order = unattributed(|| random_order(buffer));
            buffer.copy_from_slice(&order);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is `Env::spawn`: the caller owns the handle")]
    fn spawn<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(Attributed::new(self.0.owner, Freezable::new(self.0.machine.freezer.clone(), task)))
    }
}
