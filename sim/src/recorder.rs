//! Where facts come together: everything that watches a run is shown each fact once, in order, with its time.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sim_model::{
    order::Order,
    trace::{Event, Fact, Micros, Name, Names},
};
use sim_oracles::{Class, Stages};
use sim_report::{Engine, Observed, Report};

use crate::{
    engine::{
        determinism::{self, wall_clock},
        memory::unattributed,
    },
    error::RunError,
};

/// What time it is in a run.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// Simulated time.
    Simulated,
    /// Real time since [`wall_clock`] showed `since`; no time passes before there is such a moment.
    Real {
        /// When the run began.
        since: Option<Duration>,
    },
}

impl Clock {
    /// Time since the run began.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        match self {
            Self::Simulated => determinism::elapsed(),
            Self::Real { since } => since.map_or(Duration::ZERO, |since| wall_clock().saturating_sub(since)),
        }
    }
}

/// A watcher besides those of the report.
pub type Follower = Box<dyn FnMut(&Fact) + Send>;

/// What is known about a run.
pub struct Recording {
    /// What its report will be made of.
    pub observed: Observed,
    /// How far each turn is.
    pub stages: Stages,
    clock: Clock,
    followers: Vec<Follower>,
    names: Names,
    /// Whether the report is made: then nothing is recorded any more.
    closed: bool,
}

/// A shared handle to the recording. A simulation uses it from one thread; a run in real time from several, whose facts
/// are then in the order in which they took the lock.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    /// A recorder without facts.
    #[must_use]
    pub fn new(clock: Clock, observed: Observed) -> Self {
        let (stages, names) = (Stages::default(), Names::default());
        let recording = Recording { observed, stages, clock, followers: Vec::new(), names, closed: false };
        Self(Arc::new(Mutex::new(recording)))
    }

    /// Lets `follower` watch, too, from now on.
    pub fn follow(&self, follower: Follower) {
        self.lock().followers.push(follower);
    }

    /// A run in real time begins when [`wall_clock`] shows `since`.
    pub fn begin(&self, since: Duration) {
        self.lock().clock = Clock::Real { since: Some(since) };
    }

    /// Time since the run began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let clock = self.lock().clock;
        clock.elapsed()
    }

    /// The same in µs.
    #[must_use]
    pub fn now(&self) -> Micros {
        micros(self.elapsed())
    }

    /// The shared name for `text`.
    #[must_use]
    pub fn name(&self, text: &str) -> Name {
        unattributed(|| self.lock().names.intern(text))
    }

    /// Records that `event` happened at `host`, now.
    pub fn record(&self, host: &Name, event: Event) {
        unattributed(|| {
            let recording = &mut *self.lock();
            if recording.closed {
                return;
            }
            let fact = Fact { at: micros(recording.clock.elapsed()), host: Name::clone(host), event };
            recording.stages.observe(&fact);
            recording.followers.iter_mut().for_each(|follower| follower(&fact));
            recording.observed.observe(&fact);
        });
    }

    /// Reports, now, a violation that no oracle sees by a fact.
    pub fn raise(&self, oracle: &'static str, class: Class, message: String) {
        self.with(|recording| {
            let at = micros(recording.clock.elapsed());
            recording.observed.raise(oracle, class, at, message);
        });
    }

    /// Whether no oracle waits for anything.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.with(|recording| recording.observed.oracles.pending().is_empty())
    }

    /// Reports everything that the oracles still wait for as violations: its time is up.
    pub fn raise_pending(&self) {
        self.with(|recording| {
            let at = micros(recording.clock.elapsed());
            recording.observed.raise_pending(at);
        });
    }

    /// Looks into the recording, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut Recording) -> T) -> T {
        unattributed(|| look(&mut self.lock()))
    }

    /// Ends the recording, and makes the report of a run of `order`.
    ///
    /// # Errors
    /// If the trace cannot be written to its file.
    pub fn report(&self, order: Order, interrupted: bool, engine: Engine) -> Result<Report, RunError> {
        self.with(|recording| {
            recording.closed = true;
            let at = micros(recording.clock.elapsed());
            let path = order.trace.clone().unwrap_or_default();
            let report = recording.observed.report(order, at, interrupted, engine);
            report.map_err(|source| RunError::Trace { path, source })
        })
    }

    /// A run that panicked is still reported, hence no poisoning.
    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Duration) -> Micros {
    u64::try_from(time.as_micros()).expect("runs are shorter than 500,000 years")
}
