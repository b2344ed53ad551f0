//! What is known of a run while it goes on: all that its report is made of.

use std::io;

use sim_model::{
    order::Order,
    trace::{Fact, Micros, Trace},
};
use sim_oracles::{Class, Marks, Oracles};

use crate::{
    data::{Engine, Report, SCHEMA, TraceSummary},
    figures::Figures,
    options::options,
    series::Series,
    verdict::RunVerdict,
};

/// Everything that watches a run, fed fact by fact.
pub struct Observed {
    /// All facts.
    pub trace: Trace,
    /// The oracles.
    pub oracles: Oracles,
    /// States worth reaching.
    pub marks: Marks,
    /// The numbers of the report.
    pub figures: Figures,
    /// The lines of the report.
    pub series: Series,
}

impl Observed {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(trace: Trace, oracles: Oracles, marks: Marks) -> Self {
        Self { trace, oracles, marks, figures: Figures::default(), series: Series::default() }
    }

    /// Follows a fact.
    pub fn observe(&mut self, fact: &Fact) {
        self.figures.observe(fact);
        self.series.observe(fact);
        self.marks.observe(fact);
        self.trace.record(fact.clone());
        self.oracles.observe(fact, &self.trace);
    }

    /// Adds a violation that no oracle sees by a fact.
    pub fn raise(&mut self, oracle: &'static str, class: Class, at: Micros, message: String) {
        self.oracles.raise(oracle, class, at, message, &self.trace);
    }

    /// Reports everything that the oracles still wait for at `at` as violations: its time is up.
    pub fn raise_pending(&mut self, at: Micros) {
        self.oracles.raise_pending(at, &self.trace);
    }

    /// The report of a run of `order` that ended at `at`.
    ///
    /// # Errors
    /// If the trace cannot be written to its file.
    pub fn report(
        &mut self,
        order: Order,
        at: Micros,
        interrupted: bool,
        engine: Engine,
    ) -> io::Result<Report> {
        self.trace.flush()?;
        let Order { scenario, seed, plants, replay, .. } = order;
        Ok(Report {
            schema: SCHEMA,
            options: options(&scenario, seed),
            scenario: scenario.name,
            source: scenario.source,
            description: scenario.description,
            seed,
            plants,
            verdict: RunVerdict::of(self.oracles.violations(), interrupted),
            oracles: self.oracles.counts().iter().map(|(oracle, count)| ((*oracle).into(), *count)).collect(),
            marks: self.marks.counts().clone(),
            required_marks: scenario.required_marks,
            violations: self.oracles.violations().to_vec(),
            figures: self.figures.summary(),
            distribution: self.figures.distribution(),
            timeline: self.series.timeline(at),
            limits: scenario.limits,
            trace: TraceSummary { facts: self.trace.recorded(), hash: self.trace.hash() },
            replay,
            engine,
            load: None,
        })
    }
}
