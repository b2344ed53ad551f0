//! Scenarios: what exists, what people do, what goes wrong, and what must hold.

pub mod json;
pub mod schema;
pub mod source;
mod validate;
mod worker_settings;

use std::{fs, path::Path, time::Duration};

pub use crate::scenario::json::json_schema;
pub use crate::scenario::schema::{
    Arrival, Family, Gate, Hostile, Limits, Liveness, Permissions, Population, Raw, Replies, Spread,
    WorkerKind, Workload, Written,
};
pub use crate::scenario::source::Source;
use worker::config::Settings;

use crate::{
    Label,
    diagnostics::{Diagnostic, ScenarioError},
    fault::schema::{Fault, Swarm},
    mark,
    seed::Seed,
    units::{Between, Time},
};

/// A scenario that makes sense.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What stands in its file.
    pub source: Source,
    /// For reports.
    pub name: String,
    /// Where it belongs.
    pub family: Family,
    /// What it shows.
    pub description: String,
    /// Which worker runs.
    pub kind: WorkerKind,
    /// The seed of runs that are given none.
    pub seed: Option<Seed>,
    /// How long people and faults are at work.
    pub duration: Duration,
    /// The step of the simulation.
    pub tick: Duration,
    /// How long a message travels.
    pub latency: Between<Time>,
    /// Workers.
    pub workers: usize,
    /// Their settings.
    pub settings: Settings,
    /// What exists at the start.
    pub population: Population,
    /// What people do.
    pub workload: Workload,
    /// What another tenant does to them.
    pub hostile: Hostile,
    /// When people are done.
    pub workload_until: Duration,
    /// What the models say.
    pub replies: Replies,
    /// What goes wrong, as in the file.
    pub faults: Vec<Fault>,
    /// What goes wrong besides, drawn anew by each seed.
    pub swarm: Option<Swarm>,
    /// What the oracles enforce.
    pub limits: Limits,
    /// How long everything may take to come to its end after `duration`.
    pub liveness: Duration,
    /// States that it is there to reach, over all runs of a sweep.
    pub required_marks: Vec<Label>,
    /// Seeds of its runs in `sim gate`; none if it is not part of it.
    pub gate: Vec<Seed>,
}

impl Scenario {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, or makes no sense: then with the place.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let shown = path.display().to_string();
        let source =
            fs::read_to_string(path).map_err(|source| ScenarioError::Read { path: shown.clone(), source })?;
        let stem = path.file_stem().map_or_else(|| shown.clone(), |stem| stem.to_string_lossy().into_owned());
        Self::parse(&shown, &stem, &source)
    }

    /// Checks a scenario's text. `path` is for messages, `stem` is the name if the text gives none.
    ///
    /// # Errors
    /// If it makes no sense, with the place.
    pub fn parse(path: &str, stem: &str, source: &str) -> Result<Self, ScenarioError> {
        let raw: Raw = toml::from_str(source)
            .map_err(|error| ScenarioError::Content(Box::new(Diagnostic::from_toml(path, source, &error))))?;
        validate::validate(&raw)
            .map_err(|complaint| ScenarioError::Content(Box::new(complaint.at(path, source))))?;
        Ok(Self::from_raw(raw, stem, Source::new(path, source)))
    }

    fn from_raw(raw: Raw, stem: &str, source: Source) -> Self {
        let duration = raw.duration.get_ref().0;
        Self {
            source,
            name: raw.name.unwrap_or_else(|| stem.to_owned()),
            family: raw.family,
            description: raw.description,
            kind: raw.kind,
            seed: raw.seed,
            duration,
            tick: raw.tick.get_ref().0,
            latency: *raw.latency.get_ref(),
            workers: usize::try_from(*raw.workers.get_ref()).expect("validated"),
            settings: raw.worker,
            population: raw.population,
            workload_until: validate::until(&raw.workload, duration),
            workload: raw.workload,
            hostile: raw.hostile,
            replies: raw.replies,
            faults: raw.faults,
            swarm: raw.swarm,
            limits: raw.limits,
            required_marks: raw
                .required_marks
                .iter()
                .filter_map(|id| Some(mark::find(id.get_ref())?.id.into()))
                .collect(),
            liveness: raw.liveness.within.0,
            gate: raw.gate.seeds.into_inner(),
        }
    }

    /// By how much two requests can be closer together where they arrive than where they began: a slow way (a new
    /// connection, that is three messages, each at its slowest and delivered at the next edge of a tick) before the
    /// first, a fast way (one message on an open connection) before the second.
    #[must_use]
    pub fn network_spread(&self) -> Duration {
        (self.latency.max.0 + self.tick) * 3 - self.latency.min.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(source: &str) -> String {
        Scenario::parse("some.toml", "some", source).unwrap_err().render(false)
    }

    #[test]
    fn a_scenario_needs_little() {
        let scenario = Scenario::parse("some.toml", "some", "duration = '10min'").unwrap();
        assert_eq!(
            (&*scenario.name, scenario.duration, scenario.workers),
            ("some", Duration::from_secs(600), 1)
        );
        assert_eq!(scenario.workload_until, Duration::from_secs(540));
    }

    #[test]
    fn the_workers_settings_are_those_of_its_config_file() {
        let source = "duration = '1min'\n[worker.sessions]\ncache_capacity = 3";
        let scenario = Scenario::parse("some.toml", "some", source).unwrap();
        assert_eq!(scenario.settings.sessions.cache_capacity, 3);
    }

    #[test]
    fn a_mark_that_does_not_exist_is_shown_with_what_was_meant() {
        insta::assert_snapshot!(complaint("duration = '1min'\nrequired_marks = ['abort', 'kill-in-mid-replay']"), @r"
        error: there is no mark `kill-in-mid-replay`
         --> some.toml:2:28
          |
        2 | required_marks = ['abort', 'kill-in-mid-replay']
          |                            ^^^^^^^^^^^^^^^^^^^^ did you mean `kill-in-mid-reply`?
          |
          = help: a report lists all marks; sim/model/src/mark.rs says when each counts
        ");
        let scenario = "duration = '1min'\nrequired_marks = ['abort']";
        assert_eq!(Scenario::parse("some.toml", "some", scenario).unwrap().required_marks, ["abort"]);
    }

    #[test]
    fn a_misspelled_key_is_shown_with_what_was_meant() {
        insta::assert_snapshot!(complaint("duration = '1min'\n[population]\nsesions = 3"), @r#"
        error: unknown field `sesions`, expected one of `sessions`, `missing_in_opencode`, `only_in_opencode`, `in_other_directories`, `imported_from_other_directories`, `old_messages_per_session`, `stale_pending`, `stale_claimed`
         --> some.toml:3:1
          |
        3 | sesions = 3
          | ^^^^^^^ no such key
          |
          = help: did you mean `sessions`?
        "#);
    }

    #[test]
    fn a_key_like_no_other_is_shown_with_what_there_is() {
        insta::assert_snapshot!(complaint("duration = '1min'\n[latency]\nmin = '1ms'\nmax = '2ms'\nzzz = 1"), @r#"
        error: unknown field `zzz`, expected `min` or `max`
         --> some.toml:5:1
          |
        5 | zzz = 1
          | ^^^ no such key
          |
          = help: known here: min, max
        "#);
    }

    #[test]
    fn a_wrong_value_is_shown_at_its_place() {
        insta::assert_snapshot!(complaint("duration = 'soon'"), @r#"
        error: invalid value: string "soon", expected a duration
         --> some.toml:1:12
          |
        1 | duration = 'soon'
          |            ^^^^^^ here
        "#);
        insta::assert_snapshot!(complaint("duration = '1min'\n[limits]\nbytes_per_call = '3 apples'"), @r#"
        error: invalid value: string "3 apples", expected a number of bytes such as `4096`, `"64KiB"` or `"1MiB"`
         --> some.toml:3:18
          |
        3 | bytes_per_call = '3 apples'
          |                  ^^^^^^^^^^ here
        "#);
    }

    #[test]
    fn a_broken_file_is_shown_at_its_place() {
        insta::assert_snapshot!(complaint("duration = "), @r#"
        error: string values must be quoted, expected literal string
         --> some.toml:1:1
          |
        1 | duration = 
          | ^^^^^^^^^^ here
        "#);
    }

    #[test]
    fn values_that_contradict_each_other_are_shown() {
        insta::assert_snapshot!(complaint("duration = '1min'\n[population]\nsessions = 3\nmissing_in_opencode = 4"), @r#"
        error: more sessions are missing in OpenCode than there are
         --> some.toml:4:23
          |
        4 | missing_in_opencode = 4
          |                       ^ 4 of 3
          |
          = help: `missing_in_opencode` counts some of `sessions`
        "#);
        insta::assert_snapshot!(complaint("duration = '1min'\n[[faults]]\nat = '2min'\nkind = 'kill'"), @r#"
        error: a fault after the end of the run
         --> some.toml:3:6
          |
        3 | at = '2min'
          |      ^^^^^^ the run ends at 1m
          |
          = help: `at` must be before `duration`
        "#);
        insta::assert_snapshot!(complaint("duration = '1min'\n[workload]\nfrom = '58s'"), @r#"
        error: people begin after they are done
         --> some.toml:3:8
          |
        3 | from = '58s'
          |        ^^^^^ the last message is sent by 54s
          |
          = help: `from` must be before `until`, which is nine tenths of `duration` unless given
        "#);
    }

    #[test]
    fn a_range_the_wrong_way_round_is_shown() {
        insta::assert_snapshot!(complaint("duration = '1min'\nlatency = { min = '9ms', max = '2ms' }"), @r#"
        error: min (9ms) is larger than max (2ms)
         --> some.toml:2:11
          |
        2 | latency = { min = '9ms', max = '2ms' }
          |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ here
        "#);
    }

    #[test]
    fn the_gate_runs_each_seed_once() {
        let scenario = Scenario::parse("a.toml", "a", "duration = '1min'\n[gate]\nseeds = [1, 2]").unwrap();
        assert_eq!(scenario.gate, [Seed(1), Seed(2)]);
        insta::assert_snapshot!(complaint("duration = '1min'\n[gate]\nseeds = [1, 1]"), @r#"
        error: the gate runs a scenario with up to 16 different seeds
         --> some.toml:3:9
          |
        3 | seeds = [1, 1]
          |         ^^^^^^ 2 seeds, 1 different
          |
          = help: each seed is one run; name each once
        "#);
    }

    #[test]
    fn a_file_that_is_not_there_names_itself() {
        let error = Scenario::read(Path::new("nowhere/none.toml")).unwrap_err().render(false);
        assert!(error.starts_with("error: cannot read scenario `nowhere/none.toml`"), "{error}");
    }
}
