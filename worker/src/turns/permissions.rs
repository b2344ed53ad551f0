//! What becomes of the permission questions of one turn. Question in, actions out; no async, no clock, no I/O.
//!
//! A question holds up its turn until somebody answers it, and it may be learned of twice: from an event, and from
//! the list that is read when events may have been lost. So every question is answered once at least, by the policy
//! or by a person, and a person is asked once at most.

pub(crate) mod shown;

use std::{collections::VecDeque, fmt, time::Duration};

use super::failure::Failure;
use crate::{
    config::{OpencodeSettings, PermissionPolicy},
    opencode::{PermissionAsked, PermissionReply},
};

/// Questions of one turn that people are asked at once, as the backend allows; more are refused.
const MAX_OPEN: usize = 16;
/// Answers of one turn that are remembered, in case one got lost on its way.
const MAX_ANSWERED: usize = 64;
/// The longest description of a question that a person reads (characters).
const MAX_SHOWN: usize = 200;

/// What is to be done about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermissionAction {
    /// Answer it.
    Reply {
        /// Names the question.
        id: String,
        /// The answer.
        reply: PermissionReply,
    },
    /// Show it to the person who owns the session.
    Relay(PermissionAsked),
    /// Show it no more.
    Withdraw {
        /// Names the question.
        id: String,
    },
}

/// Why nobody is asked a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAsked {
    /// The backend does not take it.
    Unreachable,
    /// It cannot be shown whole, so it is not shown at all.
    TooLarge,
    /// OpenCode does not say what would happen.
    Unknown,
}

impl fmt::Display for NotAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "nobody could be asked",
            Self::TooLarge => "it is too long to be shown whole to anybody",
            Self::Unknown => "it could not be found out what would happen",
        })
    }
}

/// The questions of one turn.
#[derive(Debug)]
pub(crate) struct Questions {
    policy: PermissionPolicy,
    timeout: Duration,
    /// Those that a person has been asked, at most [`MAX_OPEN`].
    open: Vec<Open>,
    /// The last answers, at most [`MAX_ANSWERED`].
    answered: VecDeque<(String, PermissionReply)>,
    /// The last refusal: why the turn may have stopped.
    refused: Option<String>,
}

#[derive(Debug)]
struct Open {
    id: String,
    shown: String,
    until: Duration,
}

impl Questions {
    /// No questions yet.
    pub(crate) fn new(settings: &OpencodeSettings) -> Self {
        Self {
            policy: settings.permissions,
            timeout: settings.permission_timeout,
            open: Vec::new(),
            answered: VecDeque::new(),
            refused: None,
        }
    }

    /// Somebody is being asked.
    pub(crate) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Until when the next answer is waited for.
    pub(crate) fn until(&self) -> Option<Duration> {
        self.open.iter().map(|question| question.until).min()
    }

    /// A tool asks, or is seen to be still asking.
    pub(crate) fn asked(&mut self, asked: PermissionAsked, now: Duration) -> Option<PermissionAction> {
        if let Some((id, reply)) = self.answered.iter().find(|(id, _)| *id == asked.id) {
            return Some(PermissionAction::Reply { id: id.clone(), reply: *reply });
        }
        if self.open.iter().any(|question| question.id == asked.id) {
            return None;
        }
        let shown = describe(&asked);
        match self.policy {
            PermissionPolicy::Allow => Some(self.answer(asked.id, PermissionReply::Once)),
            PermissionPolicy::Deny => Some(self.refuse(asked.id, &shown, "this worker does not allow that")),
            PermissionPolicy::Relay if self.open.len() >= MAX_OPEN => {
                Some(self.refuse(asked.id, &shown, "too many such questions were open"))
            }
            PermissionPolicy::Relay => {
                self.open.push(Open { id: asked.id.clone(), shown, until: now + self.timeout });
                Some(PermissionAction::Relay(asked))
            }
        }
    }

    /// Refuses what a tool asks, whatever the policy says: the turn is being stopped.
    pub(crate) fn refuse_late(&mut self, asked: PermissionAsked) -> PermissionAction {
        self.answer(asked.id, PermissionReply::Reject)
    }

    /// A person has answered.
    pub(crate) fn decided(&mut self, id: &str, allow: bool) -> Vec<PermissionAction> {
        let Some(open) = self.close(id) else { return Vec::new() };
        let reply = if allow {
            self.answer(open.id.clone(), PermissionReply::Once)
        } else {
            self.refuse(open.id.clone(), &open.shown, "that was refused")
        };
        vec![reply, PermissionAction::Withdraw { id: open.id }]
    }

    /// OpenCode has an answer, ours or somebody else's.
    pub(crate) fn replied(&mut self, id: &str) -> Option<PermissionAction> {
        self.close(id).map(|open| PermissionAction::Withdraw { id: open.id })
    }

    /// Nobody is asked.
    pub(crate) fn not_asked(&mut self, id: &str, why: NotAsked) -> Option<PermissionAction> {
        let open = self.close(id)?;
        Some(self.refuse(open.id, &open.shown, &why.to_string()))
    }

    /// Nobody's answers can be had any more.
    pub(crate) fn all_unreachable(&mut self) -> Vec<PermissionAction> {
        let open: Vec<String> = self.open.iter().map(|question| question.id.clone()).collect();
        open.iter().filter_map(|id| self.not_asked(id, NotAsked::Unreachable)).collect()
    }

    /// Time passes: what nobody has answered in time is refused.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<PermissionAction> {
        let late: Vec<String> =
            self.open.iter().filter(|question| question.until <= now).map(|q| q.id.clone()).collect();
        let why = format!("nobody answered within {} s", self.timeout.as_secs());
        let mut actions = Vec::new();
        for id in late {
            let open = self.close(&id).expect("it was open a moment ago");
            actions.push(self.refuse(id.clone(), &open.shown, &why));
            actions.push(PermissionAction::Withdraw { id });
        }
        actions
    }

    /// Returns why a turn ended early, if a refusal explains it.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.refused.as_deref().map(Failure::permission_refused)
    }

    fn close(&mut self, id: &str) -> Option<Open> {
        let place = self.open.iter().position(|question| question.id == id)?;
        Some(self.open.remove(place))
    }

    fn refuse(&mut self, id: String, shown: &str, why: &str) -> PermissionAction {
        self.refused = Some(format!("OpenCode asked to be allowed {shown}, but {why}"));
        self.answer(id, PermissionReply::Reject)
    }

    fn answer(&mut self, id: String, reply: PermissionReply) -> PermissionAction {
        if self.answered.len() == MAX_ANSWERED {
            self.answered.pop_front();
        }
        self.answered.push_back((id.clone(), reply));
        PermissionAction::Reply { id, reply }
    }
}

/// Returns what is asked for, as `bash` (`rm -r build`). Nobody decides by it.
fn describe(asked: &PermissionAsked) -> String {
    let (name, patterns) = (begin(&asked.permission), begin(&asked.patterns.join("`, `")));
    if patterns.is_empty() { format!("`{name}`") } else { format!("`{name}` (`{patterns}`)") }
}

/// The text, or its beginning and a mark.
fn begin(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;

    const NOW: Duration = Duration::from_secs(10);

    fn questions(permissions: PermissionPolicy) -> Questions {
        let permission_timeout = Duration::from_secs(60);
        Questions::new(&OpencodeSettings { permissions, permission_timeout, ..OpencodeSettings::default() })
    }

    fn asked(id: &str) -> PermissionAsked {
        let (permission, patterns) = ("bash".into(), vec!["rm -r build".into()]);
        PermissionAsked {
            id: id.into(),
            session: None,
            permission,
            patterns,
            metadata: Map::new(),
            tool: None,
        }
    }

    fn reply(id: &str, reply: PermissionReply) -> PermissionAction {
        PermissionAction::Reply { id: id.into(), reply }
    }

    fn text(questions: &Questions) -> String {
        questions.failure().map(|failure| failure.message).unwrap_or_default()
    }

    #[test]
    fn the_policy_answers_at_once() {
        let mut allow = questions(PermissionPolicy::Allow);
        assert_eq!(allow.asked(asked("per_1"), NOW), Some(reply("per_1", PermissionReply::Once)));
        assert_eq!(allow.failure(), None);
        let mut deny = questions(PermissionPolicy::Deny);
        assert_eq!(deny.asked(asked("per_1"), NOW), Some(reply("per_1", PermissionReply::Reject)));
        insta::assert_snapshot!(text(&deny), @"OpenCode asked to be allowed `bash` (`rm -r build`), but this worker does not allow that. Send the message again if it can be done otherwise.");
    }

    #[test]
    fn a_relayed_question_waits_for_its_answer_and_is_asked_once() {
        let mut relay = questions(PermissionPolicy::Relay);
        assert_eq!(relay.asked(asked("per_1"), NOW), Some(PermissionAction::Relay(asked("per_1"))));
        assert_eq!(relay.asked(asked("per_1"), NOW), None, "seen a second time, in the list");
        assert_eq!(relay.until(), Some(Duration::from_secs(70)));
        let withdraw = PermissionAction::Withdraw { id: "per_1".into() };
        assert_eq!(relay.decided("per_1", true), [reply("per_1", PermissionReply::Once), withdraw]);
        assert_eq!(relay.decided("per_1", false), [], "the answer is seen until it is withdrawn");
        let again = relay.asked(asked("per_1"), NOW);
        assert_eq!(again, Some(reply("per_1", PermissionReply::Once)), "the answer got lost on its way");
    }

    #[test]
    fn what_nobody_answers_in_time_is_refused() {
        let mut relay = questions(PermissionPolicy::Relay);
        relay.asked(asked("per_1"), NOW);
        assert_eq!(relay.expire(Duration::from_secs(69)), []);
        let refused =
            [reply("per_1", PermissionReply::Reject), PermissionAction::Withdraw { id: "per_1".into() }];
        assert_eq!(relay.expire(Duration::from_secs(70)), refused);
        insta::assert_snapshot!(text(&relay), @"OpenCode asked to be allowed `bash` (`rm -r build`), but nobody answered within 60 s. Send the message again if it can be done otherwise.");
    }

    #[test]
    fn a_question_of_which_not_all_can_be_shown_is_refused_and_the_person_is_told() {
        let mut relay = questions(PermissionPolicy::Relay);
        relay.asked(PermissionAsked { patterns: vec!["x".repeat(201)], ..asked("per_1") }, NOW);
        let refused = relay.not_asked("per_1", NotAsked::TooLarge);
        assert_eq!(refused, Some(reply("per_1", PermissionReply::Reject)));
        let expected =
            format!("`bash` (`{}…`), but it is too long to be shown whole to anybody.", "x".repeat(200));
        assert!(text(&relay).contains(&expected), "{}", text(&relay));
    }

    #[test]
    fn a_question_that_somebody_else_answered_is_shown_no_more() {
        let mut relay = questions(PermissionPolicy::Relay);
        relay.asked(asked("per_1"), NOW);
        assert_eq!(relay.replied("per_1"), Some(PermissionAction::Withdraw { id: "per_1".into() }));
        assert_eq!((relay.replied("per_1"), relay.until(), relay.failure()), (None, None, None));
    }

    proptest! {
        #[test]
        fn no_question_stays_open_beyond_its_time_and_what_is_remembered_is_bounded(
            steps in prop::collection::vec((0_u8..4, 0_u16..200), 0..300),
        ) {
            let mut relay = questions(PermissionPolicy::Relay);
            let mut now = NOW;
            for (step, number) in steps {
                now += Duration::from_secs(1);
                let id = format!("per_{number}");
                match step {
                    0 => drop(relay.decided(&id, number % 2 == 0)),
                    1 => drop(relay.replied(&id)),
                    _ => drop(relay.asked(asked(&id), now)),
                }
                relay.expire(now);
                prop_assert!(relay.until().is_none_or(|until| until > now));
                prop_assert!(relay.open.len() <= MAX_OPEN && relay.answered.len() <= MAX_ANSWERED);
            }
        }
    }
}
