//! How many OpenCode sessions may be created at once, and how many within any second. No clock, no waiting.
//!
//! A token bucket would allow a full burst right after a full second; here every window of one second counts,
//! wherever it begins.

use std::{collections::VecDeque, time::Duration};

/// The window in which starts are counted.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);

/// Decides which creation may start. Holds at most `per_window` moments.
#[derive(Debug)]
pub(crate) struct Throttle {
    max_in_flight: usize,
    per_window: usize,
    in_flight: usize,
    starts: VecDeque<Duration>,
}

/// The answer to one request to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Start now; it has been counted. Tell [`Throttle::ended`] when it is over.
    Start,
    /// Ask again at this moment: too many have started within a second.
    At(Duration),
    /// Ask again when one has ended: too many are in flight.
    WhenOneEnds,
}

impl Throttle {
    /// At most `max_in_flight` at once and `per_window` starts in any [`WINDOW`]; both at least 1.
    pub(crate) fn new(max_in_flight: usize, per_window: usize) -> Self {
        assert!(max_in_flight > 0 && per_window > 0, "a throttle that lets nothing through");
        Self { max_in_flight, per_window, in_flight: 0, starts: VecDeque::with_capacity(per_window.min(64)) }
    }

    /// May one more start at `now`? Moments are durations since any fixed point and never go back.
    pub(crate) fn admit(&mut self, now: Duration) -> Admission {
        if self.in_flight >= self.max_in_flight {
            return Admission::WhenOneEnds;
        }
        while self.starts.front().is_some_and(|start| now >= *start + WINDOW) {
            self.starts.pop_front();
        }
        if self.starts.len() >= self.per_window {
            return Admission::At(self.starts[0] + WINDOW);
        }
        self.starts.push_back(now);
        self.in_flight += 1;
        Admission::Start
    }

    /// One that was started is over, well or badly.
    pub(crate) fn ended(&mut self) {
        assert!(self.in_flight > 0, "more creations ended than started");
        self.in_flight -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_sixth_start_waits_until_the_first_is_a_second_old() {
        let mut throttle = Throttle::new(10, 5);
        for start in [0, 10, 20, 30, 40] {
            assert_eq!(throttle.admit(ms(start)), Admission::Start);
        }
        assert_eq!(throttle.admit(ms(999)), Admission::At(ms(1_000)));
        assert_eq!(throttle.admit(ms(1_000)), Admission::Start);
        assert_eq!(throttle.admit(ms(1_000)), Admission::At(ms(1_010)));
    }

    #[test]
    fn the_third_of_two_waits_until_one_ends() {
        let mut throttle = Throttle::new(2, 100);
        assert_eq!(throttle.admit(ms(0)), Admission::Start);
        assert_eq!(throttle.admit(ms(0)), Admission::Start);
        assert_eq!(throttle.admit(ms(0)), Admission::WhenOneEnds);
        throttle.ended();
        assert_eq!(throttle.admit(ms(0)), Admission::Start);
    }

    proptest! {
        #[test]
        fn no_window_wherever_it_begins_has_more_starts_than_allowed(
            per_window in 1_usize..8,
            gaps in prop::collection::vec(0_u64..700, 1..200),
        ) {
            let mut throttle = Throttle::new(usize::MAX, per_window);
            let mut now = Duration::ZERO;
            let mut starts = Vec::new();
            for gap in gaps {
                now += ms(gap);
                if throttle.admit(now) == Admission::Start {
                    starts.push(now);
                }
            }
            for (index, first) in starts.iter().enumerate() {
                let within = starts[index..].iter().take_while(|s| **s < *first + WINDOW).count();
                prop_assert!(within <= per_window, "{within} starts from {first:?}");
            }
        }
    }
}
