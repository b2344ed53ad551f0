//! Puts the reports of all shards of one sweep together.

use std::collections::BTreeSet;

use sim_report::sweep::report::{Ended, Head, Machine, SCHEMA, SweepReport};

/// Why reports do not make one sweep. Each names the report that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// There is none.
    #[error("there is no report to merge")]
    Nothing,
    /// It has another shape.
    #[error("`{0}` has schema {1}, but this program merges schema {SCHEMA}; make the report again")]
    Schema(String, u32),
    /// It is of a whole sweep.
    #[error("`{0}` is of a whole sweep, not of a shard (--shard K/N)")]
    Whole(String),
    /// It is of another sweep.
    #[error("`{0}` and `{1}` are not of one sweep: {2} differ")]
    Foreign(String, String, &'static str),
    /// A shard comes twice.
    #[error("`{0}` and `{1}` are both shard {2}")]
    Twice(String, String, u64),
    /// Shards are not there.
    #[error("shards are missing: {0}")]
    Missing(String),
    /// Two shards made the same run.
    #[error("`{0}` has the run of {1} with seed {2}, which another shard has too")]
    Overlap(String, String, String),
}

/// The sweep whose shards `parts` are, each with its name.
///
/// # Errors
/// If they are not all shards, each once, of one sweep.
pub fn merge(parts: &[(String, SweepReport)]) -> Result<SweepReport, MergeError> {
    let (first_name, first) = parts.first().ok_or(MergeError::Nothing)?;
    for (name, part) in parts {
        if part.schema != SCHEMA {
            return Err(MergeError::Schema(name.clone(), part.schema));
        }
        if let Some(what) = difference(&first.head, &part.head) {
            return Err(MergeError::Foreign(first_name.clone(), name.clone(), what));
        }
    }
    check_shards(parts)?;
    check_runs(parts)?;
    let head = Head {
        shard: None,
        planned: parts.iter().map(|(_, part)| part.head.planned).sum(),
        ..first.head.clone()
    };
    let runs = parts.iter().flat_map(|(_, part)| part.runs.clone()).collect();
    let ended = parts.iter().map(|(_, part)| part.ended).max().unwrap_or(Ended::Complete);
    Ok(SweepReport::of(head, runs, ended, machine(parts)))
}

/// What two shards of one sweep have in common.
fn difference(one: &Head, other: &Head) -> Option<&'static str> {
    let names = |head: &Head| head.scenarios.iter().map(|scenario| scenario.name.clone()).collect::<Vec<_>>();
    let digests =
        |head: &Head| head.scenarios.iter().map(|scenario| scenario.digest.clone()).collect::<Vec<_>>();
    let seeds = |head: &Head| head.scenarios.iter().map(|scenario| scenario.seeds).collect::<Vec<_>>();
    let of = |head: &Head| head.shard.map(|shard| shard.of);
    [
        ("their scenarios", names(one) != names(other)),
        ("the texts of their scenarios", digests(one) != digests(other)),
        ("their seeds", seeds(one) != seeds(other)),
        ("their planted bugs", one.plants != other.plants),
        ("their numbers of shards", of(one).is_some() && of(other).is_some() && of(one) != of(other)),
    ]
    .into_iter()
    .find_map(|(what, differs)| differs.then_some(what))
}

fn check_shards(parts: &[(String, SweepReport)]) -> Result<(), MergeError> {
    let mut missing = BTreeSet::new();
    let mut seen: Vec<(u64, &str)> = Vec::new();
    for (name, part) in parts {
        let shard = part.head.shard.ok_or_else(|| MergeError::Whole(name.clone()))?;
        if seen.is_empty() {
            missing.extend(1..=shard.of.min(sim_report::sweep::seeds::MAX_RUNS));
        }
        if let Some((_, other)) = seen.iter().find(|(index, _)| *index == shard.index) {
            return Err(MergeError::Twice((*other).to_owned(), name.clone(), shard.index));
        }
        seen.push((shard.index, name));
        missing.remove(&shard.index);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = missing.iter().take(10).map(ToString::to_string).collect();
    let more = if missing.len() > named.len() {
        format!(" and {} more", missing.len() - named.len())
    } else {
        String::new()
    };
    Err(MergeError::Missing(format!("{}{more}", named.join(", "))))
}

fn check_runs(parts: &[(String, SweepReport)]) -> Result<(), MergeError> {
    let mut seen = BTreeSet::new();
    for (name, part) in parts {
        for run in &part.runs {
            if !seen.insert((&run.scenario, run.seed)) {
                return Err(MergeError::Overlap(name.clone(), run.scenario.clone(), run.seed.to_string()));
            }
        }
    }
    Ok(())
}

/// Shards run side by side: their jobs add up, and the slowest decides how long it took.
fn machine(parts: &[(String, SweepReport)]) -> Machine {
    let mut all = Machine::default();
    for (_, part) in parts {
        all.jobs += part.machine.jobs;
        all.wall = all.wall.max(part.machine.wall);
        part.machine.slowest.iter().for_each(|slow| all.add(slow.clone()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_report::sweep::{seeds::Shard, testing};

    /// The sweep of ten seeds in three shards.
    fn shards() -> Vec<(String, SweepReport)> {
        let whole = testing::sweep(10, &[4]);
        let shard = |index: u64| {
            let runs: Vec<_> = whole.runs.iter().filter(|run| run.seed.0 % 3 == index - 1).cloned().collect();
            let shard = Some(Shard { index, of: 3 });
            let head = Head { shard, planned: runs.len() as u64, ..whole.head.clone() };
            (format!("{index}.json"), SweepReport::of(head, runs, Ended::Complete, Machine::default()))
        };
        (1..=3).map(shard).collect()
    }

    #[test]
    fn all_shards_together_are_the_sweep() {
        let merged = merge(&shards()).unwrap();
        let whole = SweepReport { machine: Machine::default(), ..testing::sweep(10, &[4]) };
        assert_eq!(merged, whole);
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Vec<(String, SweepReport)>)) -> String {
        let mut parts = shards();
        change(&mut parts);
        merge(&parts).unwrap_err().to_string()
    }

    #[test]
    fn what_does_not_belong_together_is_refused_by_name() {
        insta::assert_snapshot!(refused(Vec::clear), @"there is no report to merge");
        insta::assert_snapshot!(refused(|parts| parts[1].1.schema = 7), @"`2.json` has schema 7, but this program merges schema 1; make the report again");
        insta::assert_snapshot!(refused(|parts| parts[1].1.head.shard = None), @"`2.json` is of a whole sweep, not of a shard (--shard K/N)");
        insta::assert_snapshot!(refused(|parts| parts[2].1.head.scenarios[0].digest = "x".into()), @"`1.json` and `3.json` are not of one sweep: the texts of their scenarios differ");
        insta::assert_snapshot!(refused(|parts| parts[2].1.head.scenarios[0].seeds.count = 11), @"`1.json` and `3.json` are not of one sweep: their seeds differ");
        insta::assert_snapshot!(refused(|parts| parts[2].1.head.shard = Some(Shard { index: 3, of: 4 })), @"`1.json` and `3.json` are not of one sweep: their numbers of shards differ");
        insta::assert_snapshot!(refused(|parts| { parts[2] = parts[0].clone(); }), @"`1.json` and `1.json` are both shard 1");
        insta::assert_snapshot!(refused(|parts| { parts.remove(1); }), @"shards are missing: 2");
        insta::assert_snapshot!(refused(|parts| { let run = parts[0].1.runs[0].clone(); parts[1].1.runs.push(run); }), @"`2.json` has the run of some with seed 0x3, which another shard has too");
    }
}
