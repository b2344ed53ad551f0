//! Which workers run: the wanted set and what happens to the running ones in, starts and stops out. No async, no clock,
//! no I/O.
//!
//! | what happens to a worker | what becomes of it |
//! |---|---|
//! | it fails or panics | it is started again after a growing pause |
//! | superseded, refused by the backend | it stays down until the file is read again |
//! | not wanted any more | stopped |
//! | wanted with other settings, or under another name | stopped, then started |
//! | wanted as it is | nothing |

use std::{collections::BTreeMap, time::Duration};

use crate::{config::Config, lifecycle::state::Exit};

/// A worker that ran for this long is no part of a crash loop.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// The workers that are to run, by name.
pub type Wanted = BTreeMap<String, Config>;

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// The file says this.
    Wanted(Wanted),
    /// A worker has ended after it ran for this long.
    Ended {
        /// Which.
        name: String,
        /// How.
        ended: Ended,
        /// How long it ran.
        lasted: Duration,
    },
    /// The pause that [`Action::Pause`] asked for is over.
    Rested {
        /// Which.
        name: String,
    },
    /// All are to end.
    Stop,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It came to its end.
    Exit(Exit),
    /// It panicked or could not be started; why.
    Crashed(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start a worker.
    Start {
        /// Under this name.
        name: String,
        /// With these settings.
        config: Box<Config>,
    },
    /// Ask a worker to end.
    Stop {
        /// Which.
        name: String,
    },
    /// Let some time pass before this worker is started again.
    Pause {
        /// Which.
        name: String,
        /// Crashes in a row before this one.
        attempt: u32,
    },
    /// The worker is gone, and nobody wants it back.
    Forget {
        /// Which.
        name: String,
    },
}

#[derive(Debug)]
struct Member {
    config: Config,
    condition: Condition,
    /// Crashes in a row.
    crashes: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Running,
    Stopping,
    Resting,
    GivenUp(Exit),
}

/// All workers of a process.
#[derive(Debug, Default)]
pub struct Workers {
    wanted: Wanted,
    /// Bounded by the file, and by what is still ending of the file before.
    members: BTreeMap<String, Member>,
    stopping: bool,
}

impl Workers {
    /// Takes in an event.
    pub fn apply(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Wanted(_) if self.stopping => {}
            Event::Wanted(wanted) => self.want(wanted, &mut actions),
            Event::Ended { name, ended, lasted } => self.ended(name, ended, lasted, &mut actions),
            Event::Rested { name } => self.rested(&name, &mut actions),
            Event::Stop => {
                self.stopping = true;
                self.want(Wanted::new(), &mut actions);
            }
        }
        actions
    }

    /// Nothing runs, and nothing will.
    pub fn are_over(&self) -> bool {
        self.members.values().all(|member| matches!(member.condition, Condition::GivenUp(_)))
    }

    /// Returns why the workers that were given up may not run.
    pub fn given_up(&self) -> impl Iterator<Item = (&str, &Exit)> {
        self.members.iter().filter_map(|(name, member)| match &member.condition {
            Condition::GivenUp(exit) => Some((name.as_str(), exit)),
            _ => None,
        })
    }

    fn want(&mut self, wanted: Wanted, actions: &mut Vec<Action>) {
        self.wanted = wanted;
        for (name, member) in &mut self.members {
            let is_kept = self.wanted.get(name) == Some(&member.config);
            if member.condition == Condition::Running && !is_kept {
                member.condition = Condition::Stopping;
                actions.push(Action::Stop { name: name.clone() });
            }
        }
        let wanted = &self.wanted;
        self.members.retain(|name, member| {
            let stays = match member.condition {
                Condition::Running | Condition::Stopping => true,
                Condition::Resting => wanted.get(name) == Some(&member.config),
                // Somebody has read the file again: it gets another chance.
                Condition::GivenUp(_) => false,
            };
            if !stays && !wanted.contains_key(name) {
                actions.push(Action::Forget { name: name.clone() });
            }
            stays
        });
        self.start_missing(actions);
    }

    /// Starts what is wanted, unless a worker of the same name or with the same token has yet to end.
    fn start_missing(&mut self, actions: &mut Vec<Action>) {
        for (name, config) in &self.wanted {
            let is_held = self.members.iter().any(|(held, member)| {
                held == name
                    || (member.config.token.machine_id == config.token.machine_id
                        && member.config.token.worker_id == config.token.worker_id
                        && !matches!(member.condition, Condition::GivenUp(_)))
            });
            if !is_held {
                let member = Member { config: config.clone(), condition: Condition::Running, crashes: 0 };
                self.members.insert(name.clone(), member);
                actions.push(Action::Start { name: name.clone(), config: Box::new(config.clone()) });
            }
        }
    }

    fn ended(&mut self, name: String, ended: Ended, lasted: Duration, actions: &mut Vec<Action>) {
        let Some(member) = self.members.get_mut(&name) else { return };
        match ended {
            _ if member.condition == Condition::Stopping => {
                self.members.remove(&name);
                if !self.wanted.contains_key(&name) {
                    actions.push(Action::Forget { name });
                }
                self.start_missing(actions);
            }
            Ended::Exit(exit @ (Exit::Superseded | Exit::Refused(_))) => {
                member.condition = Condition::GivenUp(exit);
            }
            Ended::Exit(Exit::Stopped) | Ended::Crashed(_) => {
                let attempt = if lasted >= STABLE_AFTER { 0 } else { member.crashes };
                member.crashes = attempt + 1;
                member.condition = Condition::Resting;
                actions.push(Action::Pause { name, attempt });
            }
        }
    }

    fn rested(&mut self, name: &str, actions: &mut Vec<Action>) {
        let Some(member) = self.members.get_mut(name) else { return };
        if member.condition == Condition::Resting {
            member.condition = Condition::Running;
            let config = Box::new(member.config.clone());
            actions.push(Action::Start { name: name.to_owned(), config });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Settings;

    fn config(worker: u8, window: usize) -> Config {
        let mut settings = Settings::default();
        settings.turns.window = window;
        Config {
            convex_url: "http://127.0.0.1:1".parse().unwrap(),
            token: format!("machine_m:worker_{worker}:0123456789abcdef0123456789abcdef").parse().unwrap(),
            directory: ".".into(),
            settings,
        }
    }

    fn wanted<const N: usize>(all: [(&str, u8, usize); N]) -> Event {
        Event::Wanted(all.map(|(name, worker, window)| (name.to_owned(), config(worker, window))).into())
    }

    fn ended(name: &str, ended: Ended) -> Event {
        Event::Ended { name: name.into(), ended, lasted: Duration::from_secs(1) }
    }

    fn stopped(name: &str) -> Event {
        ended(name, Ended::Exit(Exit::Stopped))
    }

    fn crashed(name: &str) -> Event {
        ended(name, Ended::Crashed("boom".into()))
    }

    /// The actions in short, as `start a`.
    fn short(actions: &[Action]) -> Vec<String> {
        let short = |action: &Action| match action {
            Action::Start { name, .. } => format!("start {name}"),
            Action::Stop { name } => format!("stop {name}"),
            Action::Pause { name, attempt } => format!("pause {name} {attempt}"),
            Action::Forget { name } => format!("forget {name}"),
        };
        actions.iter().map(short).collect()
    }

    #[test]
    fn a_reload_touches_only_what_it_changes() {
        let mut workers = Workers::default();
        assert_eq!(short(&workers.apply(wanted([("a", 1, 1), ("b", 2, 1), ("c", 3, 1)]))).len(), 3);
        let actions = workers.apply(wanted([("a", 1, 1), ("b", 2, 9), ("d", 4, 1)]));
        assert_eq!(short(&actions), ["stop b", "stop c", "start d"]);
        assert_eq!(short(&workers.apply(stopped("c"))), ["forget c"]);
        assert_eq!(short(&workers.apply(stopped("b"))), ["start b"]);
    }

    #[test]
    fn a_worker_under_a_new_name_starts_when_the_one_with_its_token_has_ended() {
        let mut workers = Workers::default();
        workers.apply(wanted([("a", 1, 1)]));
        assert_eq!(short(&workers.apply(wanted([("b", 1, 1)]))), ["stop a"]);
        assert_eq!(short(&workers.apply(stopped("a"))), ["forget a", "start b"]);
    }

    #[test]
    fn a_crash_is_followed_by_ever_longer_pauses_and_concerns_nobody_else() {
        let mut workers = Workers::default();
        workers.apply(wanted([("a", 1, 1), ("b", 2, 1)]));
        for attempt in 0..3 {
            assert_eq!(short(&workers.apply(crashed("a"))), [format!("pause a {attempt}")]);
            assert_eq!(short(&workers.apply(Event::Rested { name: "a".into() })), ["start a"]);
        }
        let lasted = Duration::from_secs(3_600);
        let late = Event::Ended { name: "a".into(), ended: Ended::Crashed("boom".into()), lasted };
        assert_eq!(short(&workers.apply(late)), ["pause a 0"]);
    }

    #[test]
    fn one_that_may_not_work_stays_down_until_the_file_is_read_again() {
        let mut workers = Workers::default();
        workers.apply(wanted([("a", 1, 1), ("b", 2, 1)]));
        assert_eq!(short(&workers.apply(ended("a", Ended::Exit(Exit::Superseded)))), [""; 0]);
        assert!(!workers.are_over(), "the other one works on");
        assert_eq!(workers.given_up().collect::<Vec<_>>(), [("a", &Exit::Superseded)]);
        assert_eq!(short(&workers.apply(wanted([("a", 1, 1), ("b", 2, 1)]))), ["start a"]);
    }

    #[test]
    fn one_that_is_down_and_not_wanted_any_more_is_forgotten() {
        let mut workers = Workers::default();
        workers.apply(wanted([("a", 1, 1), ("b", 2, 1), ("c", 3, 1)]));
        workers.apply(ended("a", Ended::Exit(Exit::Superseded)));
        workers.apply(crashed("b"));
        assert_eq!(short(&workers.apply(wanted([("c", 3, 1)]))), ["forget a", "forget b"]);
        assert_eq!(short(&workers.apply(Event::Rested { name: "b".into() })), [""; 0]);
    }

    #[test]
    fn a_stop_ends_all_and_a_worker_that_rests_is_not_waited_for() {
        let mut workers = Workers::default();
        workers.apply(wanted([("a", 1, 1), ("b", 2, 1)]));
        workers.apply(crashed("a"));
        assert_eq!(short(&workers.apply(Event::Stop)), ["stop b", "forget a"]);
        assert_eq!(short(&workers.apply(Event::Rested { name: "a".into() })), [""; 0]);
        assert_eq!(short(&workers.apply(wanted([("c", 3, 1)]))), [""; 0]);
        assert_eq!(short(&workers.apply(stopped("b"))), ["forget b"]);
        assert!(workers.are_over());
    }

    proptest! {
        #[test]
        fn two_workers_with_one_token_never_run_at_once(
            steps in prop::collection::vec((0_u8..4, 0_u8..4, prop::collection::vec((0_u8..4, 0_u8..4), 0..4)), 1..60),
        ) {
            let mut workers = Workers::default();
            let mut running: BTreeMap<String, String> = BTreeMap::new();
            for (kind, who, set) in steps {
                let name = format!("n{who}");
                let is_up = running.contains_key(&name);
                let event = match kind {
                    0 if is_up => crashed(&name),
                    1 if is_up => stopped(&name),
                    2 => Event::Rested { name: name.clone() },
                    _ => {
                        let mut tokens = BTreeSet::new();
                        let set = set.into_iter().filter(|(_, token)| tokens.insert(*token));
                        Event::Wanted(set.map(|(n, token)| (format!("n{n}"), config(token, 1))).collect())
                    }
                };
                if kind < 2 && is_up {
                    running.remove(&name);
                }
                for action in workers.apply(event) {
                    let Action::Start { name, config } = action else { continue };
                    let token = config.token.worker_id.clone();
                    prop_assert!(!running.values().any(|other| *other == token), "{} runs twice", token);
                    prop_assert!(running.insert(name, token).is_none());
                }
            }
        }
    }
}
