//! The rule for each figure.

use std::collections::BTreeMap;

use super::{
    real_time,
    rule::{Rule, Tolerance, Worse},
};

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

impl Rule {
    /// The rule for a figure.
    #[must_use]
    pub fn of(figure: &str) -> Self {
        let exact = || {
            RULES.into_iter().find(|(start, _)| figure.starts_with(start)).map_or(OTHERS, |(_, rule)| rule)
        };
        real_time::rule(figure).unwrap_or_else(exact)
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
