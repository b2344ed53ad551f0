//! The report for programs.

use crate::data::Report;

/// The report as JSON; [`crate::data::SCHEMA`] says which shape it has.
///
/// # Errors
/// Never for a report that a run made: it is plain data.
pub(super) fn json(report: &Report) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn programs_get_all_of_a_run_that_failed() {
        insta::assert_snapshot!(json(&testing::failed()).unwrap());
    }

    #[test]
    fn programs_get_what_a_run_in_real_time_measured_besides() {
        let report = serde_json::to_value(testing::in_real_time(testing::load_figures())).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&report["load"]).unwrap());
    }
}
