//! Where facts come together: the trace, the oracles and the figures of one run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    engine::{determinism, memory::unattributed},
    error::RunError,
};
use sim_model::order::Order;
use sim_model::trace::{Event, Fact, Micros, Name, Names, Trace};
use sim_oracles::{Marks, Oracles, Stages};
use sim_report::{self, Engine, Figures, Report, RunVerdict, SCHEMA, Series, TraceSummary};

/// Someone who is shown every fact.
pub type Follower = Box<dyn FnMut(&Fact) + Send>;

/// What is known about a run.
pub struct Recording {
    /// All facts.
    pub trace: Trace,
    /// The oracles.
    pub court: Oracles,
    /// The numbers of the report.
    pub figures: Figures,
    /// The lines of the report.
    pub series: Series,
    /// States worth reaching.
    pub marks: Marks,
    /// How far each turn is.
    pub stages: Stages,
    /// Others who follow the facts of this run.
    pub followers: Vec<Follower>,
    /// Whether the report is made: then nothing is recorded any more.
    pub closed: bool,
    names: Names,
}

impl Recording {
    /// Ends the recording, and says what is known: about a run of `order` in simulation, until something is added to it.
    ///
    /// # Errors
    /// If the trace cannot be written to its file.
    pub fn report(&mut self, order: Order, interrupted: bool, engine: Engine) -> Result<Report, RunError> {
        let Order { scenario, seed, plants, trace: path, replay } = order;
        self.closed = true;
        if let (Err(source), Some(path)) = (self.trace.flush(), path) {
            return Err(RunError::Trace { path, source });
        }
        Ok(Report {
            schema: SCHEMA,
            options: report::options(&scenario, seed),
            scenario: scenario.name,
            source: scenario.source,
            description: scenario.description,
            seed,
            plants,
            verdict: RunVerdict::of(self.court.violations(), interrupted),
            oracles: self.court.counts().iter().map(|(oracle, count)| (*oracle, *count)).collect(),
            marks: self.marks.counts().clone(),
            required_marks: scenario.required_marks,
            violations: self.court.violations().to_vec(),
            figures: self.figures.summary(),
            distribution: self.figures.distribution(),
            timeline: self.series.timeline(now()),
            limits: scenario.limits,
            trace: TraceSummary { facts: self.trace.recorded(), hash: self.trace.hash() },
            replay,
            engine,
            load: None,
        })
    }
}

/// A shared handle to the recording. A simulation uses it from one thread; a run in real time from several, whose facts
/// are then in the order in which they took the lock.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    /// A recorder without facts.
    #[must_use]
    pub fn new(trace: Trace, court: Oracles, marks: Marks) -> Self {
        let (figures, series) = (Figures::default(), Series::default());
        let (stages, names) = (Stages::default(), Names::default());
        let followers = Vec::new();
        let closed = false;
        let recording = Recording { trace, court, figures, series, marks, stages, followers, closed, names };
        Self(Arc::new(Mutex::new(recording)))
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
            let fact = Fact { at: now(), host: Name::clone(host), event };
            if recording.closed {
                return;
            }
            recording.figures.observe(&fact);
            recording.series.observe(&fact);
            recording.marks.observe(&fact);
            recording.stages.observe(&fact);
            recording.followers.iter_mut().for_each(|follower| follower(&fact));
            recording.trace.record(fact.clone());
            recording.court.observe(&fact, &recording.trace);
        });
    }

    /// Looks into the recording, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut Recording) -> T) -> T {
        unattributed(|| look(&mut self.lock()))
    }

    /// A run that panicked is still reported, hence no poisoning.
    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time since the start, simulated or (in a run in real time) real, in µs.
#[must_use]
pub fn now() -> Micros {
    u64::try_from(determinism::elapsed().as_micros()).expect("simulations are shorter than 500,000 years")
}
