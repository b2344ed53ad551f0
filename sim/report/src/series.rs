//! How a run went over time: a few hundred points for each line of a plot, however long the run was.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sim_model::{
    fault::FaultKind,
    trace::{Event, Exit, Fact, Micros, Name, Phase, TurnState},
};

/// Points of a line, at most. A run that goes on longer gets wider buckets.
const POINTS: usize = 600;
/// The width of buckets at first: workers are measured that often.
const FIRST_WIDTH: Micros = 100_000;
/// The window in which creations are counted.
const SECOND: Micros = 1_000_000;
/// Marks kept; later ones are only counted.
const MARKS: usize = 1000;

/// What a line shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Heap of a worker, in bytes: the most in each bucket.
    Heap,
    /// OpenCode sessions that a worker remembers: the most in each bucket.
    Cached,
    /// Turns that wait or run: the most in each bucket.
    Turns,
    /// Creations begun at one server within the last second: the most in each bucket.
    Creates,
    /// Runs of a backend function, by request or because its data changed: the sum of each bucket.
    Calls,
    /// Resident memory of a worker's process, in bytes: the most in each bucket. Only in real time.
    Resident,
    /// Processor time of a worker's process since the measurement before, in percent of one processor. Only in real
    /// time.
    Processor,
}

/// Something that happened at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: Micros,
    /// What.
    pub what: Moment,
}

/// What happens at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// A worker began.
    Started(Name),
    /// A worker was killed.
    Killed(Name),
    /// A worker was asked to stop.
    StopAsked(Name),
    /// A worker ended as asked.
    Stopped(Name),
    /// A worker ended with an error.
    Failed(Name),
    /// An older process of a worker ended, while a newer one runs.
    ZombieEnded(Name),
    /// The fault of this number began.
    FaultBegan(u64, FaultKind, Name),
    /// The fault of this number ended.
    FaultEnded(u64, FaultKind, Name),
    /// The run entered a phase.
    Phase(Phase),
}

/// The lines of a finished run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// When the run ended.
    pub end: Micros,
    /// The width of a bucket.
    pub width: Micros,
    /// Values by line, one for each bucket up to the end. The name says whose they are.
    pub lines: BTreeMap<(Measure, Name), Vec<u64>>,
    /// Marks in order, at most a thousand.
    pub marks: Vec<Mark>,
    /// Marks not kept.
    pub marks_left_out: u64,
}

impl Timeline {
    /// The lines of one measure, with their names.
    pub fn of(&self, measure: Measure) -> impl Iterator<Item = (&Name, &[u64])> {
        let lines = self.lines.iter().filter(move |((of, _), _)| *of == measure);
        lines.map(|((_, name), values)| (name, values.as_slice()))
    }
}

/// Collects lines from facts.
pub struct Series {
    width: Micros,
    now: Micros,
    tracks: BTreeMap<(Measure, Name), Track>,
    creates: BTreeMap<Name, VecDeque<Micros>>,
    /// When each worker's process was last measured, and its processor time then, in ms.
    measured: BTreeMap<Name, (Micros, u64)>,
    waiting: BTreeSet<Name>,
    running: BTreeSet<Name>,
    marks: Vec<Mark>,
    marks_left_out: u64,
}

/// One line while it grows. Buckets have no gaps: between two facts a value stays as it is.
#[derive(Default)]
struct Track {
    buckets: Vec<u64>,
    /// The value from now on; always 0 for sums.
    current: u64,
}

impl Track {
    fn reach(&mut self, bucket: usize) -> &mut u64 {
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, self.current);
        }
        &mut self.buckets[bucket]
    }

    /// The value was `peak` for a moment, and is `then` from now on.
    fn hold(&mut self, bucket: usize, peak: u64, then: u64) {
        let most = self.reach(bucket);
        *most = (*most).max(peak);
        self.current = then;
    }

    fn add(&mut self, bucket: usize) {
        *self.reach(bucket) += 1;
    }

    fn halve(&mut self, measure: Measure) {
        let merged = |pair: &[u64]| match measure {
            Measure::Calls => pair.iter().sum(),
            _ => pair.iter().copied().max().expect("a chunk is not empty"),
        };
        self.buckets = self.buckets.chunks(2).map(merged).collect();
    }
}

impl Default for Series {
    fn default() -> Self {
        Self {
            width: FIRST_WIDTH,
            now: 0,
            tracks: BTreeMap::new(),
            creates: BTreeMap::new(),
            measured: BTreeMap::new(),
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            marks: Vec::new(),
            marks_left_out: 0,
        }
    }
}

impl Series {
    /// Follows a fact.
    pub fn observe(&mut self, fact: &Fact) {
        self.advance(fact.at);
        match &fact.event {
            Event::Heap { worker, live, peak } => {
                let [peak, live] = [*peak, *live].map(|bytes| u64::try_from(bytes).unwrap_or(0));
                self.hold(Measure::Heap, worker, fact.at, peak, live);
            }
            Event::Cache { worker, sessions } => {
                self.hold(Measure::Cached, worker, fact.at, *sessions, *sessions);
            }
            Event::Process { worker, rss, cpu_ms, .. } => {
                self.hold(Measure::Resident, worker, fact.at, *rss, *rss);
                self.processor(worker, fact.at, *cpu_ms);
            }
            Event::Sent { turn, .. } => {
                self.waiting.insert(Name::clone(turn));
                self.count_turns(fact.at);
            }
            Event::TurnChanged { turn, to, .. } => self.changed(fact.at, turn, *to),
            Event::CreateStarted { .. } => self.create(fact.at, &fact.host),
            Event::Executed { function, .. } => {
                let bucket = self.bucket(fact.at);
                self.track(Measure::Calls, function).add(bucket);
            }
            other => self.mark(fact.at, other),
        }
    }

    fn processor(&mut self, worker: &Name, at: Micros, cpu_ms: u64) {
        let before = self.measured.insert(Name::clone(worker), (at, cpu_ms));
        let (since, then) = before.filter(|(_, then)| *then <= cpu_ms).unwrap_or((at, cpu_ms));
        if at > since {
            let percent = (cpu_ms - then) * 100_000 / (at - since);
            self.hold(Measure::Processor, worker, at, percent, percent);
        }
    }

    /// A process is gone; what is measured of it falls to nothing.
    fn gone(&mut self, worker: &Name, at: Micros) {
        self.hold(Measure::Cached, worker, at, 0, 0);
        if self.measured.remove(worker).is_some() {
            self.hold(Measure::Resident, worker, at, 0, 0);
            self.hold(Measure::Processor, worker, at, 0, 0);
        }
    }

    fn changed(&mut self, at: Micros, turn: &Name, to: TurnState) {
        self.waiting.remove(turn);
        if to == TurnState::Claimed {
            self.running.insert(Name::clone(turn));
        } else {
            self.running.remove(turn);
        }
        self.count_turns(at);
    }

    fn count_turns(&mut self, at: Micros) {
        for (name, count) in [("waiting", self.waiting.len()), ("running", self.running.len())] {
            self.hold(Measure::Turns, &Name::from(name), at, count as u64, count as u64);
        }
    }

    fn create(&mut self, at: Micros, server: &Name) {
        let begun = self.creates.entry(Name::clone(server)).or_default();
        begun.push_back(at);
        let count = begun.len() as u64;
        self.hold(Measure::Creates, server, at, count, count);
    }

    fn mark(&mut self, at: Micros, event: &Event) {
        let what = match event {
            Event::WorkerStarted { worker, .. } => Moment::Started(Name::clone(worker)),
            Event::Killed { worker } => {
                self.gone(worker, at);
                Moment::Killed(Name::clone(worker))
            }
            Event::StopAsked { worker } => Moment::StopAsked(Name::clone(worker)),
            Event::Exited { worker, exit } => {
                self.gone(worker, at);
                let ended = if *exit == Exit::Stopped { Moment::Stopped } else { Moment::Failed };
                ended(Name::clone(worker))
            }
            Event::ZombieExited { worker, .. } => Moment::ZombieEnded(Name::clone(worker)),
            Event::FaultBegan { fault, kind, worker } => {
                Moment::FaultBegan(*fault, *kind, Name::clone(worker))
            }
            Event::FaultEnded { fault, kind, worker } => {
                Moment::FaultEnded(*fault, *kind, Name::clone(worker))
            }
            Event::PhaseBegan { phase } => Moment::Phase(*phase),
            _ => return,
        };
        if self.marks.len() < MARKS {
            self.marks.push(Mark { at, what });
        } else {
            self.marks_left_out += 1;
        }
    }

    /// Lets time pass: creations leave their window a second after they began, and buckets become wider if need be.
    fn advance(&mut self, at: Micros) {
        self.now = self.now.max(at);
        let mut left = Vec::new();
        for (server, begun) in &mut self.creates {
            while begun.front().is_some_and(|first| first + SECOND <= at) {
                let first = begun.pop_front().expect("just seen");
                left.push((Name::clone(server), first + SECOND, begun.len() as u64));
            }
        }
        self.widen();
        for (server, when, count) in left {
            self.hold(Measure::Creates, &server, when, 0, count);
        }
    }

    fn widen(&mut self) {
        while self.bucket(self.now) >= POINTS {
            self.width *= 2;
            self.tracks.iter_mut().for_each(|((measure, _), track)| track.halve(*measure));
        }
    }

    fn hold(&mut self, measure: Measure, name: &Name, at: Micros, peak: u64, then: u64) {
        let bucket = self.bucket(at);
        self.track(measure, name).hold(bucket, peak, then);
    }

    fn track(&mut self, measure: Measure, name: &Name) -> &mut Track {
        self.tracks.entry((measure, Name::clone(name))).or_default()
    }

    fn bucket(&self, at: Micros) -> usize {
        usize::try_from(at / self.width).unwrap_or(usize::MAX)
    }

    /// The lines of the run, which ended at `end`.
    #[must_use]
    pub fn timeline(&mut self, end: Micros) -> Timeline {
        self.advance(end);
        let last = self.bucket(self.now);
        self.tracks.values_mut().for_each(|track| {
            track.reach(last);
        });
        Timeline {
            end: self.now,
            width: self.width,
            lines: self.tracks.iter().map(|(key, track)| (key.clone(), track.buckets.clone())).collect(),
            marks: self.marks.clone(),
            marks_left_out: self.marks_left_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from(text)
    }

    fn timeline(end: Micros, events: impl IntoIterator<Item = (Micros, Event)>) -> Timeline {
        let mut series = Series::default();
        for (at, event) in events {
            series.observe(&Fact { at, host: name("opencode-1"), event });
        }
        series.timeline(end)
    }

    fn heap(live: i64, peak: i64) -> Event {
        Event::Heap { worker: name("w"), live, peak }
    }

    fn call() -> Event {
        Event::Executed {
            function: name("f"),
            caller: sim_model::trace::Caller::Person,
            documents_read: 0,
            bytes_read: 0,
            documents_written: 0,
            bytes_written: 0,
            attempts: 1,
            rerun: false,
            identity: None,
            epoch: None,
            error: None,
        }
    }

    #[track_caller]
    fn check(timeline: &Timeline, measure: Measure, expected: &[u64]) {
        let lines: Vec<_> = timeline.of(measure).map(|(_, values)| values.to_vec()).collect();
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn a_value_stays_until_it_changes_and_a_peak_is_not_lost() {
        let line = timeline(450_000, [(0, heap(5, 5)), (210_000, heap(3, 9))]);
        check(&line, Measure::Heap, &[5, 5, 9, 3, 3]);
    }

    #[test]
    fn processor_time_becomes_a_share_and_falls_to_nothing_with_the_process() {
        let process = |cpu_ms| Event::Process {
            worker: name("w"),
            rss: 7,
            peak_rss: 9,
            pss: 0,
            heap: 5,
            cpu_ms,
            threads: 1,
            files: 9,
        };
        let killed = Event::Killed { worker: name("w") };
        let line = timeline(450_000, [(0, process(10)), (100_000, process(60)), (300_000, killed)]);
        check(&line, Measure::Processor, &[0, 50, 50, 50, 0]);
        check(&line, Measure::Resident, &[7, 7, 7, 7, 0]);
    }

    #[test]
    fn creations_are_counted_within_every_window_of_a_second() {
        let create = |at| (at, Event::CreateStarted { in_flight: 1 });
        let line = timeline(2_200_000, [0, 250_000, 1_050_000].map(create));
        let expected = [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0];
        check(&line, Measure::Creates, &expected);
    }

    #[test]
    fn turns_wait_then_run_then_are_gone() {
        let sent = |turn| Event::Sent {
            turn: name(turn),
            session: name("s"),
            worker: name("w"),
            created: 0.0,
            text: name("x"),
        };
        let changed = |turn, from, to| Event::TurnChanged {
            turn: name(turn),
            session: name("s"),
            worker: name("w"),
            from,
            to,
            epoch: None,
            chunks: None,
            error: None,
        };
        use TurnState::{Claimed, Completed, Pending};
        let line = timeline(
            400_000,
            [
                (0, sent("a")),
                (10_000, sent("b")),
                (100_000, changed("a", Pending, Claimed)),
                (300_000, changed("a", Claimed, Completed)),
            ],
        );
        let lines: Vec<_> =
            line.of(Measure::Turns).map(|(name, values)| (&**name, values.to_vec())).collect();
        assert_eq!(lines, [("running", vec![0, 1, 1, 1, 0]), ("waiting", vec![2, 2, 1, 1, 1])]);
    }

    #[test]
    fn a_long_run_has_wider_buckets_and_loses_no_call() {
        let hours = 10 * 3600;
        let line = timeline(hours * SECOND, (0..hours).map(|second| (second * SECOND, call())));
        let (_, values) = line.of(Measure::Calls).next().unwrap();
        assert!((POINTS / 2..=POINTS).contains(&values.len()), "{}", values.len());
        assert_eq!(values.iter().sum::<u64>(), hours);
        assert_eq!(line.width, FIRST_WIDTH << 10);
    }

    #[test]
    fn marks_are_bounded_and_the_rest_counted() {
        let killed = || Event::Killed { worker: name("w") };
        let line = timeline(0, (0..1003).map(|at| (at, killed())));
        assert_eq!((line.marks.len(), line.marks_left_out), (MARKS, 3));
    }
}
