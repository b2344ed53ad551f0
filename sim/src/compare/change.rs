//! What became of a figure.

use super::figure_set::Figure;

/// A figure that is not what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which run; empty when only one is compared.
    pub run: String,
    /// Which figure.
    pub figure: String,
    /// What it was.
    pub before: Figure,
    /// What it is.
    pub after: Figure,
    /// What that means.
    pub meaning: Meaning,
}

/// What a change means; the more important one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    /// Worse, beyond what is tolerated.
    Worse,
    /// Better, by more than what is tolerated the other way.
    Better,
    /// Changed, but within what is tolerated.
    Tolerated,
    /// Neither better nor worse.
    Neutral,
}
