//! From scenario and seed to the exact faults of a run.
//!
//! Each entry of the file draws from a stream of its own, and the swarm from another, so that a change in one leaves
//! the others as they were.

use std::{collections::BTreeMap, fmt, time::Duration};

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    fault::{
        kind::FaultKind,
        schema::{Direction, Fault, Jump, Link, Swarm, Trigger},
    },
    scenario::Scenario,
    seed::Seed,
    units::{Bytes, Time},
};

/// The faults of one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FaultPlan {
    /// In the order of the file, those of the swarm last.
    pub faults: Vec<PlannedFault>,
    /// What the swarm has drawn, if there is one: each kind's weight, 0 for those that are switched off.
    pub weights: BTreeMap<FaultKind, f64>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedFault {
    /// What.
    pub kind: FaultKind,
    /// Which worker, from 0.
    pub worker: usize,
    /// The earliest moment.
    pub at: Duration,
    /// How long.
    pub lasts: Duration,
    /// What it waits for.
    pub when: Trigger,
    /// How likely each opportunity is struck.
    pub probability: f64,
    /// How many opportunities are struck at most.
    pub times: Option<u64>,
    /// The other end of a fault of the network.
    pub link: Link,
    /// Which way a partition cuts.
    pub direction: Direction,
    /// By how much something is late.
    pub delay: Duration,
    /// By how much something is larger.
    pub bytes: u64,
    /// How many bytes pass in a second.
    pub rate: u64,
    /// By how much a clock is wrong, in milliseconds.
    pub jump: i64,
}

impl PlannedFault {
    /// A fault of a kind, with what is usual for the rest.
    #[must_use]
    pub fn new(kind: FaultKind, worker: usize, at: Duration) -> Self {
        Self {
            kind,
            worker,
            at,
            lasts: kind.lasts(),
            when: Trigger::Time,
            probability: if kind == FaultKind::NetworkLoss { 0.1 } else { 1.0 },
            times: None,
            link: Link::Convex,
            direction: Direction::Both,
            delay: Duration::from_secs(1),
            bytes: 256 << 10,
            rate: 16 << 10,
            jump: 3_600_000,
        }
    }
}

impl FaultPlan {
    /// The faults of `scenario` with `seed`.
    #[must_use]
    pub fn draw(scenario: &Scenario, seed: Seed) -> Self {
        let mut faults = Vec::new();
        for (number, fault) in scenario.faults.iter().enumerate() {
            faults.extend(of_entry(fault, &mut seed.stream(&format!("faults/{number}"))));
        }
        let Some(swarm) = &scenario.swarm else { return Self { faults, weights: BTreeMap::new() } };
        let mut random = seed.stream("swarm");
        let weights = weigh(swarm, &mut random);
        faults.extend(of_swarm(swarm, &weights, scenario.workers, &mut random));
        Self { faults, weights }
    }

    /// The faults in words, each kind with how often it is planned if there are many.
    #[must_use]
    pub fn describe(&self) -> String {
        /// More faults than this are counted, not listed.
        const LISTED: usize = 16;
        if self.faults.len() <= LISTED {
            return list(self.faults.iter());
        }
        let mut counts: BTreeMap<FaultKind, u64> = BTreeMap::new();
        self.faults.iter().for_each(|fault| *counts.entry(fault.kind).or_default() += 1);
        list(counts.iter().map(|(kind, count)| format!("{count} × {kind}")))
    }

    /// What the swarm has drawn, in words.
    #[must_use]
    pub fn describe_swarm(&self) -> String {
        let on = self.weights.iter().filter(|(_, weight)| **weight > 0.0);
        let off = self.weights.iter().filter(|(_, weight)| **weight == 0.0);
        let on = list(on.map(|(kind, weight)| format!("{kind} {weight:.2}")));
        format!("on: {on}; off: {}", list(off.map(|(kind, _)| kind)))
    }
}

fn list(items: impl Iterator<Item = impl fmt::Display>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "none".into() } else { items.join(", ") }
}

fn of_entry(fault: &Fault, random: &mut ChaCha8Rng) -> Vec<PlannedFault> {
    let time = |time: &Option<toml::Spanned<Time>>| time.as_ref().map(|time| time.get_ref().0);
    let kind = *fault.kind.get_ref();
    let worker = usize::try_from(*fault.worker.get_ref() - 1).expect("validated");
    let usual = PlannedFault::new(kind, worker, Duration::ZERO);
    let template = PlannedFault {
        lasts: time(&fault.lasts).unwrap_or(usual.lasts),
        when: fault.when.as_ref().map_or(Trigger::Time, |when| *when.get_ref()),
        probability: fault.probability.as_ref().map_or(usual.probability, |share| share.get_ref().0),
        times: fault.times.as_ref().map(|times| *times.get_ref()),
        link: fault.link.as_ref().map_or(Link::Convex, |link| *link.get_ref()),
        direction: fault.direction.as_ref().map_or(Direction::Both, |way| *way.get_ref()),
        delay: time(&fault.delay).unwrap_or(usual.delay),
        bytes: fault.bytes.as_ref().map_or(usual.bytes, |bytes| bytes.get_ref().0),
        rate: fault.rate.as_ref().map_or(usual.rate, |rate| rate.get_ref().0),
        jump: fault.by.as_ref().map_or(usual.jump, |jump| jump.get_ref().0),
        ..usual
    };
    let (from, until) = (time(&fault.from).unwrap_or_default(), time(&fault.until).unwrap_or_default());
    let count = fault.count.as_ref().map(|count| *count.get_ref());
    match (time(&fault.at), time(&fault.every), count) {
        (Some(at), ..) => vec![PlannedFault { at, ..template }],
        (None, Some(every), _) => spans(from, until, every)
            .map(|(from, until)| PlannedFault { at: random.random_range(from..until), ..template.clone() })
            .collect(),
        (None, None, Some(count)) => {
            let mut moments: Vec<_> = (0..count).map(|_| random.random_range(from..until)).collect();
            moments.sort_unstable();
            moments.into_iter().map(|at| PlannedFault { at, ..template.clone() }).collect()
        }
        (None, None, None) => vec![PlannedFault { at: from, lasts: until - from, ..template }],
    }
}

fn spans(from: Duration, until: Duration, every: Duration) -> impl Iterator<Item = (Duration, Duration)> {
    std::iter::successors(Some(from), move |start| Some(*start + every))
        .take_while(move |start| *start < until)
        .map(move |start| (start, (start + every).min(until)))
}

/// Switches some kinds off, at least one stays; weighs the others anew.
fn weigh(swarm: &Swarm, random: &mut ChaCha8Rng) -> BTreeMap<FaultKind, f64> {
    let kinds = swarm.kinds.get_ref();
    let mut weights: BTreeMap<FaultKind, f64> = kinds
        .iter()
        .map(|(kind, weight)| {
            let (kept, factor) = (random.random_bool(swarm.keep.0), random.random_range(0.1..=1.0));
            (*kind, if kept { weight * factor } else { 0.0 })
        })
        .collect();
    if weights.values().all(|weight| *weight == 0.0) {
        let all: Vec<_> = kinds.keys().copied().collect();
        weights.insert(*all.choose(random).expect("validated"), 1.0);
    }
    weights
}

fn of_swarm(
    swarm: &Swarm,
    weights: &BTreeMap<FaultKind, f64>,
    workers: usize,
    random: &mut ChaCha8Rng,
) -> Vec<PlannedFault> {
    let weighed: Vec<_> = weights.iter().filter(|(_, weight)| **weight > 0.0).collect();
    let (from, until) = (swarm.from.get_ref().0, swarm.until.get_ref().0);
    let mut faults: Vec<_> = (0..*swarm.faults.get_ref())
        .map(|_| {
            let (kind, _) =
                weighed.choose_weighted(random, |(_, weight)| **weight).expect("weights are positive");
            let (worker, at) = (random.random_range(0..workers), random.random_range(from..until));
            let lasts = if kind.is_momentary() { Duration::ZERO } else { swarm.lasts.draw(random) };
            PlannedFault { lasts, ..vary(PlannedFault::new(**kind, worker, at), random) }
        })
        .collect();
    faults.sort_by_key(|fault| fault.at);
    faults
}

/// Draws everything else about a fault of the swarm; the same number of draws whatever the kind.
fn vary(fault: PlannedFault, random: &mut ChaCha8Rng) -> PlannedFault {
    use Trigger::{BeforeClaim, BeforeComplete, BeforePrompt, InMidReply, Time};
    let when = *[Time, Time, Time, Time, BeforeClaim, BeforePrompt, InMidReply, BeforeComplete]
        .choose(random)
        .expect("not empty");
    let waits = fault.kind.is_of_process() || fault.kind == FaultKind::OpencodeCrash;
    PlannedFault {
        when: if waits && fault.kind != FaultKind::RollingRestart { when } else { Time },
        // A line that loses everything is cut: the usual loss is the most.
        probability: fault.probability * [0.1, 0.5, 1.0].choose(random).expect("not empty"),
        link: *[Link::Convex, Link::Convex, Link::Opencode].choose(random).expect("not empty"),
        direction: *[Direction::Both, Direction::FromWorker, Direction::ToWorker]
            .choose(random)
            .expect("not empty"),
        delay: Duration::from_millis(random.random_range(100..3_000)),
        bytes: random.random_range(1 << 10..64 << 10),
        jump: random.random_range(-3_600_000..3_600_000),
        ..fault
    }
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if self.kind != FaultKind::RollingRestart && self.kind != FaultKind::ConvexRestart {
            write!(f, " worker-{}", self.worker + 1)?;
        }
        write!(f, " at {}", Time(self.at))?;
        match self.when {
            Trigger::Time => {}
            Trigger::BeforeClaim => f.write_str(" before a claim")?,
            Trigger::BeforePrompt => f.write_str(" between claim and prompt")?,
            Trigger::InMidReply => f.write_str(" in mid-reply")?,
            Trigger::BeforeComplete => f.write_str(" before a completion")?,
        }
        if !self.kind.is_momentary() {
            write!(f, " for {}", Time(self.lasts))?;
        }
        self.write_particulars(f)
    }
}

impl PlannedFault {
    fn write_particulars(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.is_of_network() {
            let to = match self.link {
                Link::Convex => "convex",
                Link::Opencode => "opencode",
            };
            match self.direction {
                Direction::FromWorker if self.kind == FaultKind::Partition => write!(f, " (towards {to})")?,
                Direction::ToWorker if self.kind == FaultKind::Partition => write!(f, " (from {to})")?,
                _ => write!(f, " ({to})")?,
            }
        }
        if self.kind.delays() {
            write!(f, " by {}", Time(self.delay))?;
        }
        if self.kind == FaultKind::ClockJump {
            write!(f, " by {}", Jump(self.jump))?;
        }
        if self.kind == FaultKind::ConvexLargeTransition {
            write!(f, " by {}", Bytes(self.bytes))?;
        }
        if self.kind == FaultKind::NetworkSlow {
            write!(f, " to {} a second", Bytes(self.rate))?;
        }
        if (self.kind.strikes() || self.kind == FaultKind::NetworkLoss) && self.probability < 1.0 {
            write!(f, " with probability {}", self.probability)?;
        }
        match self.times {
            Some(times) => write!(f, ", at most {times} times"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(more: &str, seed: u64) -> FaultPlan {
        let source = format!("duration = '1min'\nworkers = 2\n{more}");
        let scenario = Scenario::parse("some.toml", "some", &source)
            .unwrap_or_else(|error| panic!("{}", error.render(false)));
        FaultPlan::draw(&scenario, Seed(seed))
    }

    #[test]
    fn a_scripted_fault_is_planned_as_it_is_written() {
        let plan =
            plan("[[faults]]\nkind = 'kill'\nworker = 2\nat = '5s'\nwhen = 'in-mid-reply'\nfor = '3s'", 1);
        let expected = PlannedFault {
            when: Trigger::InMidReply,
            lasts: Duration::from_secs(3),
            ..PlannedFault::new(FaultKind::Kill, 1, Duration::from_secs(5))
        };
        assert_eq!(plan.faults, [expected]);
        assert_eq!(plan.describe(), "kill worker-2 at 5s in mid-reply for 3s");
    }

    #[test]
    fn counted_moments_are_drawn_within_the_window() {
        let faults =
            |seed| plan("[[faults]]\nkind = 'kill'\nfrom = '5s'\nuntil = '9s'\ncount = 20", seed).faults;
        let window = Duration::from_secs(5)..Duration::from_secs(9);
        assert_eq!(faults(1).len(), 20);
        assert!(faults(1).iter().all(|fault| window.contains(&fault.at)));
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
    }

    #[test]
    fn one_moment_is_drawn_in_every_span() {
        let plan = plan("[[faults]]\nkind = 'kill'\nfrom = '5s'\nuntil = '35s'\nevery = '10s'", 1);
        let spans: Vec<_> = plan.faults.iter().map(|fault| (fault.at.as_secs() - 5) / 10).collect();
        assert_eq!(spans, [0, 1, 2]);
    }

    #[test]
    fn a_window_alone_is_one_fault_that_lasts_as_long() {
        let plan =
            plan("[[faults]]\nkind = 'opencode-errors'\nfrom = '5s'\nuntil = '35s'\nprobability = 0.2", 1);
        assert_eq!(plan.describe(), "opencode-errors worker-1 at 5s for 30s with probability 0.2");
    }

    const SWARM: &str = "[swarm]\nfaults = 200\nfrom = '5s'\nuntil = '50s'\n[swarm.kinds]\nkill = 1\nstop = 1\n\
                         partition = 2\nopencode-hang = 1\nconvex-close = 1\n";

    #[test]
    fn each_seed_switches_other_kinds_off_and_weighs_the_rest() {
        let off = |seed| {
            let plan = plan(SWARM, seed);
            let off: Vec<_> =
                plan.weights.iter().filter(|(_, weight)| **weight == 0.0).map(|(kind, _)| *kind).collect();
            assert!(plan.faults.iter().all(|fault| !off.contains(&fault.kind)));
            assert_eq!(plan.faults.len(), 200);
            off
        };
        let drawn: std::collections::BTreeSet<_> = (0..20).map(off).collect();
        assert!(drawn.len() > 5, "{drawn:?}");
    }

    #[test]
    fn some_kind_always_stays() {
        let none = SWARM.replace("[swarm.kinds]", "keep = 0\n[swarm.kinds]");
        for seed in 0..20 {
            assert_eq!(plan(&none, seed).weights.values().filter(|weight| **weight > 0.0).count(), 1);
        }
    }

    #[test]
    fn a_swarm_is_told_in_words() {
        insta::assert_snapshot!(plan(SWARM, 3).describe_swarm(), @"on: kill 0.16, opencode-hang 0.42, partition 1.32; off: stop, convex-close");
    }
}
