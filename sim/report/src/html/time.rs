//! The time axis that all plots share, and what stands on it: who was up, who was ended, what went wrong first.

use std::{borrow::Cow, collections::BTreeMap};

use maud::{Markup, html};

use crate::{
    data::Report,
    format,
    html::{
        chart::{Beside, Chart, SIZES, Shape},
        palette::{self, BREACH, Colour, KILL, PHASE, STOP},
    },
    series::{Mark, Moment},
};
use sim_model::{
    fault::FaultKind,
    trace::{Micros, Name, Phase},
};

/// The height of a worker's row.
const ROW: u32 = 22;
/// The height of a fault's row, in whose upper half its name stands.
const NAMED_ROW: u32 = 34;
/// The height of what is not a row: margins, and texts below.
const AROUND: u32 = 46;

/// Time from the start to the end of the run, in seconds.
pub(super) struct Axis {
    end: f64,
    uprights: Vec<(f64, Colour)>,
}

fn seconds(micros: Micros) -> f64 {
    micros as f64 / 1e6
}

impl Axis {
    pub(super) fn of(report: &Report) -> Self {
        let marks = report.timeline.marks.iter().filter_map(|mark| Some((seconds(mark.at), colour(mark)?)));
        let first = report.violations.iter().map(|violation| violation.at).min();
        let breach = first.map(|at| (seconds(at), BREACH));
        // An axis needs a length, even if the run had none.
        Self { end: seconds(report.timeline.end).max(0.001), uprights: marks.chain(breach).collect() }
    }

    pub(super) fn end(&self) -> f64 {
        self.end
    }

    /// A time in µs on this axis.
    pub(super) fn scaled(&self, micros: Micros) -> f64 {
        seconds(micros)
    }

    /// Lines that go through all plots.
    pub(super) fn uprights(&self) -> impl Iterator<Item = Shape> {
        self.uprights.iter().map(|(at, colour)| Shape::Upright(*colour, *at))
    }

    /// A time in words.
    pub(super) fn label(at: &f64) -> String {
        match *at {
            at if at < 600.0 => format!("{at} s"),
            at if at < 36_000.0 => format!("{:.0} min", at / 60.0),
            at => format!("{:.1} h", at / 3600.0),
        }
    }
}

/// The line that a mark has in all plots. Starts have none: they are seen in the rows of workers.
fn colour(mark: &Mark) -> Option<Colour> {
    match mark.what {
        Moment::Killed(_) | Moment::Failed(_) => Some(KILL),
        Moment::StopAsked(_) => Some(STOP),
        Moment::Phase(Phase::Liveness | Phase::Closing) => Some(PHASE),
        Moment::Phase(Phase::Safety)
        | Moment::Started(_)
        | Moment::Stopped(_)
        | Moment::ZombieEnded(_)
        | Moment::FaultBegan(..)
        | Moment::FaultEnded(..) => None,
    }
}

/// When each worker was up.
pub(super) fn workers(report: &Report, axis: &Axis) -> Markup {
    let lives = lives(&report.timeline.marks, report.timeline.end);
    let names: Vec<_> = lives.keys().map(ToString::to_string).collect();
    let rows = u32::try_from(names.len()).expect("a world has few workers");
    let mut shapes = Vec::new();
    for (row, lives) in (0..rows).rev().zip(lives.values()) {
        let row = f64::from(row);
        shapes.extend(lives.iter().map(|[from, to]| {
            Shape::Bar(palette::line(0), [(seconds(*from), row + 0.2), (seconds(*to), row + 0.8)])
        }));
    }
    shapes.extend(axis.uprights());
    let chart = Chart {
        alt: &format!("When {} were up; the moments are in the table below", names.join(", ")),
        height: AROUND + ROW * rows,
        right: axis.end(),
        top: f64::from(rows.max(1)),
        below: &Axis::label,
        beside: Beside::Rows(&names),
        shapes: &shapes,
    };
    html! {
        figure {
            figcaption {
                h3 { "Workers" } " " span.soft { "When they were up. The lines go through all plots." }
                (key(report))
            }
            @if rows == 0 { p.soft { "No worker was started." } }
            @else { @for size in SIZES { (chart.svg(size)) } }
        }
        (moments(report))
    }
}

/// From when to when each worker was up.
fn lives(marks: &[Mark], end: Micros) -> BTreeMap<Name, Vec<[Micros; 2]>> {
    let mut lives: BTreeMap<Name, Vec<[Micros; 2]>> = BTreeMap::new();
    for mark in marks {
        match &mark.what {
            Moment::Started(worker) => {
                let lives = lives.entry(Name::clone(worker)).or_default();
                // One whose successor starts before it has ended is a zombie: from now on that one is the worker.
                if let Some(life) = lives.last_mut() {
                    life[1] = mark.at.min(life[1]);
                }
                lives.push([mark.at, end]);
            }
            Moment::Killed(worker) | Moment::Stopped(worker) | Moment::Failed(worker) => {
                if let Some(life) = lives.get_mut(worker).and_then(|lives| lives.last_mut()) {
                    life[1] = mark.at.min(life[1]);
                }
            }
            Moment::StopAsked(_)
            | Moment::ZombieEnded(_)
            | Moment::FaultBegan(..)
            | Moment::FaultEnded(..)
            | Moment::Phase(_) => {}
        }
    }
    lives
}

fn key(report: &Report) -> Markup {
    let has = |colour| report.timeline.marks.iter().any(|mark| self::colour(mark) == Some(colour));
    let entry = |colour: Colour, name: &str| {
        let style = format!("color:{}", colour.variable());
        html! { li { i.upright.dashed[colour.is_dashed()] style=(style) {} (name) } }
    };
    html! {
        ul.key {
            @if has(KILL) { (entry(KILL, "killed, or ended with an error")) }
            @if has(STOP) { (entry(STOP, "asked to stop")) }
            @if has(PHASE) { (entry(PHASE, "faults are over; then the end")) }
            @if !report.violations.is_empty() { (entry(BREACH, "first violation")) }
        }
    }
}

/// The marks in words.
fn moments(report: &Report) -> Markup {
    let timeline = &report.timeline;
    html! {
        details {
            summary { "Moments in words (" (timeline.marks.len()) ")" }
            div.scroll tabindex="0" role="region" aria-label="Moments" {
                table.story {
                    thead { tr { th scope="col" { "at" } th scope="col" { "who" } th scope="col" { "what" } } }
                    tbody {
                        @for mark in &timeline.marks {
                            @let (who, what) = words(&mark.what);
                            tr { td { (format::seconds(mark.at)) } td { (who) } td { (what) } }
                        }
                    }
                }
            }
            @if timeline.marks_left_out > 0 { p.soft { "… and " (timeline.marks_left_out) " more." } }
        }
    }
}

fn words(moment: &Moment) -> (&str, Cow<'static, str>) {
    let (who, what) = match moment {
        Moment::FaultBegan(_, kind, worker) => return (worker, format!("{kind} began").into()),
        Moment::FaultEnded(_, kind, worker) => return (worker, format!("{kind} ended").into()),
        Moment::Started(worker) => (&**worker, "started"),
        Moment::Killed(worker) => (&**worker, "killed"),
        Moment::StopAsked(worker) => (&**worker, "asked to stop"),
        Moment::Stopped(worker) => (&**worker, "stopped"),
        Moment::Failed(worker) => (&**worker, "ended with an error"),
        Moment::ZombieEnded(worker) => (&**worker, "an older process of it ended"),
        Moment::Phase(Phase::Safety) => ("world", "begins: nothing forbidden may happen"),
        Moment::Phase(Phase::Liveness) => ("world", "faults are over: everything must come to its end"),
        Moment::Phase(Phase::Closing) => ("world", "the workers are asked to end"),
    };
    (who, what.into())
}

/// When each kind of fault was in effect; nothing if there were none.
pub(super) fn faults(report: &Report, axis: &Axis) -> Markup {
    let spans = spans(&report.timeline.marks, report.timeline.end);
    let names: Vec<_> = spans.keys().map(ToString::to_string).collect();
    let rows = u32::try_from(names.len()).expect("there are few kinds");
    // What is over at once is drawn this wide, to be seen.
    let least = axis.end() / 400.0;
    let mut shapes = Vec::new();
    for (row, spans) in (0..rows).rev().zip(spans.values()) {
        let row = f64::from(row);
        shapes.extend(spans.iter().map(|[from, to]| {
            let to = seconds(*to).max(seconds(*from) + least).min(axis.end());
            Shape::Bar(palette::line(1), [(seconds(*from), row + 0.1), (to, row + 0.5)])
        }));
    }
    shapes.extend(axis.uprights());
    let chart = Chart {
        alt: &format!(
            "When these faults were in effect: {}; the moments are in the table above",
            names.join(", ")
        ),
        height: AROUND + NAMED_ROW * rows,
        right: axis.end(),
        top: f64::from(rows.max(1)),
        below: &Axis::label,
        beside: Beside::Within(&names),
        shapes: &shapes,
    };
    html! {
        @if rows > 0 {
            figure {
                figcaption { h3 { "Faults" } " " span.soft { "When each kind was in effect, at any worker." } }
                @for size in SIZES { (chart.svg(size)) }
            }
        }
    }
}

/// From when to when faults of each kind were in effect.
fn spans(marks: &[Mark], end: Micros) -> BTreeMap<FaultKind, Vec<[Micros; 2]>> {
    let mut spans: BTreeMap<FaultKind, BTreeMap<u64, [Micros; 2]>> = BTreeMap::new();
    for mark in marks {
        match &mark.what {
            Moment::FaultBegan(number, kind, _) => {
                spans.entry(*kind).or_default().insert(*number, [mark.at, end]);
            }
            Moment::FaultEnded(number, kind, _) => {
                if let Some(span) = spans.get_mut(kind).and_then(|spans| spans.get_mut(number)) {
                    span[1] = mark.at;
                }
            }
            _ => {}
        }
    }
    spans.into_iter().map(|(kind, spans)| (kind, spans.into_values().collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_lives_from_its_start_to_its_end() {
        let worker = || Name::from("worker-1");
        let mark = |at, what| Mark { at, what };
        let marks = [
            mark(1, Moment::Started(worker())),
            mark(5, Moment::Killed(worker())),
            mark(7, Moment::Started(worker())),
        ];
        assert_eq!(lives(&marks, 9)["worker-1"], [[1, 5], [7, 9]]);
    }
    #[test]
    fn a_fault_lasts_from_its_beginning_to_its_end() {
        let mark = |at, what: fn(u64, FaultKind, Name) -> Moment, number| Mark {
            at,
            what: what(number, FaultKind::Partition, Name::from("worker-1")),
        };
        let marks =
            [mark(1, Moment::FaultBegan, 0), mark(2, Moment::FaultBegan, 1), mark(3, Moment::FaultEnded, 0)];
        assert_eq!(spans(&marks, 9)[&FaultKind::Partition], [[1, 3], [2, 9]]);
    }
}
