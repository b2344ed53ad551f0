//! The figures that were accepted, and why: `reports/baseline.json`, one line for each figure, sorted by name.
//!
//! Figures are of the dev profile. The release profile was run against them: traces and all figures are the same, but for
//! the peaks of heaps, which were 24 bytes lower in each run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::compare::{Change, FigureSet, changes, tolerances};

/// The shape of the file; raised when a reader would have to change.
const SCHEMA: u32 = 1;
/// Reasons that are kept.
pub const MAX_HISTORY: usize = 20;
/// What a reader of the file should know.
const ABOUT: [&str; 4] = [
    "What the scenarios of `sim gate` cost; made by `cargo run -p sim -- gate --bless --reason TEXT`, never by hand.",
    "One line for each figure; a figure that is not there is zero. History: why it was made anew, newest first.",
    "Bytes are bytes, `_us` are simulated microseconds, `_thousandths` are thousandths; all else is counted.",
    "Made in the dev profile, which the gate runs in; the release profile gives the same but for the heap.",
];

/// The accepted figures of each run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "The gate's baseline")]
pub struct Baseline {
    /// The shape of this file.
    #[schemars(extend("const" = SCHEMA))]
    schema: u32,
    /// What whoever opens the file should know.
    about: Vec<String>,
    /// Which direction of a figure is worse and how far it may go there, by the beginning of its name.
    tolerances: BTreeMap<String, String>,
    /// Why it was made anew, newest first; at most [`MAX_HISTORY`].
    pub history: Vec<String>,
    /// Figures by run.
    pub runs: BTreeMap<String, FigureSet>,
}

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// It cannot be read.
    #[error("cannot read the baseline `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is of another version, or none at all.
    #[error("the baseline `{}` is not of schema {SCHEMA}: {reason}", path.display())]
    Old {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It was made from other runs.
    #[error("the baseline `{}` is out of date: {reason}", path.display())]
    OtherRuns {
        /// The file.
        path: PathBuf,
        /// Which runs are too many or missing.
        reason: String,
    },
}

impl Baseline {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If it is not there, or not of the present schema.
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        let text = fs::read_to_string(path)
            .map_err(|source| BaselineError::Read { path: path.to_owned(), source })?;
        let old = |reason: String| BaselineError::Old { path: path.to_owned(), reason };
        let value: Value = serde_json::from_str(&text).map_err(|error| old(error.to_string()))?;
        if value["schema"] != SCHEMA {
            return Err(old(format!("its schema is {}", value["schema"])));
        }
        serde_json::from_value(value).map_err(|error| old(error.to_string()))
    }

    /// Reads the file at `path`, if there is one.
    ///
    /// # Errors
    /// If there is one and it cannot be read: what replaced it would lose its history.
    pub fn read_if_there(path: &Path) -> Result<Option<Self>, BaselineError> {
        match Self::read(path) {
            Ok(baseline) => Ok(Some(baseline)),
            Err(BaselineError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses a baseline of other runs than `names`: it could not tell better from worse.
    ///
    /// # Errors
    /// Which runs only one side knows.
    pub fn covers<'a>(&self, path: &Path, names: impl Iterator<Item = &'a str>) -> Result<(), BaselineError> {
        let wanted: BTreeSet<&str> = names.collect();
        let known: BTreeSet<&str> = self.runs.keys().map(String::as_str).collect();
        let list =
            |runs: Vec<&str>, what: &str| (!runs.is_empty()).then(|| format!("{what} {}", runs.join(", ")));
        let reasons = [
            list(wanted.difference(&known).copied().collect(), "it does not know"),
            list(known.difference(&wanted).copied().collect(), "no scenario is marked for"),
        ];
        let reason = reasons.into_iter().flatten().collect::<Vec<_>>().join("; ");
        if reason.is_empty() {
            return Ok(());
        }
        Err(BaselineError::OtherRuns { path: path.to_owned(), reason })
    }

    /// What differs in `runs`, the worse first.
    #[must_use]
    pub fn changes(&self, runs: &BTreeMap<String, FigureSet>) -> Vec<Change> {
        let nothing = FigureSet::new();
        let of_run =
            |(name, now): (&String, &FigureSet)| changes(name, self.runs.get(name).unwrap_or(&nothing), now);
        let mut all: Vec<_> = runs.iter().flat_map(of_run).collect();
        all.sort_by_key(|change| change.meaning);
        all
    }

    /// A baseline of `runs`, made for `reason`; `history` is that of the one before.
    #[must_use]
    pub fn bless(runs: BTreeMap<String, FigureSet>, reason: &str, history: Vec<String>) -> Self {
        let mut history: Vec<String> = std::iter::once(reason.trim().to_owned()).chain(history).collect();
        history.truncate(MAX_HISTORY);
        let about = ABOUT.map(str::to_owned).into();
        Self { schema: SCHEMA, about, tolerances: tolerances(), history, runs }
    }

    /// Writes the file, and its directory if need be.
    ///
    /// # Errors
    /// If the system does not let it.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Figure, Meaning};

    fn runs(calls: i64) -> BTreeMap<String, FigureSet> {
        let figures = FigureSet::from([("functions.chat:claim.calls".to_owned(), Figure::Count(calls))]);
        BTreeMap::from([("smoke 0x1".to_owned(), figures)])
    }

    #[test]
    fn it_is_read_as_it_was_written_and_each_figure_has_a_line() {
        let path = tempfile::tempdir().unwrap().path().join("new/baseline.json");
        let baseline = Baseline::bless(runs(30), " first ", Vec::new());
        baseline.write(&path).unwrap();
        assert_eq!(Baseline::read(&path).unwrap(), baseline);
        assert_eq!(baseline.history, ["first"]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().any(|line| line.trim() == r#""functions.chat:claim.calls": 30"#), "{text}");
    }

    #[test]
    fn the_newest_reasons_are_kept() {
        let mut history = Vec::new();
        for number in 1..=MAX_HISTORY + 2 {
            history = Baseline::bless(runs(1), &number.to_string(), history).history;
        }
        assert_eq!((history.len(), &*history[0], &*history[MAX_HISTORY - 1]), (MAX_HISTORY, "22", "3"));
    }

    #[test]
    fn one_more_call_for_each_turn_is_seen() {
        let changes = Baseline::bless(runs(30), "", Vec::new()).changes(&runs(60));
        assert_eq!((changes.len(), changes[0].meaning), (1, Meaning::Worse));
    }

    #[test]
    fn other_runs_are_named() {
        let baseline = Baseline::bless(runs(1), "", Vec::new());
        let path = Path::new("b.json");
        assert!(baseline.covers(path, ["smoke 0x1"].into_iter()).is_ok());
        let error = baseline.covers(path, ["smoke 0x2"].into_iter()).unwrap_err();
        insta::assert_snapshot!(error, @"the baseline `b.json` is out of date: it does not know smoke 0x2; no scenario is marked for smoke 0x1");
    }
}
