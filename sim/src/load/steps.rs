//! A load that rises in steps until something gives way. Pure.
//!
//! Each step sends one message to each of so many sessions, waits until their replies stream, measures for a while, and
//! lets them end. The worker, its OpenCode server and all sessions stay from one step to the next.

use std::time::Duration;

use sim_model::{diagnostics::ScenarioError, scenario::Scenario, workload_plan::Message};
use sim_report::Step;

/// Between two messages of a step: people do not type in the same millisecond.
const APART: Duration = Duration::from_millis(5);
/// From a step's last message until its replies stream: the first step's wait for OpenCode's start, too.
const SETTLING: Duration = Duration::from_secs(4);
/// From the end of a measurement to the end of the replies, and from there to the next step.
const TAIL: Duration = Duration::from_secs(1);
/// When the first step begins: the worker is ready by then.
const FIRST: Duration = Duration::from_secs(1);
/// The share of their pieces that the models must say, to have kept up: timers of 50 ms are some ms late each.
const KEPT_UP: f64 = 0.75;
/// The share of a processor, of a thread or of the machine from which it counts as used up.
const FULL: f64 = 0.9;

/// What a step asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Turns at the same time.
    pub turns: usize,
    /// Pieces that each reply gets in a second (1 to 500).
    pub deltas_per_second: u32,
}

/// Which steps, and when one is too much.
#[derive(Debug, Clone, PartialEq)]
pub struct Rising {
    /// The steps, in ascending order.
    pub steps: Vec<Target>,
    /// How long each step is measured.
    pub hold: Duration,
    /// What the worker may add to 99 of 100 writes.
    pub bound: Duration,
}

/// When a step happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Its first message is sent.
    pub(super) begin: Duration,
    /// It is measured from here…
    pub(super) from: Duration,
    /// …to here.
    pub(super) to: Duration,
}

impl Target {
    /// Between two pieces, in ms. Timers are half a millisecond late on average, and more on a busy machine.
    fn pace(self) -> u32 {
        (1000 / self.deltas_per_second.max(1)).max(2) - 1
    }
}

impl Rising {
    /// More and more turns, each with so many pieces in a second.
    #[must_use]
    pub fn in_turns(turns: &[u16], deltas_per_second: u32, hold: Duration, bound: Duration) -> Self {
        let target = |turns: &u16| Target { turns: usize::from(*turns), deltas_per_second };
        Self::of(turns.iter().map(target), hold, bound)
    }

    /// So many turns, with more and more pieces in a second.
    #[must_use]
    pub fn in_rate(turns: u16, rates: &[u32], hold: Duration, bound: Duration) -> Self {
        let target = |rate: &u32| Target { turns: usize::from(turns), deltas_per_second: *rate };
        Self::of(rates.iter().map(target), hold, bound)
    }

    fn of(steps: impl Iterator<Item = Target>, hold: Duration, bound: Duration) -> Self {
        let mut steps: Vec<_> = steps.collect();
        steps.sort_unstable();
        steps.dedup();
        Self { steps, hold, bound }
    }

    fn most(&self) -> usize {
        self.steps.iter().map(|step| step.turns).max().unwrap_or(0)
    }

    fn ramp(&self) -> Duration {
        APART * u32::try_from(self.most()).unwrap_or(u32::MAX)
    }

    /// From a step's first message to the next step's.
    fn length(&self) -> Duration {
        self.said_for() + TAIL
    }

    /// How long each reply lasts: until after the measurement, whichever message came first.
    fn said_for(&self) -> Duration {
        self.ramp() + SETTLING + self.hold + TAIL
    }

    pub(super) fn window(&self, index: usize) -> Window {
        let begin = FIRST + self.length() * u32::try_from(index).unwrap_or(u32::MAX);
        let from = begin + self.ramp() + SETTLING;
        Window { begin, from, to: from + self.hold }
    }

    /// How long all steps take.
    #[must_use]
    pub fn duration(&self) -> Duration {
        FIRST + self.length() * u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// What people send: each message says what its reply is like ([`fake_opencode::by_directives`]).
    pub(super) fn messages(&self) -> Vec<Message> {
        let step = |(index, target): (usize, &Target)| {
            let (begin, pace) = (self.window(index).begin, target.pace());
            let at = move |session: usize| begin + APART * u32::try_from(session).unwrap_or(u32::MAX);
            let deltas = self.said_for().as_millis().div_ceil(pace.into());
            let message = move |session| Message {
                at: at(session),
                session,
                text: format!(
                    "step {index}, session {session} [[deltas={deltas} bytes=20 pace={pace} first=75]]"
                ),
            };
            (0..target.turns).map(message).collect::<Vec<_>>()
        };
        self.steps.iter().enumerate().flat_map(step).collect()
    }

    /// The world for it: as many sessions as turns, which OpenCode knows, so that no throttle is in the way.
    ///
    /// # Errors
    /// If the numbers are beyond what a scenario allows.
    pub fn scenario(&self) -> Result<Scenario, ScenarioError> {
        let what = if self.is_of_rate() { "deltas per second" } else { "turns" };
        let text = format!(
            "description = 'a load that rises in steps of {what}'
            duration = '{duration}ms'
            [population]
            sessions = {most}
            [workload]
            turns = 0
            from = '0s'
            [worker.turns]
            max_concurrent = 1000
            window = 100
            [limits]
            documents_per_call = 5000
            bytes_per_call = '4MiB'",
            duration = self.duration().as_millis(),
            most = self.most(),
        );
        Scenario::parse("limits", "limits", &text)
    }

    /// Whether it is the rate that rises, and not the number of turns.
    fn is_of_rate(&self) -> bool {
        let rates = |step: &Target| step.deltas_per_second;
        self.steps.first().map(rates) != self.steps.last().map(rates)
    }

    /// Why `step` was too much, if it was.
    #[must_use]
    pub fn strain(&self, step: &Step) -> Option<String> {
        let Step { turns, deltas_per_turn, running, waiting, reading, .. } = step;
        let bound = self.bound.as_secs_f64() * 1000.0;
        let expected = *turns as f64 * f64::from(*deltas_per_turn);
        if running < turns {
            return Some(format!("only {running} of {turns} turns ran at the same time"));
        }
        if *waiting > 0 {
            return Some(format!("{waiting} turns still waited for their claim at the end"));
        }
        if reading.worker_cores > 1.0 {
            return Some(format!("the worker used {:.2} processors", reading.worker_cores));
        }
        if reading.added.p99 > bound {
            return Some(format!("the worker added {:.1} ms (p99), more than {bound} ms", reading.added.p99));
        }
        let said = reading.deltas_per_second;
        (said < expected * KEPT_UP)
            .then(|| format!("the models said {said:.0} of {expected:.0} deltas per second"))
    }

    /// What most likely gave way at `step`, by what was used up. `max_concurrent` is the worker's setting.
    #[must_use]
    pub fn bottleneck(&self, step: &Step, max_concurrent: usize) -> &'static str {
        let reading = &step.reading;
        let late = reading.fake_lag.iter().any(|lag| lag.p99 > self.bound.as_secs_f64() * 500.0);
        if step.running < step.turns && step.running >= max_concurrent {
            "the worker's setting turns.max_concurrent"
        } else if reading.worker_cores >= FULL {
            "the worker's processor time: it runs on one thread"
        } else if reading.fake_cores[0] >= FULL {
            "the fake Convex's processor time, not the worker"
        } else if reading.fake_cores[1] >= FULL {
            "the fake OpenCode's processor time, not the worker"
        } else if late || reading.machine_busy >= FULL {
            "the machine: its processors were busy (others use them too), so that worker and fakes were late"
        } else {
            "the worker waits: neither its processor nor the fakes nor the machine were used up"
        }
    }

    /// Where the load's rise ended, in a sentence.
    #[must_use]
    pub fn knee(&self, steps: &[Step], max_concurrent: usize) -> String {
        let Some(last) = steps.last() else { return "no step was measured".to_owned() };
        let what = match self.is_of_rate() {
            true => format!("deltas per second in each of {} turns", last.turns),
            false => format!("turns with {} deltas per second each", last.deltas_per_turn),
        };
        let height = |step: &Step| match self.is_of_rate() {
            true => u64::from(step.deltas_per_turn),
            false => step.turns as u64,
        };
        let Some(why) = &last.strain else { return format!("none up to {} {what}", height(last)) };
        let good = steps.iter().rev().nth(1).map_or(0, height);
        let bottleneck = self.bottleneck(last, max_concurrent);
        format!("between {good} and {} {what}: {why}. Bottleneck: {bottleneck}", height(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fake_opencode::{Model, Prompt, by_directives};
    use sim_report::{Latency, Reading};

    fn rising() -> Rising {
        Rising::in_turns(&[10, 1, 10], 20, Duration::from_secs(5), Duration::from_millis(10))
    }

    fn latency(p99: f64) -> Latency {
        Latency { stage: "a".into(), count: 9, p50: 0.1, p90: 0.2, p99, max: p99 }
    }

    fn step() -> Step {
        let reading = Reading {
            seconds: 5.0,
            worker_cores: 0.2,
            fake_cores: [0.1, 0.1],
            fake_lag: [latency(1.0), latency(1.0)],
            machine_busy: 0.4,
            deltas_per_second: 196.0,
            added: latency(3.0),
        };
        Step { turns: 10, deltas_per_turn: 20, running: 10, waiting: 0, rss: 1, strain: None, reading }
    }

    #[track_caller]
    fn check(step: &Step, strain: Option<&str>, bottleneck: &str) {
        assert_eq!(rising().strain(step).as_deref(), strain);
        assert!(
            rising().bottleneck(step, 1000).starts_with(bottleneck),
            "{}",
            rising().bottleneck(step, 1000)
        );
    }

    #[test]
    fn steps_follow_each_other_and_replies_last_as_long_as_they_are_measured() {
        let rising = rising();
        let [first, second] = [0, 1].map(|index| rising.window(index));
        assert!(first.begin < first.from && first.to < second.begin && second.to < rising.duration());
        let messages = rising.messages();
        assert_eq!((messages.len(), messages[1].at), (11, second.begin));
        let model = Model { provider_id: "fake".into(), model_id: "m1".into() };
        let prompt = Prompt { session: "ses_1", message: "msg_1", text: &messages[0].text, model: &model };
        let reply = by_directives(&prompt);
        let said = reply.pace * reply.content.deltas();
        assert!(first.begin + rising.ramp() + said > first.to);
        assert!(first.begin + rising.ramp() + said < second.begin);
        assert_eq!(rising.scenario().unwrap().population.sessions, 10);
    }

    #[test]
    fn the_rate_rises_step_by_step_too() {
        let rising = Rising::in_rate(50, &[200, 20], Duration::from_secs(5), Duration::from_millis(10));
        let messages = rising.messages();
        assert_eq!(messages.len(), 100);
        assert!(messages[0].text.contains("pace=49 ") && messages[50].text.contains("pace=4 "));
        let step = |deltas_per_turn, strain: Option<&str>| Step {
            turns: 50,
            deltas_per_turn,
            strain: strain.map(str::to_owned),
            ..step()
        };
        let knee = rising.knee(&[step(20, None), step(200, Some("too much"))], 1000);
        assert!(
            knee.starts_with("between 20 and 200 deltas per second in each of 50 turns: too much."),
            "{knee}"
        );
    }

    #[test]
    fn a_step_that_went_well_is_no_knee() {
        check(&step(), None, "the worker waits");
        assert_eq!(rising().knee(&[step()], 1000), "none up to 10 turns with 20 deltas per second each");
    }

    #[test]
    fn what_is_used_up_is_the_bottleneck() {
        let slow = |change: fn(&mut Reading)| {
            let mut step = step();
            step.reading.added = latency(12.0);
            change(&mut step.reading);
            step
        };
        let strain = Some("the worker added 12.0 ms (p99), more than 10 ms");
        check(&slow(|reading| reading.worker_cores = 0.95), strain, "the worker's processor time");
        check(&slow(|reading| reading.fake_cores[0] = 0.95), strain, "the fake Convex's");
        check(&slow(|reading| reading.fake_cores[1] = 0.95), strain, "the fake OpenCode's");
        check(&slow(|reading| reading.machine_busy = 0.99), strain, "the machine");
        check(&slow(|reading| reading.fake_lag[1] = latency(8.0)), strain, "the machine");
        check(&slow(|_| ()), strain, "the worker waits");
    }

    #[test]
    fn a_setting_that_holds_turns_back_is_named() {
        let step = Step { running: 8, waiting: 2, ..step() };
        assert_eq!(rising().strain(&step).as_deref(), Some("only 8 of 10 turns ran at the same time"));
        assert_eq!(rising().bottleneck(&step, 8), "the worker's setting turns.max_concurrent");
        let step = Step { strain: rising().strain(&step), ..step };
        let knee = "between 0 and 10 turns with 20 deltas per second each: only 8 of 10 turns ran at the same time. \
                    Bottleneck: the worker's setting turns.max_concurrent";
        assert_eq!(rising().knee(&[step], 8), knee);
    }

    #[test]
    fn models_that_cannot_keep_up_end_the_rise() {
        let mut step = step();
        step.reading.deltas_per_second = 100.0;
        assert_eq!(rising().strain(&step).as_deref(), Some("the models said 100 of 200 deltas per second"));
    }
}
