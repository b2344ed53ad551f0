//! Reads a report that was written earlier.

use std::{fs, io, path::Path};

use serde_json::Value;

use crate::data::{Report, SCHEMA};

/// Why a text is not the report of a run that this program reads.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read the report `{path}`: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is not JSON.
    #[error("`{path}` is not a report: {source}")]
    Json {
        /// The file.
        path: String,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// It is the report of a sweep.
    #[error("`{path}` is the report of a sweep, not of a run{hint}")]
    Sweep {
        /// The file.
        path: String,
        /// How to see its first failure, if it has one.
        hint: String,
    },
    /// It has another shape.
    #[error("`{path}` has schema {found}, but this program reads schema {SCHEMA}; make the report again")]
    Schema {
        /// The file.
        path: String,
        /// What stands in it.
        found: Value,
    },
    /// A part of it is not what it should be.
    #[error("`{path}` is not a whole report: {source}; make the report again")]
    Part {
        /// The file.
        path: String,
        /// Which part.
        source: serde_json::Error,
    },
}

impl Report {
    /// Reads the report at `path`.
    ///
    /// # Errors
    /// If it cannot be read, or is no report of a run of the present schema.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let shown = path.display().to_string();
        match fs::read(path) {
            Ok(text) => Self::parse(&shown, &text),
            Err(source) => Err(ReadError::File { path: shown, source }),
        }
    }

    /// Reads a report's text; `path` is for messages.
    ///
    /// # Errors
    /// If it is no report of a run of the present schema.
    pub fn parse(path: &str, text: &[u8]) -> Result<Self, ReadError> {
        let path = path.to_owned();
        let report: Value = match serde_json::from_slice(text) {
            Ok(report) => report,
            Err(source) => return Err(ReadError::Json { path, source }),
        };
        if report["kind"] == "sweep" {
            let mut runs = report["runs"].as_array().into_iter().flatten();
            let failed = runs.find(|run| run["verdict"] != "passed").and_then(|run| run["replay"].as_str());
            let hint = failed.map(|hint| format!("; its first failure is run by `{hint}`"));
            return Err(ReadError::Sweep { path, hint: hint.unwrap_or_default() });
        }
        if report["schema"] != SCHEMA {
            return Err(ReadError::Schema { path, found: report["schema"].clone() });
        }
        serde_json::from_value(report).map_err(|source| ReadError::Part { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{json::json, testing};

    #[test]
    fn what_was_written_is_read_back_to_the_last_byte() {
        for report in [testing::passed(), testing::failed(), testing::in_real_time(testing::load_figures())] {
            let text = json(&report).unwrap();
            let back = Report::parse("some.json", text.as_bytes()).unwrap();
            assert_eq!(json(&back).unwrap(), text);
        }
    }

    #[track_caller]
    fn check(text: &str, says: &str) {
        let error = Report::parse("some.json", text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn what_is_no_report_of_a_run_is_refused() {
        check("# a scenario", "is not a report");
        check("{}", "has schema null");
        check("{ \"schema\": 0 }", "has schema 0, but");
        check("{ \"schema\": 1 }", "is not a whole report: missing field `scenario`");
        let sweep = r#"{ "kind": "sweep", "runs": [{ "verdict": "safety", "replay": "sim x --seed 7" }] }"#;
        check(sweep, "the report of a sweep, not of a run; its first failure is run by `sim x --seed 7`");
    }
}
