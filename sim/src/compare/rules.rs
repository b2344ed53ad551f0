//! Which direction of a figure is the worse one, and how far it may go there.

use std::{collections::BTreeMap, fmt};

use super::{change::Meaning, figure_set::Figure, real_time};

/// Which direction is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worse {
    /// More costs more.
    More,
    /// Less was done.
    Less,
    /// Only that it changed can be said.
    Neither,
}

/// How far a figure may go in the worse direction: a share, but at least so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance {
    /// Of the earlier value.
    pub(super) percent: i64,
    /// In the figure's unit.
    pub(super) least: i64,
}

/// How a figure is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Which direction is worse.
    pub worse: Worse,
    /// How far it may go there.
    pub tolerance: Tolerance,
}

/// A call is a call.
const EXACT: Tolerance = Tolerance { percent: 0, least: 0 };
/// The sizes of futures and buffers change with the compiler and with the profile.
const HEAP: Tolerance = Tolerance { percent: 3, least: 1024 };
/// A change that draws one random number more shifts what the network draws after it.
const LATENCY: Tolerance = Tolerance { percent: 2, least: 1000 };

/// Figures by the beginning of their names; the first that fits counts, and all others are [`Worse::More`], [`EXACT`].
///
/// What a scenario does to the worker is no cost: fewer faults, kills or prompts would be less that was tried, not less
/// that was paid. Such a change is told, and the trace, which changes with it, has to be accepted.
const RULES: [(&str, Rule); 11] = [
    ("trace.", NEITHER),
    ("faults.", NEITHER),
    ("kills", NEITHER),
    ("stops", NEITHER),
    ("worker_starts", NEITHER),
    ("prompts", NEITHER),
    ("links", NEITHER),
    ("functions.chat:sendMessage.calls", NEITHER),
    ("turns.completed", Rule { worse: Worse::Less, tolerance: EXACT }),
    ("peak_heap.", Rule { worse: Worse::More, tolerance: HEAP }),
    ("latencies.", Rule { worse: Worse::More, tolerance: LATENCY }),
];
const NEITHER: Rule = Rule { worse: Worse::Neither, tolerance: EXACT };
const OTHERS: Rule = Rule { worse: Worse::More, tolerance: EXACT };

impl Tolerance {
    /// In the figure's unit, for a figure that was `before`.
    fn of(self, before: i64) -> i64 {
        (before.saturating_abs().saturating_mul(self.percent) / 100).max(self.least)
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { percent: 0, least: 0 } => write!(f, "0"),
            Self { percent, least } => write!(f, "{percent}%, at least {least}"),
        }
    }
}

impl Rule {
    /// The rule for a figure.
    #[must_use]
    pub fn of(figure: &str) -> Self {
        let exact = || {
            RULES.into_iter().find(|(start, _)| figure.starts_with(start)).map_or(OTHERS, |(_, rule)| rule)
        };
        real_time::rule(figure).unwrap_or_else(exact)
    }

    /// What it means that a figure went from `before` to `after`; nothing if it did not.
    #[must_use]
    pub fn judge(self, before: &Figure, after: &Figure) -> Option<Meaning> {
        if before == after {
            return None;
        }
        let (Figure::Count(before), Figure::Count(after)) = (before, after) else {
            return Some(Meaning::Neutral);
        };
        let towards_worse = match self.worse {
            Worse::More => after.saturating_sub(*before),
            Worse::Less => before.saturating_sub(*after),
            Worse::Neither => return Some(Meaning::Neutral),
        };
        Some(match towards_worse.saturating_abs() > self.tolerance.of(*before) {
            false => Meaning::Tolerated,
            true if towards_worse > 0 => Meaning::Worse,
            true => Meaning::Better,
        })
    }
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::More => "more",
            Self::Less => "less",
            Self::Neither => "–",
        })
    }
}

/// The rules in words, by the beginning of the figures' names: for the baseline's reader.
#[must_use]
pub fn tolerances() -> BTreeMap<String, String> {
    let words = |rule: Rule| match rule.worse {
        Worse::More => format!("more is worse; tolerated: {}", rule.tolerance),
        Worse::Less => format!("less is worse; tolerated: {}", rule.tolerance),
        Worse::Neither => "neither better nor worse".to_owned(),
    };
    let rules = RULES.into_iter().map(|(start, rule)| (start.to_owned(), words(rule)));
    rules.chain([("everything else".to_owned(), words(OTHERS))]).collect()
}
