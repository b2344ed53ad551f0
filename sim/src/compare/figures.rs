//! A report's exact figures by name, as whole numbers.

use serde_json::Value;
use sim_report::Report;

use super::{
    figure_set::{Figure, FigureSet, collect, insert, stages, violations},
    real_time,
};

/// The figures of a report: exact ones of a simulation, others of a run in real time.
#[must_use]
pub fn figures(report: &Report) -> FigureSet {
    if let Some(load) = &report.load {
        return real_time::figures(report, load);
    }
    let mut set = FigureSet::new();
    let Value::Object(figures) = serde_json::to_value(&report.figures).expect("figures are plain data")
    else {
        unreachable!("a struct is an object");
    };
    figures.iter().for_each(|(name, value)| collect(&mut set, name, value));
    stages(&mut set, &report.figures.latencies);
    violations(&mut set, report);
    insert(&mut set, "trace.facts".into(), report.trace.facts.cast_signed());
    insert(&mut set, "engine.steps".into(), report.engine.steps.cast_signed());
    set.insert("trace.hash".into(), Figure::Text(report.trace.hash.clone()));
    set
}

#[cfg(test)]
mod tests {
    use sim_report::testing;

    use super::*;

    #[test]
    fn a_report_is_flattened_to_whole_numbers() {
        let lines: Vec<_> = figures(&testing::failed())
            .into_iter()
            .map(|(name, figure)| format!("{name} {figure}"))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
