//! `sim run SCENARIO`: one run, watched from the main thread.

use std::{io, path::Path, sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{
    cli::{
        exit::Exit,
        outputs::{Forms, Told},
        run_args::{Part, RunArgs},
        terminal,
    },
    world::{self, progress::Progress},
};
use sim_model::{order::Order, scenario::Scenario, seed::Seed, units::Time};
use sim_report::{Report, RunVerdict};

/// How often the state line is drawn.
const REDRAW: Duration = Duration::from_millis(100);
/// What is written of a run.
pub(super) const FORMS: Forms<Report> = Forms {
    write: sim_report::write,
    told: Told {
        junit: sim_report::sweep::junit_of_run,
        markdown: sim_report::markdown,
        annotations: sim_report::annotations,
    },
};

/// Runs the scenario and prints what came of it.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let path = args.path();
    let scenario = match Scenario::read(path) {
        Ok(scenario) => scenario,
        Err(error) => {
            terminal::complain(&error.render(terminal::is_error_styled()));
            return Ok(Exit::Usage);
        }
    };
    if let Some(contradiction) = args.outputs.contradiction() {
        terminal::complain(contradiction);
        return Ok(Exit::Usage);
    }
    let seed = args.seed.or(scenario.seed).unwrap_or_else(Seed::from_system);
    let order = Order { trace: args.trace.clone(), ..Order::of_file(path, scenario, seed, &args.plant) };
    if let Some(part) = args.part {
        return run_part(order, part, &args.outputs.report);
    }
    let report = show(order, args.outputs.is_quiet())?;
    args.outputs.publish(&report, &FORMS)?;
    Ok(report.verdict.into())
}

/// Runs `order`: says what it is, shows how it goes, and says what came of it.
pub(super) fn show(order: Order, quiet: bool) -> anyhow::Result<Report> {
    if !quiet {
        let options = sim_report::options(&order.scenario, order.seed);
        let (name, description) = (&order.scenario.name, &order.scenario.description);
        terminal::say(&sim_report::header(name, description, order.seed, &order.plants, &options));
    }
    let report = watch(order, quiet)?;
    if !quiet {
        terminal::say(&sim_report::summary(&report, terminal::is_styled()));
    }
    Ok(report)
}

/// A run that another process of this program started and waits for: it ends with that one.
fn run_part(order: Order, part: Part, directory: &Path) -> anyhow::Result<Exit> {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let report = watch(order, true)?;
    if part == Part::Keep && report.verdict != RunVerdict::Passed {
        sim_report::write(&report, directory)
            .with_context(|| format!("cannot write the report into `{}`", directory.display()))?;
    }
    terminal::write(&serde_json::to_string(&report)?);
    Ok(report.verdict.into())
}

/// Runs `order` on its thread; draws its state, and ends it on Ctrl-C.
fn watch(order: Order, quiet: bool) -> anyhow::Result<Report> {
    let bar = state_line(order.scenario.duration, quiet);
    watch_thread(bar, |progress, done| {
        world::start(order, progress, move |report| {
            let _ = done.send(report);
        })
    })
}

/// Watches the thread that `start` starts until it has sent its report; draws its state, and ends it on Ctrl-C and on
/// SIGTERM.
pub(super) fn watch_thread<E: std::error::Error + Send + Sync + 'static>(
    bar: ProgressBar,
    start: impl FnOnce(Arc<Progress>, oneshot::Sender<Result<Report, E>>) -> JoinHandle<()>,
) -> anyhow::Result<Report> {
    let progress = Arc::new(Progress::default());
    let (done, mut finished) = oneshot::channel();
    let thread = start(Arc::clone(&progress), done);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut redraw = tokio::time::interval(REDRAW);
        loop {
            tokio::select! {
                outcome = &mut finished => break Ok::<_, io::Error>(outcome),
                _ = redraw.tick() => draw(&bar, &progress),
                _ = tokio::signal::ctrl_c() => progress.interrupt(),
                _ = terminate.recv() => progress.interrupt(),
            }
        }
    })?;
    bar.finish_and_clear();
    let ended = thread.join();
    let report =
        outcome.map_err(|_| anyhow::anyhow!("the simulator panicked: {}", panic_text(ended.err())))?;
    Ok(report?)
}

fn panic_text(payload: Option<Box<dyn std::any::Any + Send>>) -> String {
    let Some(payload) = payload else { return "no reason given".into() };
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// A line that shows how far a run of this length is.
pub(super) fn state_line(duration: Duration, quiet: bool) -> ProgressBar {
    let length = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // Hidden unless standard error is a terminal: indicatif checks that by itself.
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    bar.with_style(ProgressStyle::with_template("{bar:24} {msg}").expect("a fixed template"))
}

fn draw(bar: &ProgressBar, progress: &Progress) {
    let look = progress.look();
    let seconds = bar.elapsed().as_secs_f64().max(0.001);
    let speed = look.simulated.as_secs_f64() / seconds;
    let turns = look.turns_ended as f64 / seconds;
    bar.set_position(u64::try_from(look.simulated.as_millis()).unwrap_or(u64::MAX));
    bar.set_message(format!(
        "{} simulated, {}/{} turns, {} workers up, {speed:.0} s/s, {turns:.0} turns/s",
        Time(Duration::from_secs(look.simulated.as_secs())),
        look.turns_ended,
        look.turns_sent,
        look.workers_up,
    ));
}
