//! The report for programs.

use super::Report;

/// The report as JSON; [`super::SCHEMA`] says which shape it has.
///
/// # Errors
/// Never for a report that a run made: it is plain data.
pub(super) fn json(report: &Report) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}
