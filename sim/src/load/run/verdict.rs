//! What a run is reported as, once it is over.

use super::{
    super::{LoadError, LoadOrder, figures::LoadFigures},
    Ended, Run,
};
use crate::{
    report::{self, Engine, Latency, Report, SCHEMA, TraceSummary, Verdict},
    world::{Order, RunError, determinism::wall_clock, recorder::now},
};

/// What the oracles of a simulation see and this run cannot.
const UNSEEN: [&str; 5] = [
    "the worker's heap (resident memory stands for it)",
    "the sessions that the worker remembers",
    "what the worker says of its own state",
    "the scenario's faults (none is injected in real time)",
    "fairness and the distance of heartbeats (their bounds are those of simulated time)",
];

impl Run<'_> {
    fn figures(&self) -> LoadFigures {
        let LoadOrder { command, time_scale, execution, .. } = self.load;
        let (workers, processor_ms) = {
            let ledger = self.ledger.lock();
            (ledger.processes(), ledger.processor_ms())
        };
        let meter = self.meter.as_ref().expect("a run that has lived was measured");
        let mut whole = meter.read(processor_ms, &self.fakes.gauges, &self.probe);
        // The steps of a rising load have taken theirs.
        whole.added = Latency::of(whole.added.stage, self.probe.lock().in_all());
        let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
        LoadFigures {
            command: words.join(" "),
            time_scale: *time_scale,
            execution_ms: execution.as_secs_f64() * 1000.0,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            workers,
            whole,
            steps: self.steps.clone(),
            knee: self.load.rising.as_ref().map_or(String::new(), |rising| {
                let max_concurrent = self.load.order.scenario.settings.turns.max_concurrent;
                rising.knee(&self.steps, max_concurrent)
            }),
            goals: Vec::new(),
            unseen: UNSEEN.to_vec(),
            against: Vec::new(),
        }
    }

    pub(super) fn report(self, ended: Ended) -> Result<Report, LoadError> {
        let load = self.figures();
        let Order { scenario, seed, plants, trace: path, replay } = self.load.order.clone();
        let wall = wall_clock().saturating_sub(self.began).as_secs_f64();
        let report = self.recorder.with(|recording| {
            recording.closed = true;
            if let (Err(source), Some(path)) = (recording.trace.flush(), path) {
                return Err(RunError::Trace { path, source });
            }
            let court = &recording.court;
            Ok(Report {
                schema: SCHEMA,
                options: report::options(&scenario, seed),
                source: scenario.source,
                scenario: format!("{}-load", scenario.name),
                description: scenario.description,
                seed,
                plants,
                verdict: Verdict::of(court.violations(), ended == Ended::Interrupted),
                oracles: court.counts().iter().map(|(oracle, count)| (*oracle, *count)).collect(),
                violations: court.violations().to_vec(),
                figures: recording.figures.summary(),
                distribution: recording.figures.distribution(),
                timeline: recording.series.timeline(now()),
                limits: scenario.limits,
                marks: recording.marks.counts().clone(),
                required_marks: Vec::new(),
                trace: TraceSummary { facts: recording.trace.recorded(), hash: recording.trace.hash() },
                replay,
                engine: Engine { steps: 0, simulated: wall, wall },
                load: Some(load),
            })
        });
        Ok(report?)
    }
}
