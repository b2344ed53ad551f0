//! The ways in which a case is made smaller.

use std::{collections::VecDeque, time::Duration};

use crate::shrink::{
    case::{Case, LISTS, TABLES, TIMES, duration_of, int, list_mut, millis, set, time},
    failure::Failure,
};
use sim_model::scenario::Scenario;

/// Kept after the failure when the rest of the run is cut off: a failure is seen when it is measured, not when it begins.
const MARGIN: Duration = Duration::from_secs(1);
/// A run is cut in steps no finer than this.
const FINEST: u64 = 250;

/// One way to make a case smaller, and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Writes messages in full, so that they can be left out one by one. Makes nothing smaller by itself.
    WriteMessages,
    /// Cuts off what comes after the failure.
    Cut,
    /// Leaves out a table.
    Drop(usize),
    /// Leaves out `length` items of a list, from `start` on.
    LeaveOut {
        /// Which list.
        list: usize,
        /// How many items at once.
        length: usize,
        /// The first of them.
        start: usize,
    },
    /// Searches the lowest value of a number that still fails: `passes` is known to be too low.
    Lower {
        /// Which number.
        number: usize,
        /// The highest value that is too low, as far as is known.
        passes: Option<u64>,
    },
    /// Lets everything happen in half the time.
    Hasten,
}

/// A number of a scenario.
struct Number {
    path: &'static [&'static str],
    least: u64,
    /// No finer steps than this are worth a run.
    finest: u64,
    read: fn(&Scenario) -> u64,
}

const fn number(path: &'static [&'static str], least: u64, read: fn(&Scenario) -> u64) -> Number {
    Number { path, least, finest: 1, read }
}

/// Where the duration stands among the numbers: it is a time.
const DURATION: &[&str] = &["duration"];

const NUMBERS: [Number; 9] = [
    number(&["workers"], 1, |scenario| scenario.workers as u64),
    number(&["population", "old_messages_per_session"], 0, |scenario| {
        scenario.population.old_messages_per_session
    }),
    number(&["population", "only_in_opencode"], 0, |scenario| scenario.population.only_in_opencode),
    number(&["population", "stale_pending"], 0, |scenario| *scenario.population.stale_pending.get_ref()),
    number(&["population", "stale_claimed"], 0, |scenario| *scenario.population.stale_claimed.get_ref()),
    number(&["workload", "end_sessions"], 0, |scenario| *scenario.workload.end_sessions.get_ref()),
    number(&["workload", "turns"], 0, |scenario| scenario.workload.turns),
    number(&["population", "sessions"], 1, |scenario| scenario.population.sessions),
    Number { path: DURATION, least: FINEST, finest: FINEST, read: |scenario| millis(scenario.duration) },
];

/// The steps of one round, the boldest first.
pub(super) fn round() -> VecDeque<Step> {
    let lists = (0..LISTS.len()).map(|list| Step::LeaveOut { list, length: usize::MAX, start: 0 });
    let numbers = (0..NUMBERS.len()).map(|number| Step::Lower { number, passes: None });
    let tables = (0..TABLES.len()).map(Step::Drop);
    [Step::Cut, Step::WriteMessages]
        .into_iter()
        .chain(tables)
        .chain(lists)
        .chain(numbers)
        .chain([Step::Hasten])
        .collect()
}

impl Step {
    /// Whether it is worth doing although it makes nothing smaller.
    pub(super) fn is_preparation(self) -> bool {
        self == Self::WriteMessages
    }

    /// The smaller case; none if there is nothing to do.
    pub(super) fn apply(self, case: &Case, failure: &Failure) -> Option<Case> {
        match self {
            Self::WriteMessages => case.with_messages_in_full(),
            Self::Cut => {
                let end = Duration::from_secs((failure.at + MARGIN).as_secs() + 1);
                if end >= case.scenario().duration {
                    return None;
                }
                case.with(|table| set(table, DURATION, time(end)))
            }
            Self::Drop(part) => case.without(TABLES[part]),
            Self::LeaveOut { list, length, start } => leave_out(case, list, length, start),
            Self::Lower { number, passes } => lower(case, number, passes),
            Self::Hasten => hasten(case),
        }
    }

    /// How to go on, now that the last proposal was `accepted` or not; `case` is the smallest one now.
    pub(super) fn after(self, accepted: bool, case: &Case) -> Option<Self> {
        match self {
            Self::WriteMessages | Self::Cut | Self::Drop(_) => None,
            Self::Hasten => accepted.then_some(self),
            Self::LeaveOut { list, length, start } => {
                let items = case.list(LISTS[list]).len();
                let length = length.min(items.max(1));
                let start = if accepted { start } else { start + length };
                if start < items {
                    return Some(Self::LeaveOut { list, length, start });
                }
                let half = (length / 2).min(items);
                (half > 0).then_some(Self::LeaveOut { list, length: half, start: 0 })
            }
            Self::Lower { .. } if accepted => Some(self),
            Self::Lower { number, passes } => {
                let tried = proposed(case, number, passes)?;
                Some(Self::Lower { number, passes: Some(tried) })
            }
        }
    }
}

fn leave_out(case: &Case, list: usize, length: usize, start: usize) -> Option<Case> {
    let items = case.list(LISTS[list]).len();
    if start >= items {
        return None;
    }
    case.with(|table| {
        if let Some(items) = list_mut(table, LISTS[list]) {
            items.drain(start..start.saturating_add(length).min(items.len()));
        }
    })
}

/// The next value to try: first the least, then the middle of what passes and what fails.
fn proposed(case: &Case, number: usize, passes: Option<u64>) -> Option<u64> {
    let Number { least, finest, read, .. } = &NUMBERS[number];
    let fails = read(case.scenario());
    match passes {
        None if fails > *least => Some(*least),
        Some(passes) if fails > passes + finest => Some(passes + (fails - passes) / 2),
        _ => None,
    }
}

fn lower(case: &Case, number: usize, passes: Option<u64>) -> Option<Case> {
    let value = proposed(case, number, passes)?;
    let path = NUMBERS[number].path;
    let value = if path == DURATION { time(Duration::from_millis(value)) } else { int(value) };
    case.with(|table| set(table, path, value))
}

fn hasten(case: &Case) -> Option<Case> {
    let half = |duration: Duration| Duration::from_millis(millis(duration) / 2);
    let duration = half(case.scenario().duration);
    if duration < Duration::from_millis(FINEST) {
        return None;
    }
    case.with(|table| {
        set(table, DURATION, time(duration));
        for path in LISTS {
            for item in list_mut(table, path).into_iter().flatten() {
                for key in TIMES {
                    if let Some(moment) = item.get(key).and_then(duration_of) {
                        item.as_table_mut().map(|item| item.insert(key.into(), time(half(moment))));
                    }
                }
            }
        }
    })
}
