//! Which direction of a figure is the worse one, and how far it may go there.

use std::fmt;

use super::{change::Meaning, figure_set::Figure};

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
