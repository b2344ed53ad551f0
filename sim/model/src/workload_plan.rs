//! From scenario and seed to the exact plan of a run: who says what and when, and which sessions are in what state.
//!
//! All of it is drawn before the run begins, each part from a stream of its own, so that a change in one part of a
//! scenario leaves the others as they were.

use std::time::Duration;

use rand::{Rng, seq::SliceRandom};

use crate::{
    scenario::{
        Scenario,
        schema::{Arrival, Spread},
    },
    seed::Seed,
};

/// One worker's world and what happens to it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadPlan {
    /// For each session, whether OpenCode knows it.
    pub in_opencode: Vec<bool>,
    /// The sessions that have a stale turn that nobody claimed; a session may have several.
    pub stale_pending: Vec<usize>,
    /// The sessions that have a stale turn that was claimed, each once.
    pub stale_claimed: Vec<usize>,
    /// What people send, in order of time.
    pub messages: Vec<Message>,
    /// Which sessions people end, in order of time.
    pub ends: Vec<EndSession>,
    /// When the owner asks which worker to connect, in order of time.
    pub connects: Vec<ConnectRequest>,
    /// What somebody does in OpenCode itself, in order of time.
    pub direct: Vec<DirectUse>,
}

/// The owner asks a worker to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectRequest {
    /// When.
    pub at: Duration,
    /// Which, from 0.
    pub worker: usize,
}

/// A message that a person sends.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// When.
    pub at: Duration,
    /// The session, by its number.
    pub session: usize,
    /// What; no two messages of a run are equal.
    pub text: String,
}

/// What somebody does in OpenCode itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directly {
    /// Makes a session.
    Create,
    /// Renames one.
    Rename,
    /// Deletes one.
    Delete,
    /// Deletes one that works on a prompt, as soon as one does.
    DeleteBusy,
}

/// Something that somebody does in OpenCode itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectUse {
    /// When.
    pub at: Duration,
    /// What.
    pub what: Directly,
    /// Picks the session among those that there are then.
    pub pick: u64,
    /// Whether another process does it, of which the server learns nothing.
    pub behind_the_server: bool,
}

/// A session that a person ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EndSession {
    /// When.
    pub at: Duration,
    /// The session, by its number.
    pub session: usize,
}

impl WorkloadPlan {
    /// The plan of worker `worker` (from 0).
    #[must_use]
    pub fn draw(scenario: &Scenario, seed: Seed, worker: usize) -> Self {
        let stream = |part: &str| seed.stream(&format!("plan/{worker}/{part}"));
        let population = &scenario.population;
        let sessions = usize::try_from(population.sessions).expect("sessions fit into memory");
        Self {
            in_opencode: draw_in_opencode(
                sessions,
                *population.missing_in_opencode.get_ref(),
                &mut stream("missing"),
            ),
            stale_pending: draw_many(
                sessions,
                *population.stale_pending.get_ref(),
                &mut stream("stale-pending"),
            ),
            stale_claimed: draw_some(
                sessions,
                *population.stale_claimed.get_ref(),
                &mut stream("stale-claimed"),
            ),
            messages: draw_messages(scenario, worker, sessions, &mut stream("messages")),
            ends: draw_ends(scenario, sessions, &mut stream("ends")),
            connects: draw_connects(scenario, worker, &mut stream("connects")),
            direct: draw_direct(scenario, &mut stream("direct")),
        }
    }
}

fn draw_in_opencode(sessions: usize, missing: u64, random: &mut impl Rng) -> Vec<bool> {
    let mut there = vec![true; sessions];
    draw_some(sessions, missing, random).into_iter().for_each(|session| there[session] = false);
    there
}

/// `count` different sessions, in ascending order.
fn draw_some(sessions: usize, count: u64, random: &mut impl Rng) -> Vec<usize> {
    let mut all: Vec<_> = (0..sessions).collect();
    all.shuffle(random);
    all.truncate(usize::try_from(count).expect("validated"));
    all.sort_unstable();
    all
}

/// `count` sessions, in ascending order; one may come several times.
fn draw_many(sessions: usize, count: u64, random: &mut impl Rng) -> Vec<usize> {
    let mut drawn: Vec<_> = (0..count).map(|_| random.random_range(0..sessions)).collect();
    drawn.sort_unstable();
    drawn
}

fn draw_messages(scenario: &Scenario, worker: usize, sessions: usize, random: &mut impl Rng) -> Vec<Message> {
    if sessions == 0 {
        return Vec::new();
    }
    let mut times = draw_times(scenario, random);
    times.sort_unstable();
    let workload = &scenario.workload;
    let written = workload.messages.get_ref().iter();
    let written =
        written.filter(|message| *message.worker.get_ref() == worker as u64 + 1).map(|message| Message {
            at: message.at.0,
            session: usize::try_from(message.session).expect("validated"),
            text: text(
                worker,
                usize::try_from(message.number).expect("numbers fit into memory"),
                message.bytes.0,
            ),
        });
    let message = |(number, at): (usize, Duration)| Message {
        at,
        session: draw_session(workload.spread, sessions, random),
        text: text(worker, number, workload.message_bytes.draw(random)),
    };
    let mut messages: Vec<_> = times.into_iter().enumerate().map(message).chain(written).collect();
    messages.sort_by_key(|message| message.at);
    messages
}

fn draw_times(scenario: &Scenario, random: &mut impl Rng) -> Vec<Duration> {
    /// Messages of one burst, and how close together they are.
    const BURST: u64 = 20;
    const BURST_LENGTH: Duration = Duration::from_secs(2);
    let (from, until) = (scenario.workload.from.get_ref().0, scenario.workload_until);
    let mut burst = from;
    let mut time = |number: u64| match scenario.workload.arrival {
        Arrival::Uniform => random.random_range(from..until),
        Arrival::Bursty => {
            if number.is_multiple_of(BURST) {
                burst = random.random_range(from..until);
            }
            (burst + random.random_range(Duration::ZERO..BURST_LENGTH)).min(until)
        }
    };
    (0..scenario.workload.turns).map(&mut time).collect()
}

fn draw_session(spread: Spread, sessions: usize, random: &mut impl Rng) -> usize {
    let busy = sessions.div_ceil(5);
    match spread {
        Spread::Skewed if random.random_bool(0.8) => random.random_range(0..busy),
        Spread::Even | Spread::Skewed => random.random_range(0..sessions),
    }
}

fn draw_ends(scenario: &Scenario, sessions: usize, random: &mut impl Rng) -> Vec<EndSession> {
    let (from, until) = (scenario.workload.from.get_ref().0, scenario.workload_until);
    let ended = draw_some(sessions, *scenario.workload.end_sessions.get_ref(), random);
    let mut ends: Vec<_> = ended
        .into_iter()
        .map(|session| EndSession { at: random.random_range(from..until), session })
        .collect();
    ends.sort_by_key(|end| end.at);
    ends
}

fn draw_connects(scenario: &Scenario, worker: usize, random: &mut impl Rng) -> Vec<ConnectRequest> {
    let (from, until) = (scenario.workload.from.get_ref().0, scenario.workload_until);
    let draw = |_| ConnectRequest { at: random.random_range(from..until), worker };
    let mut connects: Vec<_> = (0..scenario.workload.connect_requests).map(draw).collect();
    connects.sort_by_key(|request| request.at);
    connects
}

fn draw_direct(scenario: &Scenario, random: &mut impl Rng) -> Vec<DirectUse> {
    let workload = &scenario.workload;
    let (from, until) = (workload.from.get_ref().0, scenario.workload_until);
    let counts = [
        (Directly::Create, workload.created_in_opencode),
        (Directly::Rename, workload.renamed_in_opencode),
        (Directly::Delete, workload.deleted_in_opencode),
        (Directly::DeleteBusy, workload.deleted_in_mid_turn),
    ];
    let mut uses = Vec::new();
    for (what, count) in counts {
        uses.extend((0..count).map(|_| DirectUse {
            at: random.random_range(from..until),
            what,
            pick: random.random(),
            behind_the_server: random.random_bool(workload.behind_the_server.0),
        }));
    }
    uses.sort_by_key(|direct| direct.at);
    uses
}

/// A text of about `bytes` bytes that no other message of the run has. Not only ASCII: people write more than that.
fn text(worker: usize, number: usize, bytes: u64) -> String {
    const WORDS: [&str; 8] = ["please", "überprüfe", "the", "parser", "再試行", "and", "tests", "🦀"];
    let bytes = usize::try_from(bytes).expect("a message fits into memory");
    let mut text = format!("message {worker}.{number}:");
    for word in WORDS.iter().cycle().skip(number % WORDS.len()) {
        if text.len() + 1 + word.len() > bytes {
            break;
        }
        text.push(' ');
        text.push_str(word);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn scenario(more: &str) -> Scenario {
        let source = format!("duration = '10min'\n{more}");
        Scenario::parse("some.toml", "some", &source)
            .unwrap_or_else(|error| panic!("{}", error.render(false)))
    }

    const PEOPLE: &str = "[population]\nsessions = 50\nmissing_in_opencode = 17\nstale_pending = 9\nstale_claimed = 5\n\
                          [workload]\nturns = 300\nend_sessions = 4\n";

    #[test]
    fn the_plan_has_what_the_scenario_asks_for() {
        let plan = WorkloadPlan::draw(&scenario(PEOPLE), Seed(1), 0);
        assert_eq!(plan.in_opencode.iter().filter(|there| !**there).count(), 17);
        assert_eq!((plan.stale_pending.len(), plan.stale_claimed.len(), plan.ends.len()), (9, 5, 4));
        assert_eq!(plan.messages.len(), 300);
        assert!(plan.messages.is_sorted_by_key(|message| message.at));
        let window = Duration::from_secs(1)..Duration::from_secs(540);
        assert!(plan.messages.iter().all(|message| window.contains(&message.at) && message.session < 50));
    }

    #[test]
    fn messages_written_in_full_are_what_was_drawn() {
        let drawn = WorkloadPlan::draw(&scenario(PEOPLE), Seed(1), 0);
        let written = drawn.messages.iter().enumerate().take(3).map(|(number, message)| {
            let (session, bytes) = (message.session, message.text.len());
            let at = humantime::format_duration(message.at);
            format!("[[workload.messages]]\nsession = {session}\nat = '{at}'\nnumber = {number}\nbytes = {bytes}\n")
        });
        let written: String = written.collect();
        let people = PEOPLE.replace("turns = 300", "turns = 0");
        let plan = WorkloadPlan::draw(&scenario(&format!("{people}{written}")), Seed(1), 0);
        assert_eq!((&plan.messages[..], plan.stale_pending), (&drawn.messages[..3], drawn.stale_pending));
    }

    #[test]
    fn no_two_messages_are_equal() {
        let plan = WorkloadPlan::draw(&scenario(PEOPLE), Seed(1), 0);
        let texts: BTreeSet<_> = plan.messages.iter().map(|message| &message.text).collect();
        assert_eq!(texts.len(), 300);
    }

    #[test]
    fn the_same_seed_draws_the_same_plan_and_another_seed_another() {
        let draw = |seed| WorkloadPlan::draw(&scenario(PEOPLE), Seed(seed), 0);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_change_in_one_part_leaves_the_others_alone() {
        let more = PEOPLE.replace("stale_pending = 9", "stale_pending = 10");
        let (one, other) = (
            WorkloadPlan::draw(&scenario(PEOPLE), Seed(1), 0),
            WorkloadPlan::draw(&scenario(&more), Seed(1), 0),
        );
        assert_eq!((one.messages, one.in_opencode), (other.messages, other.in_opencode));
    }

    #[test]
    fn a_skewed_workload_prefers_a_fifth_of_the_sessions() {
        let plan = WorkloadPlan::draw(&scenario(&format!("{PEOPLE}spread = 'skewed'\n")), Seed(1), 0);
        let busy = plan.messages.iter().filter(|message| message.session < 10).count();
        assert!((225..=280).contains(&busy), "{busy} of 300");
    }

    #[test]
    fn a_bursty_workload_has_gaps() {
        let plan = WorkloadPlan::draw(&scenario(&format!("{PEOPLE}arrival = 'bursty'\n")), Seed(1), 0);
        let longest = plan.messages.windows(2).map(|two| two[1].at - two[0].at).max();
        assert!(longest > Some(Duration::from_secs(10)), "{longest:?}");
    }
}
