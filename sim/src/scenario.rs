//! Scenarios: what exists, what people do, what goes wrong, and what must hold.

mod diagnostics;
mod draw;
mod json;
mod schema;
mod source;
mod values;

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use toml::Spanned;

pub use diagnostics::{Diagnostic, ScenarioError};
pub use draw::{ConnectRequest, DirectUse, Directly, EndSession, Message, Plan};
pub use json::json_schema;
pub use schema::{
    Arrival, Family, Gate, Kind, Limits, Liveness, Permissions, Population, Raw, Replies, Spread, Workload,
    Written,
};
pub use source::Source;
pub use values::{Between, Bytes, Share, Time};
use worker::config::Settings;

use crate::{
    faults::{
        Fault, Swarm,
        validate::{self, Frame},
    },
    marks,
    seed::Seed,
    world::memory::OWNERS,
};

/// Simulations of more hosts are slower than real time: turmoil's cost per step grows with their square.
const MAX_WORKERS: u64 = 16;
/// turmoil delivers at edges of ticks; longer ticks would stretch round trips beyond what the worker's timeouts expect.
const MAX_TICK: Duration = Duration::from_millis(100);
/// The gate is for every change: it has to stay quick.
const MAX_GATE_SEEDS: usize = 16;

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
    pub kind: Kind,
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
    pub required_marks: Vec<&'static str>,
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
        validate(&raw).map_err(|complaint| ScenarioError::Content(Box::new(complaint.at(path, source))))?;
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
            workload_until: until(&raw.workload, duration),
            workload: raw.workload,
            replies: raw.replies,
            faults: raw.faults,
            swarm: raw.swarm,
            limits: raw.limits,
            required_marks: raw
                .required_marks
                .iter()
                .filter_map(|id| Some(marks::find(id.get_ref())?.id))
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

fn until(workload: &Workload, duration: Duration) -> Duration {
    workload.until.as_ref().map_or(duration.mul_f64(0.9), |until| until.get_ref().0)
}

/// A complaint about the sense of a value.
pub(crate) struct Complaint {
    title: String,
    span: std::ops::Range<usize>,
    label: String,
    help: &'static str,
}

impl Complaint {
    fn at(self, path: &str, source: &str) -> Diagnostic {
        let Self { title, span, label, help } = self;
        Diagnostic { path: path.into(), source: source.into(), title, span, label, help: Some(help.into()) }
    }
}

/// Refuses `value` unless `sound`.
pub(crate) fn require<T>(
    sound: bool,
    value: &Spanned<T>,
    title: impl Into<String>,
    label: impl Into<String>,
    help: &'static str,
) -> Result<(), Complaint> {
    if sound {
        return Ok(());
    }
    Err(Complaint { title: title.into(), span: value.span(), label: label.into(), help })
}

fn validate(raw: &Raw) -> Result<(), Complaint> {
    let duration = raw.duration.get_ref().0;
    require(
        !duration.is_zero(),
        &raw.duration,
        "the run has no duration",
        "zero",
        "give it at least a second",
    )?;
    validate_network(raw)?;
    let workers = *raw.workers.get_ref();
    require(
        (1..=MAX_WORKERS.min(OWNERS as u64 - 1)).contains(&workers),
        &raw.workers,
        format!("a world has 1 to {MAX_WORKERS} workers"),
        format!("{workers} workers"),
        "more hosts make the simulation slower than real time",
    )?;
    validate_population(&raw.population)?;
    validate_workload(&raw.workload, &raw.population, duration)?;
    validate_messages(&raw.workload, &raw.population, workers, duration)?;
    validate_gate(&raw.gate)?;
    raw.required_marks.iter().try_for_each(validate_mark)?;
    let frame = Frame { workers, duration };
    raw.faults.iter().try_for_each(|fault| validate::fault(fault, frame))?;
    raw.swarm.iter().try_for_each(|swarm| validate::swarm(swarm, frame))
}

fn validate_network(raw: &Raw) -> Result<(), Complaint> {
    let tick = raw.tick.get_ref();
    require(
        !tick.0.is_zero() && tick.0 <= MAX_TICK && tick.0.subsec_micros().is_multiple_of(1000),
        &raw.tick,
        "a tick is a whole number of milliseconds, from 1 to 100",
        format!("{tick}"),
        "10ms is a good tick: fast, and shorter than the latencies of a network",
    )?;
    let latency = raw.latency.get_ref();
    let whole = |time: Time| time.0.subsec_micros().is_multiple_of(1000);
    require(
        whole(latency.min) && whole(latency.max),
        &raw.latency,
        "latencies are whole milliseconds",
        "finer than the simulated network",
        "the simulated network rounds to whole milliseconds, and then up to the next tick",
    )
}

fn validate_population(population: &Population) -> Result<(), Complaint> {
    let sessions = population.sessions;
    let missing = &population.missing_in_opencode;
    require(
        *missing.get_ref() <= sessions,
        missing,
        "more sessions are missing in OpenCode than there are",
        format!("{} of {sessions}", missing.get_ref()),
        "`missing_in_opencode` counts some of `sessions`",
    )?;
    let claimed = &population.stale_claimed;
    require(
        *claimed.get_ref() <= sessions,
        claimed,
        "more turns were claimed than there are sessions",
        format!("{} in {sessions} sessions", claimed.get_ref()),
        "a session has at most one claimed turn",
    )?;
    let pending = &population.stale_pending;
    require(
        *pending.get_ref() == 0 || sessions > 0,
        pending,
        "stale turns need a session",
        "there are no sessions",
        "set `sessions` to at least 1",
    )
}

fn validate_workload(
    workload: &Workload,
    population: &Population,
    duration: Duration,
) -> Result<(), Complaint> {
    let (from, end) = (&workload.from, until(workload, duration));
    require(
        from.get_ref().0 < end,
        from,
        "people begin after they are done",
        format!("the last message is sent by {}", Time(end)),
        "`from` must be before `until`, which is nine tenths of `duration` unless given",
    )?;
    if let Some(until) = &workload.until {
        require(
            until.get_ref().0 <= duration,
            until,
            "people are at work after the end of the run",
            format!("the run ends at {}", Time(duration)),
            "`until` must be within `duration`",
        )?;
    }
    let ended = &workload.end_sessions;
    require(
        *ended.get_ref() <= population.sessions,
        ended,
        "more sessions are ended than there are",
        format!("{} of {}", ended.get_ref(), population.sessions),
        "`end_sessions` counts some of `population.sessions`",
    )
}

fn validate_messages(
    workload: &Workload,
    population: &Population,
    workers: u64,
    duration: Duration,
) -> Result<(), Complaint> {
    let mut numbers = BTreeSet::new();
    for message in workload.messages.get_ref() {
        let (worker, number) = (*message.worker.get_ref(), message.number);
        let known = (1..=workers).contains(&worker) && message.session < population.sessions;
        let new = number >= workload.turns && numbers.insert((worker, number));
        require(
            known && new && message.at.0 < duration,
            &workload.messages,
            "a message that cannot be sent",
            format!("number {number} at {}, to session {} of worker {worker}", message.at, message.session),
            "it needs a worker (from 1) and a session (from 0) that exist, a moment before the end, and a number that \
             no other message of the worker has; those of the drawn ones are below `turns`",
        )?;
    }
    Ok(())
}

fn validate_gate(gate: &Gate) -> Result<(), Complaint> {
    let seeds = gate.seeds.get_ref();
    let distinct = seeds.iter().collect::<BTreeSet<_>>().len();
    require(
        distinct == seeds.len() && distinct <= MAX_GATE_SEEDS,
        &gate.seeds,
        format!("the gate runs a scenario with up to {MAX_GATE_SEEDS} different seeds"),
        format!("{} seeds, {distinct} different", seeds.len()),
        "each seed is one run; name each once",
    )
}

fn validate_mark(id: &Spanned<String>) -> Result<(), Complaint> {
    let name = id.get_ref();
    let nearest = marks::nearest(name);
    require(
        marks::find(name).is_some(),
        id,
        format!("there is no mark `{name}`"),
        nearest.map_or_else(|| "unknown".to_owned(), |nearest| format!("did you mean `{nearest}`?")),
        "a report lists all marks; sim/src/marks.rs says when each counts",
    )
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
          = help: a report lists all marks; sim/src/marks.rs says when each counts
        ");
        let scenario = "duration = '1min'\nrequired_marks = ['abort']";
        assert_eq!(Scenario::parse("some.toml", "some", scenario).unwrap().required_marks, ["abort"]);
    }

    #[test]
    fn a_misspelled_key_is_shown_with_what_was_meant() {
        insta::assert_snapshot!(complaint("duration = '1min'\n[population]\nsesions = 3"), @r#"
        error: unknown field `sesions`, expected one of `sessions`, `missing_in_opencode`, `only_in_opencode`, `old_messages_per_session`, `stale_pending`, `stale_claimed`
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
