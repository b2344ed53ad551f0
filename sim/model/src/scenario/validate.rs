//! Whether a scenario makes sense, and where in its file it does not.

use std::{collections::BTreeSet, time::Duration};

use toml::Spanned;

use super::schema::{Gate, Hostile, Population, Raw, Workload};
use crate::{
    diagnostics::{Complaint, require},
    fault::{self, validate::Frame},
    mark,
    units::Time,
};

/// Simulations of more hosts are slower than real time: turmoil's cost per step grows with their square.
pub(crate) const MAX_WORKERS: u64 = 16;
/// turmoil delivers at edges of ticks; longer ticks would stretch round trips beyond what the worker's timeouts expect.
const MAX_TICK: Duration = Duration::from_millis(100);
/// A person may have 200 workers by default, and 20 more wait for approval meanwhile.
const MAX_HOSTILE_WORKERS: u64 = 180;
/// The gate is for every change: it has to stay quick.
const MAX_GATE_SEEDS: usize = 16;

/// When people are done.
pub(super) fn until(workload: &Workload, duration: Duration) -> Duration {
    workload.until.as_ref().map_or(duration.mul_f64(0.9), |until| until.get_ref().0)
}

/// Checks the sense of a scenario whose shape is right.
pub(super) fn validate(raw: &Raw) -> Result<(), Complaint> {
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
        (1..=MAX_WORKERS).contains(&workers),
        &raw.workers,
        format!("a world has 1 to {MAX_WORKERS} workers"),
        format!("{workers} workers"),
        "more hosts make the simulation slower than real time",
    )?;
    validate_population(&raw.population)?;
    validate_workload(&raw.workload, &raw.population, duration)?;
    validate_messages(&raw.workload, &raw.population, workers, duration)?;
    validate_hostile(&raw.hostile, duration)?;
    validate_gate(&raw.gate)?;
    raw.required_marks.iter().try_for_each(validate_mark)?;
    let frame = Frame { workers, duration };
    raw.faults.iter().try_for_each(|fault| fault::validate::fault(fault, frame))?;
    raw.swarm.iter().try_for_each(|swarm| fault::validate::swarm(swarm, frame))
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
    let imported = &population.imported_from_other_directories;
    require(
        *imported.get_ref() <= sessions,
        imported,
        "more sessions were imported from other directories than there are",
        format!("{} of {sessions}", imported.get_ref()),
        "`imported_from_other_directories` counts some of `sessions`",
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

fn validate_hostile(hostile: &Hostile, duration: Duration) -> Result<(), Complaint> {
    let (workers, at) = (&hostile.workers, &hostile.at);
    require(
        *workers.get_ref() <= MAX_HOSTILE_WORKERS,
        workers,
        format!("the hostile tenant has up to {MAX_HOSTILE_WORKERS} workers"),
        format!("{} workers", workers.get_ref()),
        "the backend would refuse more",
    )?;
    require(
        at.get_ref().0 < duration,
        at,
        "the hostile tenant comes after the end of the run",
        format!("the run ends at {}", Time(duration)),
        "`at` must be before `duration`",
    )
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
    let nearest = mark::nearest(name);
    require(
        mark::find(name).is_some(),
        id,
        format!("there is no mark `{name}`"),
        nearest.map_or_else(|| "unknown".to_owned(), |nearest| format!("did you mean `{nearest}`?")),
        "a report lists all marks; sim/model/src/mark.rs says when each counts",
    )
}
