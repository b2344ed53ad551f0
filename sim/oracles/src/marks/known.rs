//! What has to be remembered of a run to recognise marks. Bounded by the turns that have not ended and by the sessions
//! that a worker used in its current start.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sim_model::{
    scenario::Scenario,
    trace::{Event, Fact, Micros, Name, TurnState, worker_of},
};

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) places: usize,
    pub(super) window: usize,
    pub(super) cached: usize,
    pub(super) creates_per_second: usize,
    turns: BTreeMap<Name, Turn>,
    by_text: BTreeMap<Name, Name>,
    /// Turns of each session that have not ended: those that wait, those in progress.
    sessions: BTreeMap<Name, (u64, u64)>,
    workers: BTreeMap<String, Worker>,
}

/// A turn that has not ended.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) session: Name,
    pub(super) worker: Name,
    pub(super) claimed: bool,
    pub(super) prompted: bool,
    pub(super) has_chunk: bool,
    pub(super) replied: bool,
    text: Name,
    /// In OpenCode.
    message: Option<Name>,
}

/// A worker and its OpenCode.
#[derive(Debug, Default)]
pub(super) struct Worker {
    pub(super) up: bool,
    pub(super) stopping: bool,
    pub(super) connected_before: bool,
    pub(super) recovering: bool,
    pub(super) sessions_used: BTreeSet<Name>,
    /// Prompts refused because their session was gone, and not yet followed by a new link.
    pub(super) vanished: u64,
    /// OpenCode sessions created and not yet linked.
    pub(super) created: BTreeSet<Name>,
    pub(super) creations: VecDeque<Micros>,
    /// Sessions that have a turn that waits and none in progress.
    pub(super) ready: usize,
    pub(super) last_claim: Option<Micros>,
    /// When a server stopped that nobody had asked a reply of.
    pub(super) idle_stop: Option<Micros>,
    /// Whether its event stream was open when each of the replies under way began.
    pub(super) replies: BTreeMap<Name, bool>,
    pub(super) streams: u64,
}

impl Known {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let settings = &scenario.settings;
        Self {
            places: settings.turns.max_concurrent,
            window: settings.turns.window,
            cached: settings.sessions.cache_capacity,
            creates_per_second: settings.sessions.creates_per_second,
            turns: BTreeMap::new(),
            by_text: BTreeMap::new(),
            sessions: BTreeMap::new(),
            workers: BTreeMap::new(),
        }
    }

    /// The worker called `name`.
    pub(super) fn worker(&mut self, name: &str) -> &mut Worker {
        self.workers.entry(name.to_owned()).or_default()
    }

    /// The same, if it was ever heard of.
    pub(super) fn known_worker(&self, name: &str) -> Option<&Worker> {
        self.workers.get(name)
    }

    /// The turns of a worker that it has claimed and that have not ended.
    pub(super) fn in_progress(&self, worker: &str) -> impl Iterator<Item = &Turn> {
        self.turns.values().filter(move |turn| turn.claimed && &*turn.worker == worker)
    }

    /// Whether a turn of this session is in progress.
    pub(super) fn is_in_progress(&self, session: &str) -> bool {
        self.sessions.get(session).is_some_and(|(_, in_progress)| *in_progress > 0)
    }

    /// A turn of the session joins or leaves those that wait, or those in progress.
    fn shift(&mut self, session: &Name, worker: &str, shift: impl FnOnce(&mut (u64, u64))) {
        let is_ready = |(waiting, in_progress): (u64, u64)| waiting > 0 && in_progress == 0;
        let turns = self.sessions.entry(Name::clone(session)).or_default();
        let before = is_ready(*turns);
        shift(turns);
        let after = is_ready(*turns);
        if *turns == (0, 0) {
            self.sessions.remove(session);
        }
        let worker = self.worker(worker);
        worker.ready = worker.ready + usize::from(after) - usize::from(before);
    }

    /// A new OpenCode session is linked; true if it takes the place of one that had vanished.
    pub(super) fn link(&mut self, opencode_session: &str) -> bool {
        let mut workers = self.workers.values_mut();
        let maker = workers.find_map(|worker| worker.created.remove(opencode_session).then_some(worker));
        let Some(maker) = maker.filter(|maker| maker.vanished > 0) else { return false };
        maker.vanished -= 1;
        true
    }

    pub(super) fn observe(&mut self, fact: &Fact) {
        self.observe_turns(fact);
        self.observe_workers(fact);
        if let Some(worker) = worker_of(&fact.host) {
            observe_machine(fact, self.worker(&worker));
        }
    }

    fn observe_turns(&mut self, fact: &Fact) {
        match &fact.event {
            Event::Sent { turn, session, worker, text, .. } => {
                let (session, worker) = (Name::clone(session), Name::clone(worker));
                let (claimed, prompted, has_chunk, replied) = (false, false, false, false);
                let (text, message) = (Name::clone(text), None);
                self.by_text.insert(Name::clone(&text), Name::clone(turn));
                self.shift(&session, &worker, |(waiting, _)| *waiting += 1);
                let new = Turn { session, worker, claimed, prompted, has_chunk, replied, text, message };
                self.turns.insert(Name::clone(turn), new);
            }
            Event::TurnChanged { turn, to, .. } if to.has_ended() => {
                let Some(Turn { session, worker, claimed, text, .. }) = self.turns.remove(turn) else {
                    return;
                };
                self.by_text.remove(&text);
                self.shift(&session, &worker, |(waiting, in_progress)| {
                    *if claimed { in_progress } else { waiting } -= 1;
                });
            }
            Event::TurnChanged { turn, to: TurnState::Claimed, session, worker, .. } => {
                let Some(turn) = self.turns.get_mut(turn) else { return };
                if !std::mem::replace(&mut turn.claimed, true) {
                    self.shift(session, worker, |(waiting, in_progress)| {
                        (*waiting, *in_progress) = (*waiting - 1, *in_progress + 1);
                    });
                }
            }
            Event::ChunkWritten { turn, .. } => {
                self.turns.get_mut(turn).into_iter().for_each(|turn| turn.has_chunk = true);
            }
            Event::Prompted { text, message, .. } => {
                if let Some(turn) = self.by_text.get(text).and_then(|turn| self.turns.get_mut(turn)) {
                    turn.prompted = true;
                    turn.message = Some(Name::clone(message));
                }
            }
            Event::ReplyEnded { message, .. } => {
                let of = |turn: &&mut Turn| turn.message.as_ref() == Some(message);
                self.turns.values_mut().filter(of).for_each(|turn| turn.replied = true);
            }
            _ => {}
        }
    }

    fn observe_workers(&mut self, fact: &Fact) {
        match &fact.event {
            Event::WorkerStarted { worker, .. } => {
                let machine = self.worker(worker);
                *machine = Worker { up: true, ready: machine.ready, ..Worker::default() };
            }
            Event::Killed { worker } | Event::Exited { worker, .. } => self.worker(worker).up = false,
            Event::StopAsked { worker } => self.worker(worker).stopping = true,
            Event::Connected { client } => self.worker(client).connected_before = true,
            Event::Lifecycle { worker, state } => {
                let worker = self.worker(worker);
                worker.recovering = match &**state {
                    "Recovering" => true,
                    "Ready" => false,
                    _ => worker.recovering,
                };
            }
            Event::TurnChanged { worker, to: TurnState::Claimed, .. } => {
                self.worker(worker).last_claim = Some(fact.at);
            }
            _ => {}
        }
    }
}

/// What happens at a worker's OpenCode.
fn observe_machine(fact: &Fact, machine: &mut Worker) {
    match &fact.event {
        Event::Prompted { opencode_session, message, .. } => {
            machine.sessions_used.insert(Name::clone(opencode_session));
            machine.replies.insert(Name::clone(message), machine.streams > 0);
        }
        Event::ReplyEnded { message, .. } => {
            machine.replies.remove(message);
        }
        Event::ServerStopped => {
            let is_idle = machine.replies.is_empty() && machine.up && !machine.stopping;
            machine.idle_stop = is_idle.then_some(fact.at);
            machine.replies.clear();
        }
        Event::EventStreamOpened => machine.streams += 1,
        Event::EventStreamClosed => {
            machine.streams = machine.streams.saturating_sub(1);
            machine.replies.values_mut().for_each(|is_watched| *is_watched = machine.streams > 0);
        }
        Event::CreateStarted { .. } => machine.creations.push_back(fact.at),
        Event::CreateEnded { opencode_session: Some(session), .. } => {
            machine.created.insert(Name::clone(session));
        }
        _ => {}
    }
}
