//! `sim SCENARIO`: one run, watched from the main thread.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::oneshot;

use super::{Exit, RunArgs, terminal};
use crate::{
    report::{self, Report},
    scenario::{Scenario, Time},
    seed::Seed,
    world::{self, Order, progress::Progress},
};

/// How often the state line is drawn.
const REDRAW: Duration = Duration::from_millis(100);

/// Runs the scenario and prints what came of it.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let path = args.scenario.as_deref().expect("required by clap");
    let scenario = match Scenario::read(path) {
        Ok(scenario) => scenario,
        Err(error) => {
            terminal::complain(&error.render(terminal::is_error_styled()));
            return Ok(Exit::Usage);
        }
    };
    if [&args.junit, &args.markdown].iter().all(|file| file.as_deref().is_some_and(is_stdout)) {
        terminal::complain(
            "error: both --junit and --markdown ask for standard output: give one of them a file",
        );
        return Ok(Exit::Usage);
    }
    let seed = args.seed.or(scenario.seed).unwrap_or_else(Seed::from_system);
    let order = Order {
        replay: replay(path, seed, args),
        trace: args.trace.clone(),
        plants: args.plant.clone(),
        scenario,
        seed,
    };
    let quiet = args.quiet || [&args.junit, &args.markdown].into_iter().flatten().any(|file| is_stdout(file));
    if !quiet {
        let options = report::options(&order.scenario, seed);
        let (name, description) = (&order.scenario.name, &order.scenario.description);
        terminal::say(&report::header(name, description, seed, &order.plants, &options));
    }
    let report = watch(order, quiet)?;
    let [json, html] = report::write(&report, &args.report)
        .with_context(|| format!("cannot write the report into `{}`", args.report.display()))?;
    write_more(args.junit.as_deref(), || report::junit(&report))?;
    write_more(args.markdown.as_deref(), || report::markdown(&report))?;
    if !quiet {
        terminal::say(&report::summary(&report, terminal::is_styled()));
        terminal::say(&format!("report: {} and {}", html.display(), json.display()));
    }
    Ok(report.verdict.into())
}

fn is_stdout(file: &Path) -> bool {
    file == Path::new("-")
}

/// Writes what `text` makes to where it was asked for, if it was.
fn write_more(file: Option<&Path>, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    match file {
        None => {}
        Some(file) if is_stdout(file) => terminal::say(text().trim_end()),
        Some(file) => {
            fs::write(file, text()).with_context(|| format!("cannot write `{}`", file.display()))?;
        }
    }
    Ok(())
}

/// The command that runs exactly this again.
fn replay(path: &Path, seed: Seed, args: &RunArgs) -> String {
    use clap::ValueEnum as _;
    let plants = args.plant.iter().filter_map(|plant| plant.to_possible_value());
    let plants: String = plants.map(|plant| format!(" --plant {}", plant.get_name())).collect();
    format!("cargo run -p sim -- {} --seed {seed}{plants}", path.display())
}

/// Runs `order` on its thread; draws its state, and ends it on Ctrl-C.
fn watch(order: Order, quiet: bool) -> anyhow::Result<Report> {
    let bar = state_line(&order.scenario, quiet);
    let progress = Arc::new(Progress::default());
    let (done, mut finished) = oneshot::channel();
    let thread = world::start(order, Arc::clone(&progress), move |report| {
        let _ = done.send(report);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut redraw = tokio::time::interval(REDRAW);
        loop {
            tokio::select! {
                outcome = &mut finished => break outcome,
                _ = redraw.tick() => draw(&bar, &progress),
                _ = tokio::signal::ctrl_c() => progress.interrupt(),
            }
        }
    });
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

fn state_line(scenario: &Scenario, quiet: bool) -> ProgressBar {
    let length = u64::try_from(scenario.duration.as_millis()).unwrap_or(u64::MAX);
    // Hidden unless standard error is a terminal: indicatif checks that by itself.
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    bar.with_style(ProgressStyle::with_template("{bar:24} {msg}").expect("a fixed template"))
}

fn draw(bar: &ProgressBar, progress: &Progress) {
    let look = progress.look();
    let speed = look.simulated.as_secs_f64() / bar.elapsed().as_secs_f64().max(0.001);
    bar.set_position(u64::try_from(look.simulated.as_millis()).unwrap_or(u64::MAX));
    bar.set_message(format!(
        "{} simulated, {}/{} turns, {} workers up, {speed:.0} s/s",
        Time(Duration::from_secs(look.simulated.as_secs())),
        look.turns_ended,
        look.turns_sent,
        look.workers_up,
    ));
}
