//! How figures are spread over seeds, as histograms.

use maud::{Markup, html};

use crate::{
    html::{
        chart::{Beside, Chart, HEIGHT, SIZES, Shape, Size},
        palette,
    },
    sweep::{
        outcome::{MEASURES, Measure},
        render::value::show,
        report::SweepReport,
    },
};

/// Bars of a histogram.
const BARS: usize = 24;
/// The figures that are drawn; a table has all of them.
const DRAWN: [&str; 4] =
    ["sent → completed, p50", "sent → completed, p99", "calls per turn", "peak worker heap"];

/// The histograms of the scenario called `name`.
pub(super) fn spreads(report: &SweepReport, name: &str) -> Markup {
    let measures = MEASURES.iter().filter(|measure| DRAWN.contains(&measure.name));
    let plots: Vec<_> = measures.filter_map(|measure| spread(report, name, measure)).collect();
    html! {
        @if report.head.scenarios.len() > 1 { h3 { (name) } }
        @if plots.is_empty() { p.soft { "Too few runs to draw." } }
        @for plot in plots { (plot) }
    }
}

fn spread(report: &SweepReport, name: &str, measure: &Measure) -> Option<Markup> {
    let values: Vec<_> =
        report.runs_of(name).filter_map(|run| run.figures.get(measure.name).copied()).collect();
    let (least, most) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
    if most <= least {
        return None;
    }
    let bars = histogram(&values, least, most);
    let show = |value| show(measure.unit, value);
    Some(html! {
        figure {
            figcaption {
                h3 { (measure.name) } " "
                span.soft { "How many runs have how much: from " (show(least)) " to " (show(most)) "." }
            }
            @for size in SIZES { (chart(measure, &bars, least, most, size)) }
        }
    })
}

/// How many values are in each of [`BARS`] equal parts of the range.
fn histogram(values: &[f64], least: f64, most: f64) -> [u64; BARS] {
    let mut bars = [0; BARS];
    for value in values {
        let bar = ((value - least) / (most - least) * BARS as f64) as usize;
        bars[bar.min(BARS - 1)] += 1;
    }
    bars
}

fn chart(measure: &Measure, bars: &[u64; BARS], least: f64, most: f64, size: Size) -> Markup {
    let shape = |(bar, runs): (usize, &u64)| {
        Shape::Bar(palette::line(0), [(bar as f64 + 0.05, 0.0), (bar as f64 + 0.95, *runs as f64)])
    };
    let shapes: Vec<_> = bars.iter().enumerate().filter(|(_, runs)| **runs > 0).map(shape).collect();
    // As many digits as tell one text from the next.
    let digits = if most - least < 20.0 { 10.0 } else { 1.0 };
    let below = |bar: &f64| {
        let value = least + (most - least) * bar / BARS as f64;
        show(measure.unit, (value * digits).round() / digits)
    };
    let whole = |runs: &f64| if runs.fract() == 0.0 { format!("{runs}") } else { String::new() };
    Chart {
        alt: &format!(
            "{} over seeds: from {} to {}",
            measure.name,
            show(measure.unit, least),
            show(measure.unit, most)
        ),
        height: HEIGHT,
        right: BARS as f64,
        top: bars.iter().max().map_or(1.0, |most| *most as f64 * 1.1).max(2.0),
        below: &below,
        beside: Beside::Values(&whole),
        shapes: &shapes,
    }
    .svg(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bar() {
        let bars = histogram(&[1.0, 1.0, 2.0, 3.0], 1.0, 3.0);
        assert_eq!((bars[0], bars[BARS / 2], bars[BARS - 1], bars.iter().sum::<u64>()), (2, 1, 1, 4));
    }
}
