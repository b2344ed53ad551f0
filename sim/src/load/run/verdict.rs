//! What a run is reported as, once it is over.

use crate::{
    engine::determinism::wall_clock,
    load::{
        order::{LoadError, LoadOrder},
        run::{Run, ended::Ended},
    },
};
use sim_report::{Engine, LoadFigures, Reading, Report};

/// What the oracles of a simulation see and this run cannot, by their names.
const UNSEEN: [&str; 5] = [
    "memory: bytes of heap and the sessions that the worker remembers (resident stands for both)",
    "lifecycle: phases and the distance of heartbeats (how a process ends, and whether it says goodbye, is judged)",
    "fairness: its bounds are those of simulated time",
    "cleanup: memory (processes, OpenCode and connections are judged)",
    "all: under faults other than ends of workers (none is injected in real time)",
];

impl Run<'_> {
    fn figures(&self) -> LoadFigures {
        let LoadOrder { command, profile, time_scale, execution, rising, .. } = self.load;
        let whole = self.whole.clone().expect("a run that has lived was measured");
        let (meter, workers) = (self.meter.as_ref(), self.ledger.lock().processes());
        // Late writes come when people have done theirs, and they are the ones that matter.
        let added = meter.map_or(whole.added, |meter| self.read(meter).added);
        let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
        LoadFigures {
            command: words.join(" "),
            profile: profile.clone(),
            simulator_is_release: !cfg!(debug_assertions),
            time_scale: *time_scale,
            execution_ms: execution.as_secs_f64() * 1000.0,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            workers,
            whole: Reading { added, ..whole },
            never_came: self.probe.lock().never_came(),
            given_up: self.recorder.with(|all| all.observed.figures.given_up()),
            steps: self.steps.clone(),
            knee: rising.as_ref().map_or(String::new(), |rising| {
                rising.knee(&self.steps, self.load.order.scenario.settings.turns.max_concurrent)
            }),
            rate_knee: String::new(),
            goals: Vec::new(),
            unseen: UNSEEN.map(Into::into).into(),
            against: Vec::new(),
            other: None,
        }
    }

    pub(super) fn report(self, ended: Ended) -> Result<Report, LoadError> {
        let load = self.figures();
        let wall = wall_clock().saturating_sub(self.began).as_secs_f64();
        let engine = Engine { steps: 0, simulated: wall, wall };
        let (order, interrupted) = (self.load.order.clone(), ended == Ended::Interrupted);
        let report = self.recorder.report(order, interrupted, engine)?;
        Ok(Report {
            scenario: format!("{}-load", report.scenario),
            required_marks: Vec::new(),
            load: Some(load),
            ..report
        })
    }
}
