//! What a run is reported as, once it is over.

use super::{
    super::{LoadError, LoadOrder, figures::LoadFigures},
    Ended, Run,
};
use crate::{
    report::{Engine, Latency, Report},
    world::determinism::wall_clock,
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
        let wall = wall_clock().saturating_sub(self.began).as_secs_f64();
        let engine = Engine { steps: 0, simulated: wall, wall };
        let (order, interrupted) = (self.load.order.clone(), ended == Ended::Interrupted);
        let report = self.recorder.with(|recording| recording.report(order, interrupted, engine))?;
        Ok(Report {
            scenario: format!("{}-load", report.scenario),
            required_marks: Vec::new(),
            load: Some(load),
            ..report
        })
    }
}
