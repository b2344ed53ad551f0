//! What is plotted: lines over time on one common axis, and how long turns took.

use maud::{Markup, html};

use crate::{
    data::Report,
    figures::Distribution,
    format,
    html::{
        chart::{Beside, Chart, HEIGHT, SIZES, Shape},
        palette::{self, Colour},
        time::Axis,
    },
    series::{Measure, Timeline},
};
use sim_model::trace::Micros;

/// Functions with an area of their own; the rest share one.
const FUNCTIONS: usize = 6;
/// Calls are counted in buckets of at least this width, in µs: within shorter ones there is one call or none.
const CALLS: Micros = 1_000_000;
/// A limit further away than this many times the largest value is told in words: drawn, it would hide the values.
const NEAR: f64 = 5.0;

/// What the values are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Count,
    PerSecond,
    Percent,
}

impl Unit {
    /// What a value is divided by, and what is written behind it, if the largest is `most`.
    fn scale(self, most: f64) -> (f64, &'static str) {
        const KIB: f64 = 1024.0;
        match self {
            Self::Bytes if most >= 4.0 * KIB * KIB => (KIB * KIB, " MiB"),
            Self::Bytes => (KIB, " KiB"),
            Self::Count => (1.0, ""),
            Self::PerSecond => (1.0, "/s"),
            Self::Percent => (1.0, "%"),
        }
    }

    fn show(self, value: f64) -> String {
        let (by, name) = self.scale(value);
        let value = value / by;
        if value.fract() == 0.0 { format!("{value}{name}") } else { format!("{value:.1}{name}") }
    }
}

/// One line, or one area of a stack: a value for each bucket.
struct Curve {
    name: String,
    colour: Colour,
    values: Vec<f64>,
}

impl Curve {
    fn most(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }
}

/// Values over time.
struct OverTime {
    title: &'static str,
    note: String,
    unit: Unit,
    limit: Option<(f64, &'static str)>,
    stacked: bool,
    /// The width of a bucket, in µs.
    width: Micros,
    curves: Vec<Curve>,
}

/// All plots over time.
pub(super) fn over_time(report: &Report, axis: &Axis) -> Markup {
    html! { @for plot in plots(report) { (plot.figure(axis)) } }
}

/// What is plotted over time.
fn plots(report: &Report) -> Vec<OverTime> {
    let (timeline, limits) = (&report.timeline, &report.limits);
    let limit = |limit: u64, name| Some((limit as f64, name));
    let inside = [
        OverTime {
            note: "Live bytes, exact: the highest in each moment.".into(),
            ..OverTime::of(timeline, Measure::Heap, "Worker heap", Unit::Bytes)
        },
        OverTime {
            note: "OpenCode sessions that a worker remembers.".into(),
            limit: limit(limits.cached_sessions, "limit"),
            ..OverTime::of(timeline, Measure::Cached, "Sessions cached", Unit::Count)
        },
    ];
    let work = [
        OverTime {
            note: "Sent and not yet claimed, and claimed and not yet over.".into(),
            ..OverTime::of(timeline, Measure::Turns, "Turns in flight", Unit::Count)
        },
        OverTime {
            note: "OpenCode sessions whose creation began within the last second, at every moment.".into(),
            limit: limit(limits.creates_per_second, "limit per server"),
            ..OverTime::of(timeline, Measure::Creates, "Creations within a second", Unit::Count)
        },
        calls(timeline),
    ];
    // Heap and cache are not seen from outside.
    let worker = if report.load.is_some() { processes(timeline) } else { inside };
    worker.into_iter().chain(work).collect()
}

/// The workers' processes, in real time.
fn processes(timeline: &Timeline) -> [OverTime; 2] {
    [
        OverTime {
            note: "Of the worker's process, as the kernel shows it.".into(),
            ..OverTime::of(timeline, Measure::Resident, "Resident memory", Unit::Bytes)
        },
        OverTime {
            note: "Of the worker's process, in percent of one processor.".into(),
            ..OverTime::of(timeline, Measure::Processor, "Processor time", Unit::Percent)
        },
    ]
}

fn floats(values: &[u64]) -> Vec<f64> {
    values.iter().map(|value| *value as f64).collect()
}

/// Calls by function: those with the most of them, and the rest together.
fn calls(timeline: &Timeline) -> OverTime {
    let together = CALLS.div_ceil(timeline.width.max(1)).max(1);
    let width = timeline.width * together;
    let per_second = |calls: u64| calls as f64 * 1e6 / width as f64;
    let chunk = usize::try_from(together).expect("at most 10");
    let rates = |values: &[u64]| values.chunks(chunk).map(|calls| per_second(calls.iter().sum())).collect();
    let mut lines: Vec<_> = timeline.of(Measure::Calls).collect();
    lines.sort_by_key(|(name, values)| (std::cmp::Reverse(values.iter().sum::<u64>()), *name));
    let rest = lines.split_off(lines.len().min(FUNCTIONS));
    let mut curves: Vec<_> = lines
        .iter()
        .enumerate()
        .map(|(number, (name, values))| Curve {
            name: name.to_string(),
            colour: palette::line(number),
            values: rates(values),
        })
        .collect();
    if !rest.is_empty() {
        let sum = |bucket| rest.iter().filter_map(|(_, values)| values.get(bucket)).sum();
        let sums: Vec<u64> = (0..rest[0].1.len()).map(sum).collect();
        let name = format!("{} others", rest.len());
        curves.push(Curve { name, colour: palette::REST, values: rates(&sums) });
    }
    OverTime {
        title: "Convex calls",
        note: "Runs of functions, by request or because the data of a subscription changed, on top of each other."
            .into(),
        unit: Unit::PerSecond,
        limit: None,
        stacked: true,
        width,
        curves,
    }
}

impl OverTime {
    fn of(timeline: &Timeline, measure: Measure, title: &'static str, unit: Unit) -> Self {
        let curve = |(number, (name, values)): (usize, (&sim_model::trace::Name, &[u64]))| Curve {
            name: name.to_string(),
            colour: palette::line(number),
            values: floats(values),
        };
        let curves = timeline.of(measure).enumerate().map(curve).collect();
        Self { title, note: String::new(), unit, limit: None, stacked: false, width: timeline.width, curves }
    }

    fn figure(&self, axis: &Axis) -> Markup {
        let most = self.most();
        let limit = self.limit.filter(|(limit, _)| *limit <= most * NEAR);
        html! {
            figure {
                figcaption {
                    h3 { (self.title) } " " span.soft { (self.note) }
                    @if let (Some((far, name)), None) = (self.limit, limit) {
                        span.soft { " Far from the " (name) " of " (self.unit.show(far)) "." }
                    }
                    (self.key(limit))
                }
                @if self.curves.is_empty() { p.soft { "Nothing of the kind happened." } }
                @else { @for size in SIZES { (self.chart(axis, most, limit, size)) } }
            }
        }
    }

    fn key(&self, limit: Option<(f64, &str)>) -> Markup {
        html! {
            ul.key {
                @for curve in &self.curves {
                    li { i style=(format!("background:{}", curve.colour.variable())) {} (curve.name)
                         ", at most " (self.unit.show(curve.most())) }
                }
                @if let Some((limit, name)) = limit {
                    li { i.dashed style=(format!("color:{}", palette::LIMIT.variable())) {} (name) " " (self.unit.show(limit)) }
                }
            }
        }
    }

    fn chart(
        &self,
        axis: &Axis,
        most: f64,
        limit: Option<(f64, &str)>,
        size: crate::html::chart::Size,
    ) -> Markup {
        let (by, unit) = self.unit.scale(most);
        let top = (most.max(limit.map_or(0.0, |(limit, _)| limit)) / by * 1.1).max(2.0);
        let mut shapes = self.shapes(axis, by);
        shapes.extend(limit.map(|(limit, _)| Shape::Level(palette::LIMIT, limit / by)));
        shapes.extend(axis.uprights());
        let peaks: Vec<_> = self
            .curves
            .iter()
            .map(|curve| format!("{} at most {}", curve.name, self.unit.show(curve.most())))
            .collect();
        let whole = |value: &f64| if value.fract() == 0.0 { format!("{value}{unit}") } else { String::new() };
        Chart {
            alt: &format!("{} over time: {}", self.title, peaks.join(", ")),
            height: HEIGHT,
            right: axis.end(),
            top,
            below: &Axis::label,
            beside: Beside::Values(&whole),
            shapes: &shapes,
        }
        .svg(size)
    }

    /// The highest point of the plot.
    fn most(&self) -> f64 {
        let highest = |curves: &[Curve]| curves.iter().map(Curve::most).fold(0.0, f64::max);
        if self.stacked { self.stack().first().map_or(0.0, Curve::most) } else { highest(&self.curves) }
    }

    /// Each curve on top of those after it.
    fn stack(&self) -> Vec<Curve> {
        let mut below: Vec<f64> = Vec::new();
        let mut stack: Vec<_> = self
            .curves
            .iter()
            .rev()
            .map(|curve| {
                below.resize(curve.values.len(), 0.0);
                below.iter_mut().zip(&curve.values).for_each(|(sum, value)| *sum += value);
                Curve { name: curve.name.clone(), colour: curve.colour, values: below.clone() }
            })
            .collect();
        stack.reverse();
        stack
    }

    fn shapes(&self, axis: &Axis, by: f64) -> Vec<Shape> {
        let corners = |curve: &Curve| steps(&curve.values, axis.scaled(self.width), axis.end(), by);
        if self.stacked {
            self.stack().iter().map(|curve| Shape::Area(curve.colour, corners(curve))).collect()
        } else {
            self.curves.iter().map(|curve| Shape::Line(curve.colour, corners(curve))).collect()
        }
    }
}

/// The corners of a line that changes only between buckets; a value that stays needs none.
fn steps(values: &[f64], width: f64, end: f64, by: f64) -> Vec<(f64, f64)> {
    let mut corners = Vec::new();
    let mut last = None;
    for (bucket, value) in values.iter().map(|value| value / by).enumerate() {
        let at = (bucket as f64 * width).min(end);
        match last {
            Some(last) if last == value => {}
            Some(last) => corners.extend([(at, last), (at, value)]),
            None => corners.push((at, value)),
        }
        last = Some(value);
    }
    corners.extend(last.map(|last| (end, last)));
    corners
}

/// How long completed turns took.
pub(super) fn latency(report: &Report) -> Markup {
    let bars = &report.distribution.bars;
    let Some((first, _)) = bars.first() else {
        return html! { p.soft { "No turn was completed." } };
    };
    let total = report.figures.latencies.last();
    let marks: Vec<_> = total
        .map(|total| vec![("p50", total.p50), ("p90", total.p90), ("p99", total.p99)])
        .unwrap_or_default();
    let left = first / Distribution::FACTOR;
    let colours = [palette::line(2), palette::STOP, palette::KILL];
    html! {
        figure {
            figcaption {
                h3 { "From message to complete reply" } " "
                span.soft { "How many turns took how long; each bar begins a fifth later than the one before." }
                ul.key {
                    @for ((name, value), colour) in marks.iter().zip(colours) {
                        li { i.upright.dashed[colour.is_dashed()] style=(format!("color:{}", colour.variable())) {}
                             (name) " " (format::millis(*value)) }
                    }
                }
            }
            @for size in SIZES { (histogram(bars, left, &marks.iter().map(|mark| place(left, mark.1)).zip(colours).collect::<Vec<_>>(), size)) }
        }
    }
}

/// Where a latency stands, in bars from the left end, which is at `left`.
fn place(left: f64, millis: f64) -> f64 {
    (millis / left).ln() / Distribution::FACTOR.ln()
}

/// A bar for each count, one after the other, and lines at the marks, in bars from the left.
fn columns(bars: &[(f64, u64)], marks: &[(f64, Colour)]) -> Vec<Shape> {
    let inner = |x: f64, side: f64| x + side * 0.06;
    let mut shapes: Vec<_> = (0..)
        .zip(bars)
        .map(|(number, (_, count))| {
            let x = f64::from(number);
            let corners = [(inner(x, 1.0), 0.0), (inner(x + 1.0, -1.0), *count as f64)];
            Shape::Bar(palette::line(0), corners)
        })
        .collect();
    shapes.extend(marks.iter().map(|(at, colour)| Shape::Upright(*colour, *at)));
    shapes
}

fn histogram(
    bars: &[(f64, u64)],
    left: f64,
    marks: &[(f64, Colour)],
    size: crate::html::chart::Size,
) -> Markup {
    let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(0) as f64;
    let right = bars.len().max(8) as f64;
    let edge = |x: &f64| format::millis(left * Distribution::FACTOR.powf(*x));
    let whole = |y: &f64| if y.fract() == 0.0 { format!("{y}") } else { String::new() };
    let turns: u64 = bars.iter().map(|(_, count)| count).sum();
    Chart {
        alt: &format!("How long {turns} completed turns took; the figures are in the table of latencies"),
        height: HEIGHT,
        right,
        top: (most * 1.1).max(2.0),
        below: &edge,
        beside: Beside::Values(&whole),
        shapes: &columns(bars, marks),
    }
    .svg(size)
}

#[cfg(test)]
mod tests;
