use std::collections::{BTreeMap, BTreeSet};

use crate::{
    html::{page, plots::*},
    series::{Mark, Moment},
    testing,
};
use sim_model::{fault::FaultKind, trace::Name};

/// A run in which something happened in every plot: as [`testing::passed`], with a fault.
fn report() -> Report {
    let mut report = testing::passed();
    let fault = |at, what: fn(u64, FaultKind, Name) -> Moment| Mark {
        at,
        what: what(0, FaultKind::Partition, Name::from("worker-1")),
    };
    report.timeline.marks.push(fault(1_500_000, Moment::FaultBegan));
    report.timeline.marks.push(fault(2_500_000, Moment::FaultEnded));
    report
}

/// Values, those that stay counted.
fn told(values: &[f64]) -> String {
    let runs = values.chunk_by(|one, next| one == next);
    let runs =
        runs.map(|run| if run.len() == 1 { run[0].to_string() } else { format!("{}×{}", run[0], run.len()) });
    runs.collect::<Vec<_>>().join(" ")
}

fn data(plots: &[OverTime]) -> String {
    let curve =
        |curve: &Curve| format!("\n  {} in {}: {}", curve.name, curve.colour.variable(), told(&curve.values));
    let plot = |plot: &OverTime| {
        let curves: String = plot.curves.iter().map(curve).collect();
        format!("{}, every {} µs, limit {:?}{curves}", plot.title, plot.width, plot.limit)
    };
    plots.iter().map(plot).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_data_behind_each_plot_are_those_of_the_run() {
    insta::assert_snapshot!(data(&plots(&report())));
}

#[test]
fn a_process_is_plotted_instead_of_what_only_a_simulation_sees() {
    let titles: Vec<_> =
        plots(&testing::in_real_time(testing::load_figures())).iter().map(|plot| plot.title).collect();
    let expected =
        ["Resident memory", "Processor time", "Turns in flight", "Creations within a second", "Convex calls"];
    assert_eq!(titles, expected);
}

/// The drawings of a page for wide screens that are about time, by what they show.
fn drawings(page: &str) -> BTreeMap<String, String> {
    let drawings =
        page.split(r#"<svg class="wide""#).skip(1).map(|rest| rest.split_once("</svg>").unwrap().0);
    let named = drawings.map(|svg| {
        let title = svg.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0;
        (title.to_owned(), svg.to_owned())
    });
    named.filter(|(title, _)| title.contains("over time") || title.starts_with("When ")).collect()
}

/// The texts under a plot and where they stand.
fn ticks(svg: &str) -> Vec<(String, String)> {
    let texts = svg.split("<text ").skip(1).map(|text| text.split_once("</text>").unwrap().0);
    let ticks = texts.filter_map(|text| {
        let (attributes, said) = text.split_once('>').unwrap();
        let x = attributes.split_once("x=\"").unwrap().1.split_once('"').unwrap().0;
        let said = said.trim();
        said.ends_with(" s").then(|| (x.to_owned(), said.to_owned()))
    });
    ticks.collect()
}

#[test]
fn all_plots_over_time_have_one_axis_with_the_same_moments_on_it() {
    let report = report();
    let drawings = drawings(&page(&report));
    let titles: Vec<_> = drawings.keys().map(|title| title.split(':').next().unwrap()).collect();
    assert_eq!(drawings.len(), 7, "{titles:#?}");
    let axes: BTreeSet<_> = drawings.values().map(|svg| ticks(svg)).collect();
    assert_eq!(axes.len(), 1, "{axes:#?}");
    let ticks = axes.first().unwrap();
    assert_eq!((&*ticks[0].1, &*ticks.last().unwrap().1), ("0 s", "5 s"), "{ticks:#?}");
    // The kill at 3 s goes through all of them at one place.
    let kills: BTreeSet<Vec<_>> = drawings.values().map(|svg| lines(svg, palette::KILL)).collect();
    assert_eq!((kills.len(), kills.first().unwrap().len()), (1, 1), "{kills:#?}");
}

/// The corners of the lines of a colour.
fn lines(svg: &str, colour: Colour) -> Vec<String> {
    let colour = format!("stroke=\"{}\"", written(colour));
    let elements =
        svg.split('<').filter(|element| element.starts_with("polyline") && element.contains(&colour));
    elements
        .map(|element| element.split_once("points=\"").unwrap().1.split(',').next().unwrap().to_owned())
        .collect()
}

fn written(colour: Colour) -> String {
    let variable = colour.variable();
    format!("#{}", &variable[7..13])
}

#[test]
fn every_curve_is_drawn_and_goes_through_its_values() {
    let report = report();
    let axis = Axis::of(&report);
    for plot in plots(&report) {
        let shapes = plot.shapes(&axis, 1.0);
        assert_eq!(shapes.len(), plot.curves.len(), "{}", plot.title);
        let curves = if plot.stacked { plot.stack() } else { plot.curves };
        for (shape, curve) in shapes.iter().zip(&curves) {
            let (Shape::Line(colour, corners) | Shape::Area(colour, corners)) = shape else {
                panic!("{}: {shape:?}", plot.title)
            };
            assert_eq!(*colour, curve.colour);
            let drawn: BTreeSet<_> = corners.iter().map(|(_, y)| y.to_bits()).collect();
            let values: BTreeSet<_> = curve.values.iter().map(|value| value.to_bits()).collect();
            assert_eq!(drawn, values, "{}: {}", plot.title, curve.name);
            assert_eq!(corners.last().unwrap().0, axis.end(), "{}: to the end of the run", plot.title);
        }
    }
    for (title, svg) in drawings(&page(&report)) {
        let first = if title.contains("faults") { palette::line(1) } else { palette::line(0) };
        assert!(svg.contains(&written(first)), "nothing is drawn: {title}");
    }
}

#[test]
fn calls_are_summed_within_a_second_and_those_of_rare_functions_together() {
    // Eight functions over 2.4 s; the first has the fewest calls: 1 in each tenth of a second, the last 8.
    let line = |function: u64| ((Measure::Calls, Name::from(format!("f{function}"))), vec![function; 24]);
    let timeline = Timeline {
        end: 2_400_000,
        width: 100_000,
        lines: (1..=8).map(line).collect(),
        ..Timeline::default()
    };
    let plot = calls(&timeline);
    let told: Vec<_> =
        plot.curves.iter().map(|curve| format!("{}: {}", curve.name, told(&curve.values))).collect();
    // The last bucket is cut off by the end of the run.
    insta::assert_snapshot!(told.join("\n"));
    let all: f64 = plot.curves.iter().flat_map(|curve| &curve.values).sum();
    assert_eq!((all, plot.width), (f64::from(24 * (1..=8).sum::<i32>()), CALLS));
    assert_eq!(plot.most(), 360.0, "a stack is as high as all of it together");
}

#[test]
fn the_histogram_has_a_bar_for_each_count_and_marks_where_they_belong() {
    let (left, edge) = (100.0, |bar: i32| 100.0 * Distribution::FACTOR.powi(bar));
    for bar in 0..9 {
        assert!((place(left, edge(bar)) - f64::from(bar)).abs() < 1e-9);
    }
    let marks = [(1.5, palette::KILL)];
    let shapes = columns(&[(120.0, 4), (144.0, 0), (172.8, 7)], &marks);
    let bar = |shape: &Shape| match shape {
        Shape::Bar(_, [(left, _), (right, top)]) => format!("from {left} to {right}: {top}"),
        other => format!("{other:?}"),
    };
    let told: Vec<_> = shapes[..3].iter().map(bar).collect();
    assert_eq!(told, ["from 0.06 to 0.94: 4", "from 1.06 to 1.94: 0", "from 2.06 to 2.94: 7"]);
    assert!(matches!(&shapes[3..], [Shape::Upright(palette::KILL, 1.5)]), "{:?}", &shapes[3..]);
}

#[test]
fn every_colour_of_a_drawing_is_exchanged_in_dark_surroundings() {
    let (page, sheet) = (page(&report()), palette::style_sheet());
    let (light, dark) = sheet.split_once("@media").unwrap();
    let of = |rules: &str, colour: &str| {
        let (_, rest) = rules.split_once(&format!("--c{colour}:")).unwrap_or_else(|| panic!("#{colour}"));
        rest.split_once(';').unwrap().0.to_owned()
    };
    let drawn =
        page.split("<svg").skip(1).flat_map(|svg| svg.split_once("</svg>").unwrap().0.split("=\"#").skip(1));
    let colours: BTreeSet<_> = drawn.map(|colour| &colour[..6]).collect();
    assert!(colours.len() > 7, "{colours:?}");
    for colour in colours {
        assert_ne!(of(light, colour), of(dark, colour), "#{colour}");
    }
}

#[test]
fn only_changes_have_corners() {
    let corners = steps(&[1.0, 1.0, 3.0, 3.0], 10.0, 35.0, 1.0);
    assert_eq!(corners, [(0.0, 1.0), (20.0, 1.0), (20.0, 3.0), (35.0, 3.0)]);
}

#[test]
fn sizes_are_written_in_the_unit_that_suits_them() {
    assert_eq!(Unit::Bytes.show(2048.0), "2 KiB");
    assert_eq!(Unit::Bytes.show(9.0 * 1024.0 * 1024.0), "9 MiB");
    assert_eq!(Unit::PerSecond.show(2.25), "2.2/s");
}
