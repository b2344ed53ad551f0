//! How long things took, and how often they came.

use std::collections::VecDeque;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use sim_model::{Label, trace::Micros};

/// The moments of a turn that are not over yet.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) sent: Micros,
    /// Whether it was announced when it would be sent.
    pub(super) scheduled: bool,
    pub(super) claimed: Option<Micros>,
    pub(super) prompted: Option<Micros>,
    pub(super) first_chunk: Option<Micros>,
}

/// How long the stages of a turn took, in µs.
pub(super) struct Latencies {
    sent_to_claimed: Histogram<u64>,
    claimed_to_prompted: Histogram<u64>,
    prompted_to_first_chunk: Histogram<u64>,
    first_chunk_to_completed: Histogram<u64>,
    pub(super) sent_to_completed: Histogram<u64>,
}

/// The distribution of one latency.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Latency {
    /// From what to what.
    pub stage: Label,
    /// How many were measured.
    pub count: u64,
    /// Median, in ms.
    pub p50: f64,
    /// 90 of 100 took no longer, in ms.
    pub p90: f64,
    /// 99 of 100 took no longer, in ms.
    pub p99: f64,
    /// The longest, in ms.
    pub max: f64,
}

/// How often one latency was how long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    /// Upper edges in ms, each [`Distribution::FACTOR`] times the one before, and how many were in between: at most 140
    /// for all that fits in a year.
    pub bars: Vec<(f64, u64)>,
}

/// How often something happened, and how often at most within a second.
#[derive(Default)]
pub(super) struct Rate {
    pub(super) count: u64,
    pub(super) most_at_once: u64,
    pub(super) most_per_second: usize,
    last_second: VecDeque<Micros>,
}

impl Latencies {
    pub(super) fn new() -> Self {
        /// Three digits are exact enough to compare, and small.
        fn histogram() -> Histogram<u64> {
            Histogram::new(3).expect("three digits are allowed")
        }
        Self {
            sent_to_claimed: histogram(),
            claimed_to_prompted: histogram(),
            prompted_to_first_chunk: histogram(),
            first_chunk_to_completed: histogram(),
            sent_to_completed: histogram(),
        }
    }

    pub(super) fn completed(&mut self, times: &Times, at: Micros) {
        self.record(times, at, None);
    }

    /// A turn that was not completed ended at `at`, or was still open then: so long at least it had been in its stage.
    pub(super) fn given_up(&mut self, times: &Times, at: Micros) {
        self.record(times, at, Some(at));
    }

    /// What did not happen counts as if it had at `otherwise`.
    fn record(&mut self, times: &Times, at: Micros, otherwise: Option<Micros>) {
        let mut since = |histogram: fn(&mut Self) -> &mut Histogram<u64>,
                         from: Option<Micros>,
                         to: Option<Micros>| {
            if let (Some(from), Some(to)) = (from, to.or(otherwise)) {
                histogram(self).record(to.saturating_sub(from)).expect("the histogram grows with its values");
            }
        };
        since(|all| &mut all.sent_to_claimed, Some(times.sent), times.claimed);
        since(|all| &mut all.claimed_to_prompted, times.claimed, times.prompted);
        since(|all| &mut all.prompted_to_first_chunk, times.prompted, times.first_chunk);
        since(|all| &mut all.first_chunk_to_completed, times.first_chunk, Some(at));
        since(|all| &mut all.sent_to_completed, Some(times.sent), Some(at));
    }

    pub(super) fn summary(&self) -> Vec<Latency> {
        let stages = [
            ("sent → claimed", &self.sent_to_claimed),
            ("claimed → prompted", &self.claimed_to_prompted),
            ("prompted → first chunk", &self.prompted_to_first_chunk),
            ("first chunk → completed", &self.first_chunk_to_completed),
            ("sent → completed", &self.sent_to_completed),
        ];
        stages.into_iter().map(|(stage, histogram)| Latency::of(stage, histogram)).collect()
    }
}

impl Distribution {
    /// From one edge to the next.
    pub const FACTOR: f64 = 1.2;

    /// The bars of `histogram` (µs) from the first that is not empty to the last.
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let first: u64 = 1000;
        let bars = histogram.iter_log(first, Self::FACTOR);
        let mut bars: Vec<_> =
            bars.map(|bar| (edge(bar.value_iterated_to()), bar.count_since_last_iteration())).collect();
        let empty = bars.iter().take_while(|(_, count)| *count == 0).count();
        bars.drain(..empty);
        Self { bars }
    }
}

fn edge(micros: u64) -> f64 {
    (micros + 1) as f64 / 1000.0
}

impl Latency {
    /// The distribution that `histogram` (in µs) holds.
    #[must_use]
    pub fn of(stage: impl Into<Label>, histogram: &Histogram<u64>) -> Self {
        let millis = |micros: u64| micros as f64 / 1000.0;
        let quantile = |share| millis(histogram.value_at_quantile(share));
        Self {
            stage: stage.into(),
            count: histogram.len(),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: millis(histogram.max()),
        }
    }
}

impl Rate {
    pub(super) fn add(&mut self, at: Micros, at_once: u64) {
        const SECOND: Micros = 1_000_000;
        self.count += 1;
        self.most_at_once = self.most_at_once.max(at_once);
        while self.last_second.front().is_some_and(|first| at.saturating_sub(*first) >= SECOND) {
            self.last_second.pop_front();
        }
        self.last_second.push_back(at);
        self.most_per_second = self.most_per_second.max(self.last_second.len());
    }
}
