//! How far each turn is, and what is up: from facts alone, for those who wait for a step of a turn.

use std::collections::{BTreeMap, BTreeSet};

use sim_model::{
    fault::Trigger,
    trace::{Event, Fact, Micros, Name, TurnState},
};

/// How long a message takes to reach a worker at the least (µs): before that, a turn that was just sent is nobody's.
const ON_ITS_WAY: Micros = 15_000;

/// Follows turns and workers. Holds turns that have not ended, nothing else.
#[derive(Debug, Default)]
pub struct Stages {
    now: Micros,
    turns: BTreeMap<Name, Turn>,
    by_text: BTreeMap<Name, Name>,
    by_message: BTreeMap<Name, Name>,
    ready: BTreeSet<Name>,
    /// Servers that run, by host.
    serving: BTreeMap<Name, u64>,
}

#[derive(Debug)]
struct Turn {
    worker: Name,
    session: Name,
    text: Name,
    since: Micros,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Pending,
    Claimed,
    Prompted,
    Begun,
    Said,
}

impl Stages {
    /// Follows a fact.
    pub fn observe(&mut self, fact: &Fact) {
        self.now = self.now.max(fact.at);
        match &fact.event {
            Event::Sent { turn, worker, session, text, .. } => {
                let [worker, session, text] = [worker, session, text].map(Name::clone);
                self.by_text.insert(text.clone(), turn.clone());
                let new = Turn { worker, session, text, since: fact.at, step: Step::Pending };
                self.turns.insert(turn.clone(), new);
            }
            Event::TurnChanged { turn, to: TurnState::Claimed, .. } => {
                self.step(Some(turn.clone()), Step::Claimed)
            }
            Event::TurnChanged { turn, .. } => self.end(turn),
            Event::Prompted { text, message, .. } => {
                let turn = self.by_text.get(text).cloned();
                if let Some(turn) = &turn {
                    self.by_message.insert(message.clone(), turn.clone());
                }
                self.step(turn, Step::Prompted);
            }
            Event::ChunkWritten { turn, .. } => self.step(Some(turn.clone()), Step::Begun),
            Event::ReplyEnded { message, .. } => {
                let turn = self.by_message.remove(message);
                self.step(turn, Step::Said);
            }
            event => self.follow_processes(&fact.host, event),
        }
    }

    fn follow_processes(&mut self, host: &Name, event: &Event) {
        match event {
            Event::Ready { worker, .. } => {
                self.ready.insert(worker.clone());
            }
            Event::WorkerStarted { worker, .. } | Event::Killed { worker } | Event::Exited { worker, .. } => {
                self.ready.remove(worker);
            }
            Event::ServerStarted => *self.serving.entry(host.clone()).or_default() += 1,
            Event::ServerStopped => {
                if let Some(count) = self.serving.get_mut(host) {
                    *count = count.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    /// A turn only goes forward: chunks may come after OpenCode has said all.
    fn step(&mut self, turn: Option<Name>, step: Step) {
        if let Some(turn) = turn.and_then(|turn| self.turns.get_mut(&turn))
            && (step as u8) > turn.step as u8
        {
            turn.step = step;
        }
    }

    fn end(&mut self, name: &Name) {
        if let Some(turn) = self.turns.remove(name) {
            self.by_text.remove(&turn.text);
            self.by_message.retain(|_, of| of != name);
        }
    }

    /// Whether some turn of `worker` is where `trigger` waits for it.
    #[must_use]
    pub fn is_at(&self, worker: &str, trigger: Trigger) -> bool {
        let mut own = self.turns.values().filter(|turn| &*turn.worker == worker);
        match trigger {
            Trigger::Time => true,
            Trigger::BeforeClaim => {
                self.ready.contains(worker)
                    && own.any(|turn| {
                        turn.step == Step::Pending && self.is_due(turn) && !self.is_busy(&turn.session)
                    })
            }
            Trigger::BeforePrompt => own.any(|turn| turn.step == Step::Claimed),
            Trigger::InMidReply => own.any(|turn| turn.step == Step::Begun),
            Trigger::BeforeComplete => own.any(|turn| turn.step == Step::Said),
        }
    }

    fn is_due(&self, turn: &Turn) -> bool {
        self.now >= turn.since + ON_ITS_WAY
    }

    fn is_busy(&self, session: &Name) -> bool {
        self.turns.values().any(|turn| turn.session == *session && turn.step != Step::Pending)
    }

    /// Whether `worker` has said that it is ready, since its start.
    #[must_use]
    pub fn is_ready(&self, worker: &str) -> bool {
        self.ready.contains(worker)
    }

    /// Whether a server runs at `host`.
    #[must_use]
    pub fn is_serving(&self, host: &str) -> bool {
        self.serving.get(host).is_some_and(|count| *count > 0)
    }

    /// Says what time it is, where no fact does.
    pub fn tick(&mut self, now: Micros) {
        self.now = self.now.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{changed, chunk, claimed, completed, name, prompted, replied, sent};
    use sim_model::trace::TurnState;

    /// The triggers that a worker's only turn meets after these events.
    #[track_caller]
    fn check(events: &[Event], expected: &[Trigger]) {
        let mut stages = Stages::default();
        let ready = Event::Ready { worker: name("worker-1"), epoch: 1 };
        for event in std::iter::once(&ready).chain(events) {
            stages.observe(&Fact { at: 0, host: name("opencode-1"), event: event.clone() });
        }
        stages.tick(ON_ITS_WAY);
        use Trigger::{BeforeClaim, BeforeComplete, BeforePrompt, InMidReply};
        let all = [BeforeClaim, BeforePrompt, InMidReply, BeforeComplete];
        let met: Vec<_> = all.into_iter().filter(|trigger| stages.is_at("worker-1", *trigger)).collect();
        assert_eq!(met, expected, "{events:?}");
    }

    #[test]
    fn each_step_of_a_turn_is_told_from_facts() {
        let turn = [
            sent("t1", 1.0),
            claimed("t1"),
            prompted("t1"),
            chunk("t1", 0, "he"),
            replied("t1", "hello"),
            completed("t1", 1),
        ];
        check(&turn[..1], &[Trigger::BeforeClaim]);
        check(&turn[..2], &[Trigger::BeforePrompt]);
        check(&turn[..3], &[]);
        check(&turn[..4], &[Trigger::InMidReply]);
        check(&turn[..5], &[Trigger::BeforeComplete]);
        check(&turn, &[]);
    }

    #[test]
    fn a_turn_that_was_just_sent_is_nobodys_yet() {
        let mut stages = Stages::default();
        let ready = Event::Ready { worker: name("worker-1"), epoch: 1 };
        for event in [ready, sent("t1", 1.0)] {
            stages.observe(&Fact { at: 0, host: name("convex"), event });
        }
        assert!(!stages.is_at("worker-1", Trigger::BeforeClaim));
    }

    #[test]
    fn a_turn_that_ends_without_having_run_is_forgotten() {
        check(&[sent("t1", 1.0), changed("t1", TurnState::Pending, TurnState::Expired)], &[]);
    }
}
