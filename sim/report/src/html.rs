//! The report as a page: one file, without scripts and without anything from elsewhere.
//!
//! All of it repeats to the last byte, but for the section with the id `machine`.

pub(super) mod chart;
pub(super) mod palette;
mod plots;
pub(super) mod tables;
mod time;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{data::Report, format, load, load_figures::LoadFigures, text, verdict::RunVerdict};
use sim_oracles::{Class, Violation};

const STYLE: &str = include_str!("html/style.css");

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let (_, word) = verdict_words(report.verdict);
    let title = format!("{word}: {} {}", report.scenario, report.seed);
    document(&title, &html! { (head(report)) main { (body(report)) } (machine(report)) })
}

/// A page with this body: one file with all that it needs.
pub(super) fn document(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(palette::style_sheet())) }
            }
            body { (body) }
        }
    };
    let mut page = page.into_string();
    page.push('\n');
    page
}

fn verdict_words(verdict: RunVerdict) -> (&'static str, &'static str) {
    match verdict {
        RunVerdict::Passed => ("good", "Passed"),
        RunVerdict::Safety | RunVerdict::Liveness => ("bad", "Failed"),
        RunVerdict::Interrupted => ("open", "Interrupted"),
    }
}

fn head(report: &Report) -> Markup {
    let (class, word) = verdict_words(report.verdict);
    html! {
        header {
            h1 { (report.scenario) " " span.soft { "seed " (report.seed) } }
            @if !report.description.is_empty() { p.soft { (report.description) } }
            div.verdict.(class) {
                strong { (word) } " " span { (report.verdict.meaning()) }
                @if let Some(first) = report.violations.first() {
                    p { "First: " (first.oracle) " at " (format::seconds(first.at)) ", " (crate::story::tell(first).message) }
                }
                @if !report.plants.is_empty() {
                    p { "Bugs were planted on purpose: " (format!("{:?}", report.plants)) }
                }
            }
            p { "Run exactly this again:" }
            pre tabindex="0" { code { (report.replay) } }
        }
    }
}

fn body(report: &Report) -> Markup {
    let axis = time::Axis::of(report);
    html! {
        section {
            h2 { "Oracles" }
            (tables::oracles(report))
        }
        @if !report.violations.is_empty() { (violations(report)) }
        @if let Some(load) = &report.load { (real_time(load)) }
        section {
            h2 { "What happened when" }
            (time::workers(report, &axis))
            (time::faults(report, &axis))
            (plots::over_time(report, &axis))
        }
        section {
            h2 { "Turns" }
            (tables::turns(report))
            (plots::latency(report))
            (tables::latencies(report))
        }
        section {
            h2 { "Backend functions" }
            (tables::functions(report))
        }
        section {
            h2 { "States worth reaching" }
            (tables::marks(report))
        }
        section {
            h2 { "The run" }
            (tables::words("Figures of the run", &text::facts(report)))
            h3 { "What was run" }
            (tables::words("Options", &report.options))
        }
    }
}

/// What a run in real time measured besides.
fn real_time(load: &LoadFigures) -> Markup {
    html! {
        section {
            h2 { "In real time" }
            p.soft { "The worker's binary as a process of its own. Nothing on this page repeats exactly." }
            (tables::words("In real time", &load::rows(load)))
            @if !load.steps.is_empty() {
                h3 { "Rising load" }
                (tables::table("Rising load", load::STEP_HEAD, &load::steps(&load.steps)))
            }
            @if !load.goals.is_empty() {
                h3 { "Goals" }
                (tables::table("Goals", load::GOAL_HEAD, &load::goals(&load.goals)))
            }
            @if !load.against.is_empty() {
                h3 { "Beside another worker" }
                (tables::against(load))
            }
        }
    }
}

fn violations(report: &Report) -> Markup {
    let kept = report.violations.len();
    let all: u64 = report.oracles.iter().map(|(_, count)| count).sum();
    html! {
        section {
            h2 { "First violation" }
            (story(&report.violations[0]))
            @if kept > 1 {
                details {
                    summary { "Other violations (" (kept - 1) " kept of " (all - 1) ")" }
                    @for violation in &report.violations[1..] { (story(violation)) }
                }
            }
        }
    }
}

fn story(violation: &Violation) -> Markup {
    let class = match violation.class {
        Class::Safety => "safety",
        Class::Liveness => "liveness",
    };
    let story = crate::story::tell(violation);
    html! {
        h3 { span.bad { (violation.oracle) } " (" (class) ") at " (format::seconds(violation.at)) }
        p { (story.message) }
        @if !story.lines.is_empty() {
            p.soft { "What led to it, in seconds before:" }
            div.scroll tabindex="0" role="region" aria-label="What led to it" {
                table.story {
                    thead { tr { th scope="col" { "when" } th scope="col" { "where" } th scope="col" { "what" } } }
                    tbody {
                        @for line in &story.lines { tr { td { (line.when) } td { (line.place) } td { (line.what) } } }
                    }
                }
            }
            @if !story.names.is_empty() {
                p.soft { @for (short, name) in &story.names { (short) " is " code { (name) } ". " } }
            }
        }
    }
}

/// The only part that depends on the machine, and differs from run to run.
fn machine(report: &Report) -> Markup {
    html! {
        footer {
            section #machine {
                h2 { "The machine" }
                @if report.load.is_none() { p { "This depends on the machine; nothing else on this page does." } }
                (tables::words("The machine", &text::machine(report)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::Engine, testing};

    /// The page without style sheet, drawings and what depends on the machine: each has tests of its own.
    fn bones(report: &Report) -> String {
        let mut page = page(report);
        for (start, end) in
            [("<style>", "</style>"), ("</title>\n<", "</svg>"), ("<section id=\"machine\">", "</section>")]
        {
            page = without(&page, start, end);
        }
        page.replace("><", ">\n<")
    }

    fn without(page: &str, start: &str, end: &str) -> String {
        let mut parts = page.split(start);
        let mut kept = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (_, after) = part.split_once(end).expect("what starts ends");
            kept = kept + start + "…" + end + after;
        }
        kept
    }

    #[test]
    fn a_run_that_passed_says_so_first() {
        insta::assert_snapshot!(bones(&testing::passed()));
    }

    #[test]
    fn a_run_that_failed_tells_its_story_and_trusts_no_text() {
        insta::assert_snapshot!(bones(&testing::failed()));
    }

    #[test]
    fn only_one_section_depends_on_the_machine() {
        let engine = |wall| Report { engine: Engine { wall, steps: 7, simulated: 3.0 }, ..testing::failed() };
        let [fast, slow] = [engine(0.1), engine(9.0)].map(|report| page(&report));
        assert_ne!(fast, slow);
        let rest = |page: &str| without(page, "<section id=\"machine\">", "</section>");
        assert_eq!(rest(&fast), rest(&slow));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = page(&testing::failed());
        for foreign in ["http://", "https://", "<script", "<link", "<img", "url(", "@import", " src="] {
            assert!(!page.contains(foreign), "`{foreign}`");
        }
    }

    #[test]
    fn a_run_in_which_nothing_happened_has_a_page() {
        let report = Report {
            timeline: crate::series::Timeline::default(),
            distribution: crate::figures::Distribution::default(),
            ..testing::passed()
        };
        assert!(page(&report).contains("Nothing of the kind happened."));
    }
}
