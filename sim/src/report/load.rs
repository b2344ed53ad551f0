//! What a run in real time measured, as rows for text and page, and two workers side by side.

use super::{Latency, Report, text};
use crate::load::figures::{Goal, LoadFigures, ProcessFigures, Reading, Step};

/// The head of the table of [`steps`].
pub(super) const STEP_HEAD: [&str; 9] = [
    "turns",
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
        ("speed".to_owned(), format!("{} times that of the scenario", load.time_scale)),
    ];
    rows.extend(load.workers.iter().flat_map(process));
    rows.extend(reading(&load.whole, load.processors));
    rows.push((
        "backend".to_owned(),
        format!("a function takes {} ms besides its own work", load.execution_ms),
    ));
    if !load.knee.is_empty() {
        rows.push(("knee".to_owned(), load.knee.clone()));
    }
    rows.push(("not seen from outside".to_owned(), load.unseen.join(",\n")));
    rows
}

fn process(process: &ProcessFigures) -> Vec<(String, String)> {
    let ProcessFigures { name, ready_ms, idle_rss, peak_rss, peak_pss, cpu_seconds, threads, files, .. } =
        process;
    let ready: Vec<_> = ready_ms.iter().map(|ms| format!("{ms:.0}")).collect();
    let [idle, peak, pss] = [*idle_rss, *peak_rss, *peak_pss].map(text::size);
    vec![
        (format!("{name}: start to ready"), format!("{} ms", ready.join(", "))),
        (format!("{name}: resident"), format!("idle {idle}, at most {peak} (proportional {pss})")),
        (
            format!("{name}: process"),
            format!("{cpu_seconds:.2} s of CPU, at most {threads} threads and {files} open files"),
        ),
    ]
}

fn reading(reading: &Reading, processors: usize) -> Vec<(String, String)> {
    let Reading { worker_cores, fake_cores, fake_lag, machine_busy, deltas_per_second, added, .. } = reading;
    let [convex, opencode] = fake_cores.map(text::percent);
    let [convex_lag, opencode_lag] = [0, 1].map(|fake: usize| fine(fake_lag[fake].p99));
    vec![
        ("worker CPU".to_owned(), format!("{} of a processor", text::percent(*worker_cores))),
        ("deltas".to_owned(), format!("{deltas_per_second:.0} per second")),
        ("added by the worker".to_owned(), latency(added)),
        (
            "fakes".to_owned(),
            format!(
                "Convex {convex} of a processor, late by {convex_lag} (p99); OpenCode {opencode}, late by {opencode_lag}"
            ),
        ),
        ("machine".to_owned(), format!("{processors} processors, {} busy", text::percent(*machine_busy))),
    ]
}

fn latency(latency: &Latency) -> String {
    let [p50, p90, p99, max] = [latency.p50, latency.p90, latency.p99, latency.max].map(fine);
    format!("p50 {p50}, p90 {p90}, p99 {p99}, at most {max} ({} writes)", latency.count)
}

/// Milliseconds with as many digits as they need: what a worker adds is short.
fn fine(ms: f64) -> String {
    if ms < 100.0 { format!("{ms:.1} ms") } else { text::millis(ms) }
}

/// The steps of a rising load, row by row.
pub(super) fn steps(steps: &[Step]) -> Vec<[String; 9]> {
    let row = |step: &Step| {
        let Reading { worker_cores, fake_cores, deltas_per_second, added, .. } = &step.reading;
        let [convex, opencode] = fake_cores.map(text::percent);
        [
            step.turns.to_string(),
            step.running.to_string(),
            step.waiting.to_string(),
            format!("{deltas_per_second:.0}"),
            fine(added.p50),
            fine(added.p99),
            text::percent(*worker_cores),
            text::size(step.rss),
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
    /// Puts the figures of another worker under the same load beside these.
    pub fn compare_load(&mut self, other: &Self) {
        let (ours, theirs) = (comparable(self), comparable(other));
        let Some(load) = &mut self.load else { return };
        let pairs = ours.into_iter().zip(theirs);
        load.against = pairs.map(|((name, ours), (_, theirs))| (name, ours, theirs)).collect();
    }
}

/// What two workers are compared by; the same names in the same order for every report.
fn comparable(report: &Report) -> Vec<(String, String)> {
    let turns = |outcome| report.figures.turns.get(outcome).copied().unwrap_or(0).to_string();
    let mut rows: Vec<_> = ["completed", "failed", "expired", "open"]
        .map(|outcome| (format!("turns {outcome}"), turns(outcome)))
        .into();
    let violations: u64 = report.oracles.iter().map(|(_, count)| count).sum();
    rows.push(("violations".to_owned(), violations.to_string()));
    rows.push(("calls per turn".to_owned(), format!("{:.1}", report.figures.worker_calls_per_turn)));
    rows.extend(report.figures.latencies.iter().map(|one| (one.stage.to_owned(), latency(one))));
    if let Some(load) = &report.load {
        rows.extend(load.workers.iter().flat_map(process));
        rows.extend(reading(&load.whole, load.processors));
    }
    rows
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::testing;

    pub(in crate::report) fn figures() -> LoadFigures {
        let latency = |stage, p99| Latency { stage, count: 7, p50: 0.4, p90: 1.0, p99, max: 120.4 };
        let worker = ProcessFigures {
            name: "worker-1".into(),
            ready_ms: vec![71.2, 80.9],
            idle_rss: 9 << 20,
            peak_rss: 12 << 20,
            peak_pss: 8 << 20,
            cpu_seconds: 1.234,
            threads: 1,
            files: 14,
            orphans: 0,
        };
        let reading = Reading {
            seconds: 20.0,
            worker_cores: 0.061,
            fake_cores: [0.2, 0.1],
            fake_lag: [latency("lag of the fake Convex", 1.5), latency("lag of the fake OpenCode", 1.1)],
            machine_busy: 0.4,
            deltas_per_second: 321.4,
            added: latency("added by the worker", 2.25),
        };
        let step = Step { turns: 10, running: 10, waiting: 0, rss: 12 << 20, reading: reading.clone() };
        LoadFigures {
            command: "worker run".into(),
            time_scale: 2.0,
            execution_ms: 2.0,
            processors: 2,
            workers: vec![worker],
            whole: reading,
            steps: vec![step],
            knee: "none up to 10 turns".into(),
            goals: Vec::new(),
            unseen: vec!["the heap"],
            against: Vec::new(),
        }
    }

    #[test]
    fn a_run_in_real_time_is_told_in_rows() {
        let told: Vec<_> =
            rows(&figures()).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        insta::assert_snapshot!(told.join("\n"));
        insta::assert_snapshot!(steps(&figures().steps)[0].join(" | "));
    }

    #[test]
    fn two_workers_are_put_side_by_side() {
        let mut ours = Report { load: Some(figures()), ..testing::passed() };
        let theirs = Report { load: Some(figures()), ..testing::failed() };
        ours.compare_load(&theirs);
        let against = &ours.load.as_ref().unwrap().against;
        let violations = against.iter().find(|(name, ..)| name == "violations").unwrap();
        assert_eq!((&*violations.1, violations.2 != "0"), ("0", true));
        let page = crate::report::page(&ours);
        assert!(page.contains("Beside another worker") && page.contains("In real time"));
    }
}
