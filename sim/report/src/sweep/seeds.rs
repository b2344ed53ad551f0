//! Which seeds a sweep has, and which share of them a shard takes.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use sim_model::seed::Seed;

/// The most runs of one sweep: what is kept of each (about 1 KiB) has to fit into memory.
pub const MAX_RUNS: u64 = 1_000_000;

/// Seeds as they are asked for: `50`, `1..100` (without the last) or `1..=100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seeds {
    /// So many, from the seed that is given, otherwise from 1.
    Count(u64),
    /// Exactly these.
    Range(SeedRange),
}

/// Consecutive seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeedRange {
    /// The first.
    pub first: Seed,
    /// How many there are.
    pub count: u64,
}

/// Seeds that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedsError {
    /// Not in one of the forms.
    #[error(
        "`{0}` does not say which seeds: write a number such as 50, or a range such as 1..100 or 1..=100"
    )]
    Form(String),
    /// None at all.
    #[error("`{0}` has no seed in it")]
    Empty(String),
    /// More than fit.
    #[error("`{0}` has more than {MAX_RUNS} seeds: share them among several sweeps with --shard")]
    Many(String),
}

impl Seeds {
    /// The seeds, beginning at `first` if the request leaves that open.
    #[must_use]
    pub fn from(self, first: Option<Seed>) -> SeedRange {
        match self {
            Self::Range(range) => range,
            Self::Count(count) => SeedRange { first: first.unwrap_or(Seed(1)), count },
        }
    }
}

impl SeedRange {
    /// One seed.
    #[must_use]
    pub fn one(seed: Seed) -> Self {
        Self { first: seed, count: 1 }
    }

    /// The seed at `index`. After the last seed there is comes the first.
    #[must_use]
    pub fn at(self, index: u64) -> Seed {
        Seed(self.first.0.wrapping_add(index))
    }

    /// Where `seed` stands, if it is one of them.
    #[must_use]
    pub fn index_of(self, seed: Seed) -> Option<u64> {
        Some(seed.0.wrapping_sub(self.first.0)).filter(|index| *index < self.count)
    }
}

impl FromStr for Seeds {
    type Err = SeedsError;

    fn from_str(text: &str) -> Result<Self, SeedsError> {
        let seed = |part: &str| part.parse::<Seed>().map_err(|_| SeedsError::Form(text.to_owned()));
        let (count, range) = match text.split_once("..") {
            None => {
                let Seed(count) = seed(text)?;
                (u128::from(count), Self::Count(count))
            }
            Some((first, last)) => {
                let (last, more) = last.strip_prefix('=').map_or((last, 0), |last| (last, 1));
                let (first, last) = (seed(first)?, seed(last)?);
                let count = (u128::from(last.0) + more).saturating_sub(u128::from(first.0));
                let whole = u64::try_from(count).unwrap_or(u64::MAX);
                (count, Self::Range(SeedRange { first, count: whole }))
            }
        };
        match count {
            0 => Err(SeedsError::Empty(text.to_owned())),
            count if count > u128::from(MAX_RUNS) => Err(SeedsError::Many(text.to_owned())),
            _ => Ok(range),
        }
    }
}

/// One of several equal shares of a sweep, written `2/3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Shard {
    /// Which, from 1.
    pub index: u64,
    /// Of how many.
    pub of: u64,
}

/// A shard that there cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a shard: write K/N, such as 1/3 for the first of three")]
pub struct ShardError(String);

impl Shard {
    /// Whether what stands at `index` belongs to it.
    #[must_use]
    pub fn has(self, index: u64) -> bool {
        index % self.of == self.index - 1
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let numbers =
            text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Self { index, of }),
            _ => Err(ShardError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, first: Option<u64>, expected: (u64, u64)) {
        let range = text.parse::<Seeds>().unwrap().from(first.map(Seed));
        assert_eq!((range.first.0, range.count), expected, "{text}");
    }

    #[test]
    fn seeds_are_a_number_or_a_range() {
        check("50", None, (1, 50));
        check("50", Some(7), (7, 50));
        check("3..10", None, (3, 7));
        check("3..=10", None, (3, 8));
        check("0x10..0x20", Some(7), (16, 16));
        check("0xffffffffffffffff..=0xffffffffffffffff", None, (u64::MAX, 1));
    }

    #[test]
    fn what_is_no_seeds_is_refused_with_advice() {
        let refused = |text: &str| text.parse::<Seeds>().unwrap_err().to_string();
        insta::assert_snapshot!(refused("many"), @"`many` does not say which seeds: write a number such as 50, or a range such as 1..100 or 1..=100");
        insta::assert_snapshot!(refused("0"), @"`0` has no seed in it");
        insta::assert_snapshot!(refused("9..3"), @"`9..3` has no seed in it");
        insta::assert_snapshot!(refused("0..=0xffffffffffffffff"), @"`0..=0xffffffffffffffff` has more than 1000000 seeds: share them among several sweeps with --shard");
    }

    #[test]
    fn a_shard_is_one_of_several() {
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, of: 3 }));
        for text in ["0/3", "4/3", "1", "1/0", "a/b", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_seed_is_found_where_it_stands() {
        let range = SeedRange { first: Seed(5), count: 3 };
        assert_eq!([4, 5, 7, 8].map(|seed| range.index_of(Seed(seed))), [None, Some(0), Some(2), None]);
        let at_the_end = SeedRange { first: Seed(u64::MAX), count: 2 };
        assert_eq!(at_the_end.index_of(at_the_end.at(1)), Some(1));
    }
}
