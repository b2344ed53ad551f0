//! What a run in real time measured, as rows for text and page, and two workers side by side.

use std::path::Path;

use crate::{
    data::Report,
    figures::Latency,
    format,
    load_figures::{Goal, LoadFigures, Other, ProcessFigures, Reading, Step},
    markdown::blocks::{escape, table},
};

/// The head of the table of [`steps`].
pub(super) const STEP_HEAD: [&str; 10] = [
    "turns",
    "each",
    "at once",
    "waiting",
    "deltas/s",
    "added p50",
    "added p99",
    "worker CPU",
    "worker RSS",
    "fakes CPU (Convex, OpenCode)",
];

/// The run in real time, row by row.
pub(super) fn rows(load: &LoadFigures) -> Vec<(String, String)> {
    let mut rows = vec![
        ("worker".to_owned(), load.command.clone()),
        ("built".to_owned(), load.profile.clone()),
        ("simulator".to_owned(), simulator(load).to_owned()),
        ("speed".to_owned(), format!("{} times that of the scenario", load.time_scale)),
    ];
    rows.extend(load.workers.iter().flat_map(process));
    rows.extend(reading(&load.whole, load.processors));
    rows.push((
        "writes that never came".to_owned(),
        format!("{}, as late as when that was clear", load.never_came),
    ));
    rows.push((
        "messages not answered in full".to_owned(),
        format!("{}; their latencies count until that was clear", load.given_up),
    ));
    rows.push((
        "backend".to_owned(),
        format!("a function takes {} ms besides its own work", load.execution_ms),
    ));
    if !load.knee.is_empty() {
        rows.push(("knee".to_owned(), load.knee.clone()));
    }
    if !load.rate_knee.is_empty() {
        rows.push(("knee of the rate".to_owned(), load.rate_knee.clone()));
    }
    rows.push(("not seen from outside".to_owned(), load.unseen.join(",\n")));
    rows
}

fn simulator(load: &LoadFigures) -> &'static str {
    match load.simulator_is_release {
        true => "release profile",
        false => "dev profile: its fakes are slower than in a release, which the worker waits for",
    }
}

fn process(process: &ProcessFigures) -> Vec<(String, String)> {
    let ProcessFigures { name, ready_ms, idle_rss, peak_rss, peak_pss, idle_heap, peak_heap, .. } = process;
    let ProcessFigures { cpu_seconds, threads, files, .. } = process;
    let ready: Vec<_> = ready_ms.iter().map(|ms| format!("{ms:.0}")).collect();
    let [idle, peak] = [*idle_rss, *peak_rss].map(format::size);
    // A worker that hides itself from its user shows these to root alone.
    let pss =
        if *peak_pss > 0 { format!(" (proportional {})", format::size(*peak_pss)) } else { String::new() };
    let files = if *files > 0 { format!(" and {files} open files") } else { String::new() };
    let [idle_heap, peak_heap] = [*idle_heap, *peak_heap].map(format::size);
    vec![
        (format!("{name}: start to ready"), format!("{} ms", ready.join(", "))),
        (format!("{name}: resident"), format!("idle {idle}, at most {peak}{pss}")),
        // Named for what it is: the kernel knows mappings, not allocations.
        (
            format!("{name}: heap"),
            format!("idle {idle_heap}, at most {peak_heap} (resident, with no file behind it)"),
        ),
        (format!("{name}: process"), format!("{cpu_seconds:.2} s of CPU, at most {threads} threads{files}")),
    ]
}

fn reading(reading: &Reading, processors: usize) -> Vec<(String, String)> {
    let Reading { worker_cores, fake_cores, fake_lag, machine_busy, deltas_per_second, added, .. } = reading;
    let [convex, opencode] = fake_cores.map(format::percent);
    let [convex_lag, opencode_lag] = [0, 1].map(|fake: usize| fine(fake_lag[fake].p99));
    vec![
        ("worker CPU".to_owned(), format!("{} of a processor", format::percent(*worker_cores))),
        ("deltas".to_owned(), format!("{deltas_per_second:.0} per second")),
        ("added by the worker".to_owned(), latency(added, "writes")),
        (
            "fakes".to_owned(),
            format!(
                "Convex {convex} of a processor, late by {convex_lag} (p99); OpenCode {opencode}, late by {opencode_lag}"
            ),
        ),
        ("machine".to_owned(), format!("{processors} processors, {} busy", format::percent(*machine_busy))),
    ]
}

fn latency(latency: &Latency, of: &str) -> String {
    let [p50, p90, p99, max] = [latency.p50, latency.p90, latency.p99, latency.max].map(fine);
    format!("p50 {p50}, p90 {p90}, p99 {p99}, at most {max} ({} {of})", latency.count)
}

/// Milliseconds with as many digits as they need: what a worker adds is short.
fn fine(ms: f64) -> String {
    if ms < 100.0 { format!("{ms:.1} ms") } else { format::millis(ms) }
}

/// The steps of a rising load, row by row.
pub(super) fn steps(steps: &[Step]) -> Vec<[String; 10]> {
    let row = |step: &Step| {
        let Reading { worker_cores, fake_cores, deltas_per_second, added, .. } = &step.reading;
        let [convex, opencode] = fake_cores.map(format::percent);
        [
            step.turns.to_string(),
            format!("{}/s", step.deltas_per_turn),
            step.running.to_string(),
            step.waiting.to_string(),
            format!("{deltas_per_second:.0}"),
            fine(added.p50),
            fine(added.p99),
            format::percent(*worker_cores),
            format::size(step.rss),
            format!("{convex}, {opencode}"),
        ]
    };
    steps.iter().map(row).collect()
}

/// Goals, row by row.
pub(super) fn goals(goals: &[Goal]) -> Vec<[String; 4]> {
    let met = |met| match met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "not measured",
    };
    let row = |goal: &Goal| {
        let Goal { what, goal: aim, measured, met: is_met } = goal.clone();
        [what, aim, measured, met(is_met).to_owned()]
    };
    goals.iter().map(row).collect()
}

/// The head of the table of [`goals`].
pub(super) const GOAL_HEAD: [&str; 4] = ["goal", "aimed at", "measured", ""];

impl Report {
    /// Puts the figures of another worker under the same load, whose own report is at `path`, beside these.
    pub fn compare_load(&mut self, other: &Self, path: &Path) {
        let (ours, theirs) = (comparable(self), comparable(other));
        let (Some(load), Some(their_load)) = (&mut self.load, &other.load) else { return };
        let pairs = ours.into_iter().zip(theirs);
        load.against = pairs.map(|((name, ours), (_, theirs))| (name, ours, theirs)).collect();
        let report = path.display().to_string();
        load.against.push(("report".to_owned(), "this one".to_owned(), report.clone()));
        load.other = Some(Other {
            command: their_load.command.clone(),
            verdict: other.verdict,
            violations: other.oracles.iter().filter(|(_, count)| *count > 0).cloned().collect(),
            first: other.violations.first().map(|first| (first.oracle.clone(), first.message.clone())),
            report,
        });
    }
}

/// The longest message of a violation in a table (characters).
const MESSAGE: usize = 200;

/// What two workers are compared by; the same names in the same order for every report.
fn comparable(report: &Report) -> Vec<(String, String)> {
    let turns = |outcome| report.figures.turns.get(outcome).copied().unwrap_or(0).to_string();
    let command = report.load.as_ref().map_or(String::new(), |load| load.command.clone());
    let violated: Vec<_> = report.oracles.iter().filter(|(_, count)| *count > 0).collect();
    let violated: Vec<_> = violated.iter().map(|(oracle, count)| format!("{oracle} {count}")).collect();
    let first = report.violations.first().map(|first| {
        let at = format::seconds(first.at);
        let message: String = first.message.chars().take(MESSAGE).collect();
        format!("{} at {at}: {message}", first.oracle)
    });
    let mut rows: Vec<(String, String)> = [
        ("worker", command),
        ("verdict", report.verdict.meaning().to_owned()),
        ("violations", report.oracles.iter().map(|(_, count)| count).sum::<u64>().to_string()),
        ("violated", if violated.is_empty() { "nothing".into() } else { violated.join(", ") }),
        ("first violation", first.unwrap_or_else(|| "–".to_owned())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let outcomes = ["completed", "failed", "expired", "open"];
    rows.extend(outcomes.map(|outcome| (format!("turns {outcome}"), turns(outcome))));
    rows.push(("calls per turn".to_owned(), format!("{:.1}", report.figures.worker_calls_per_turn)));
    rows.extend(report.figures.latencies.iter().map(|one| (one.stage.to_string(), latency(one, "turns"))));
    if let Some(load) = &report.load {
        rows.push(("not answered in full".to_owned(), load.given_up.to_string()));
        rows.push(("writes that never came".to_owned(), load.never_came.to_string()));
        rows.extend(load.workers.iter().flat_map(process));
        rows.extend(reading(&load.whole, load.processors));
    }
    rows
}

/// The heading over the latencies of a report's turns.
pub(super) fn latency_head(report: &Report) -> &'static str {
    match report.load {
        None => "latency of completed turns",
        Some(_) => "latency of turns, however they ended",
    }
}

/// The run in real time as Markdown; nothing if it was none.
pub(super) fn markdown(page: &mut String, report: &Report) {
    let Some(load) = &report.load else { return };
    if !load.goals.is_empty() {
        let rows = goals(&load.goals).into_iter().map(|row| row.map(|cell| escape(&cell)));
        table(page, GOAL_HEAD, rows);
    }
    let rows = rows(load).into_iter().map(|(name, value)| [escape(&name), escape(&value)]);
    table(page, ["in real time", ""], rows);
    if !load.steps.is_empty() {
        table(page, STEP_HEAD, steps(&load.steps));
    }
    if !load.against.is_empty() {
        let rows =
            load.against.iter().map(|(name, ours, theirs)| [name, ours, theirs].map(|cell| escape(cell)));
        table(page, ["beside another worker", "ours", "theirs"], rows);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::{self, in_real_time, load_figures};

    #[test]
    fn a_run_in_real_time_is_told_in_rows() {
        let told: Vec<_> =
            rows(&load_figures()).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        insta::assert_snapshot!(told.join("\n"));
        insta::assert_snapshot!(steps(&load_figures().steps)[0].join(" | "));
    }

    #[test]
    fn two_workers_are_put_side_by_side() {
        let mut ours = in_real_time(load_figures());
        let theirs = Report { load: Some(load_figures()), ..testing::failed() };
        ours.compare_load(&theirs, Path::new("reports/theirs.json"));
        let load = ours.load.as_ref().unwrap();
        let row = |wanted: &str| {
            let row = load.against.iter().find(|(name, ..)| name == wanted).unwrap();
            (row.1.clone(), row.2.clone())
        };
        assert_eq!(row("violated"), ("nothing".into(), "throttle 17".into()));
        assert_eq!(row("verdict").1, "something forbidden happened");
        assert!(row("first violation").1.starts_with("throttle at 1.500000 s: 6 creations"));
        assert_eq!(row("report").1, "reports/theirs.json");
        let other = load.other.as_ref().unwrap();
        assert_eq!((other.verdict, &other.violations[..]), (theirs.verdict, &[("throttle".into(), 17)][..]));
        // The verdict is ours.
        assert_eq!(ours.verdict, crate::verdict::RunVerdict::Passed);
        let page = crate::html::page(&ours);
        assert!(page.contains("Beside another worker") && page.contains("In real time"));
        assert!(crate::markdown(&ours).contains("| violated | nothing | throttle 17 |"));
    }

    fn with_goals() -> Report {
        let goal =
            |what: &str, met| Goal { what: what.into(), goal: "under 9".into(), measured: "7".into(), met };
        let goals = vec![goal("speed", Some(true)), goal("size", Some(false)), goal("a|b", None)];
        in_real_time(LoadFigures { goals, ..load_figures() })
    }

    #[test]
    fn goals_steps_and_figures_are_told_in_markdown() {
        let page = crate::markdown(&with_goals());
        insta::assert_snapshot!(&page[page.find("| goal |").unwrap()..]);
    }
}
