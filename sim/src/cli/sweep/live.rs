//! Keeps a bounded number of runs going, shows how far it is, and ends all of them on Ctrl-C or when time is up.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::prepared::{Prepared, subject};
use crate::{
    cli::{run_args::RunArgs, terminal},
    sweep::{
        child::{Job, Outcome},
        plan::PlannedRun,
    },
};
use sim_model::order::replay;
use sim_report::sweep::{
    outcome::Run,
    report::{Ended, Machine, Slow},
};

/// Failed runs named at once; all are in the report.
const NAMED: usize = 10;
/// How often the state line is drawn.
const REDRAW: Duration = Duration::from_millis(200);
/// Failed runs of which a report is kept; of the others there is the line in the sweep's.
const REPORTS: usize = 50;
/// Far enough away not to matter.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a sweep came to.
pub(super) struct Finished {
    pub(super) runs: Vec<Run>,
    pub(super) ended: Ended,
    pub(super) machine: Machine,
}

/// Makes all runs, or as many as it comes to.
pub(super) fn live(prepared: &Prepared, args: &RunArgs, quiet: bool) -> anyhow::Result<Finished> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Sweeping::new(prepared, args, quiet).run())
}

struct Sweeping<'a> {
    prepared: &'a Prepared,
    args: &'a RunArgs,
    quiet: bool,
    bar: ProgressBar,
    began: Instant,
    running: JoinSet<(PlannedRun, Duration, Outcome)>,
    stop: CancellationToken,
    runs: Vec<Run>,
    failed: usize,
    simulated: f64,
    ended: Option<Ended>,
    machine: Machine,
}

impl<'a> Sweeping<'a> {
    fn new(prepared: &'a Prepared, args: &'a RunArgs, quiet: bool) -> Self {
        Self {
            prepared,
            args,
            quiet,
            bar: bar(prepared.runs.len() as u64, quiet),
            began: Instant::now(),
            running: JoinSet::new(),
            stop: CancellationToken::new(),
            runs: Vec::new(),
            failed: 0,
            simulated: 0.0,
            ended: None,
            machine: Machine { jobs: prepared.jobs as u64, ..Machine::default() },
        }
    }

    async fn run(mut self) -> anyhow::Result<Finished> {
        let limit = self.began + self.args.sweep.time_limit.unwrap_or(NEVER);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut redraw = tokio::time::interval(REDRAW);
        let mut waiting = self.prepared.runs.iter();
        loop {
            while self.ended.is_none() && self.running.len() < self.prepared.jobs {
                let Some(planned) = waiting.next() else { break };
                self.start(*planned);
            }
            tokio::select! {
                ended = self.running.join_next() => match ended {
                    None => break,
                    Some(ended) => self.settle(ended?),
                },
                _ = redraw.tick() => self.draw(),
                _ = interrupt.recv() => self.end(Ended::Interrupted),
                _ = terminate.recv() => self.end(Ended::Interrupted),
                () = sleep_until(limit), if self.ended.is_none() => self.end(Ended::TimeLimit),
            }
        }
        self.bar.finish_and_clear();
        self.machine.wall = self.began.elapsed().as_secs_f64();
        let ended = self.ended.unwrap_or(Ended::Complete);
        Ok(Finished { runs: self.runs, ended, machine: self.machine })
    }

    fn start(&mut self, planned: PlannedRun) {
        let (path, _) = subject(self.prepared, planned);
        let job = Job {
            path: path.to_owned(),
            seed: planned.seed,
            plants: self.prepared.head.plants.clone(),
            reports: (self.failed < REPORTS).then(|| self.args.outputs.report.clone()),
        };
        let stop = self.stop.clone();
        self.running.spawn(async move {
            let began = Instant::now();
            let outcome = job.run(stop).await;
            (planned, began.elapsed(), outcome)
        });
    }

    /// Begins nothing more, and ends what is running.
    fn end(&mut self, ended: Ended) {
        self.ended.get_or_insert(ended);
        self.stop.cancel();
    }

    fn settle(&mut self, (planned, took, outcome): (PlannedRun, Duration, Outcome)) {
        let (path, scenario) = subject(self.prepared, planned);
        let crashed = |message: String| {
            let replay = replay(path, planned.seed, &self.prepared.head.plants);
            Run::crashed(&scenario.name, planned.seed, message, replay)
        };
        let run = match outcome {
            Outcome::Stopped => return,
            Outcome::Crashed(message) => crashed(message),
            Outcome::Report(report) => {
                Run::of(&report).unwrap_or_else(|| crashed("it was stopped by somebody else".into()))
            }
        };
        let run = Run { corpus: planned.corpus, ..run };
        self.simulated += run.figure("simulated");
        let (scenario, seed) = (run.scenario.clone(), run.seed);
        self.machine.add(Slow { scenario, seed, wall: took.as_secs_f64() });
        if run.has_failed() {
            self.failed += 1;
            self.tell(&run);
            if self.args.sweep.fail_fast {
                self.end(Ended::FailFast);
            }
        }
        self.runs.push(run);
    }

    /// Says at once that a run failed.
    fn tell(&self, run: &Run) {
        if self.quiet || self.failed > NAMED {
            return;
        }
        let line = sim_report::sweep::failure(run, terminal::is_error_styled());
        self.bar.suspend(|| terminal::complain(&line));
    }

    fn draw(&self) {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let (done, planned) = (self.runs.len() as f64, self.prepared.runs.len() as f64);
        let left = match self.runs.len() {
            0 => "no run has ended yet".to_owned(),
            _ => format!("{:.0} s left", (planned - done) * seconds / done),
        };
        self.bar.set_position(self.runs.len() as u64);
        self.bar.set_message(format!(
            "{done}/{planned} runs, {} failed, {:.1} runs/s, {:.0} s/s, {left}",
            self.failed,
            done / seconds,
            self.simulated / seconds,
        ));
    }
}

fn bar(length: u64, quiet: bool) -> ProgressBar {
    // Hidden unless standard error is a terminal: indicatif checks that by itself.
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    bar.with_style(ProgressStyle::with_template("{bar:24} {msg}").expect("a fixed template"))
}
