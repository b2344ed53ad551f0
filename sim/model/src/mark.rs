//! States worth reaching, by name: what a scenario may require, and a report counts.

use std::collections::BTreeMap;

use crate::Label;

/// A state worth reaching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its name in scenarios and reports: lower case, stable.
    pub id: &'static str,
    /// When it counts, in a sentence.
    pub about: &'static str,
}

/// All marks, by their names.
pub const MARKS: [Mark; 27] = [
    mark("abandoned-turn-expired", "A turn that an earlier start had claimed was expired."),
    mark("abort", "OpenCode was asked to stop a reply."),
    mark("cache-evicted", "A worker used more OpenCode sessions in one start than it may remember."),
    mark("claim-in-vain", "A worker claimed a turn that was no longer to be had."),
    mark("conflict-failed", "A mutation conflicted so often that the backend gave it up."),
    mark("conflict-retried", "A mutation conflicted with another, ran again and passed."),
    mark("create-failed", "A turn failed because its OpenCode session could not be created."),
    mark("create-throttled", "As many sessions were created within a second as may be."),
    mark("ended-in-mid-turn", "A person ended a session while a turn of it was in progress."),
    mark("idle-stop-raced", "A turn was claimed at most a second after or before an idle server stopped."),
    mark("kill-after-reply", "A worker died when a reply had ended and its turn had not."),
    mark("kill-before-prompt", "A worker died between the claim of a turn and its prompt."),
    mark("kill-in-mid-reply", "A worker died when a part of a reply was stored."),
    mark("model-error", "A reply ended with an error of the model."),
    mark(
        "mutation-replayed",
        "A mutation was sent again after it had run, and got the answer of the first time.",
    ),
    mark("places-full", "A worker ran as many turns as it may."),
    mark("reconnected", "A worker connected to the backend again in the same start."),
    mark("recovered", "A worker was ready again after a failure."),
    mark("server-crash-in-mid-reply", "An OpenCode server died under a reply, and its worker did not."),
    mark("server-error", "OpenCode answered with an HTTP status of 500 or more."),
    mark("session-recreated", "A session that OpenCode did not know any more was created and linked anew."),
    mark("session-vanished", "A prompt was refused because OpenCode did not know its session."),
    mark("stale-turn-expired", "A turn from before a start, claimed by nobody, was expired."),
    mark("stop-in-mid-turn", "A worker was asked to stop while turns were in progress."),
    mark("stream-gap-in-mid-reply", "An event stream was opened when a reply had begun without it."),
    mark("window-full", "More sessions were ready than the window shows."),
    mark("zombie-write-refused", "A write of an older epoch was refused."),
];

const fn mark(id: &'static str, about: &'static str) -> Mark {
    Mark { id, about }
}

/// The mark called `id`.
#[must_use]
pub fn find(id: &str) -> Option<&'static Mark> {
    MARKS.iter().find(|mark| mark.id == id)
}

/// The mark whose name looks most like `id`, if one does.
#[must_use]
pub fn nearest(id: &str) -> Option<&'static str> {
    let close = MARKS.iter().map(|mark| (strsim::jaro_winkler(id, mark.id), mark.id));
    close
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, id)| id)
}

/// How often each mark was reached; those that were not are in it with 0.
pub type Counts = BTreeMap<Label, u64>;

/// Which of the `required` marks a run did not reach, in the order in which they are required.
#[must_use]
pub fn unreached<'a>(required: &'a [Label], run: &Counts) -> Vec<&'a str> {
    let is_reached = |id: &str| run.get(id).is_some_and(|count| *count > 0);
    required.iter().map(|id| &**id).filter(|id| !is_reached(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_told_apart() {
        assert!(MARKS.windows(2).all(|pair| pair[0].id < pair[1].id));
        assert_eq!(nearest("model-eror"), Some("model-error"));
        assert_eq!(nearest("banana"), None);
    }

    #[test]
    fn a_mark_that_was_not_reached_is_named() {
        let counts = |count| Counts::from([("abort".into(), count)]);
        let abort: Label = "abort".into();
        assert_eq!(unreached(&[abort.clone(), "recovered".into()], &counts(2)), ["recovered"]);
        assert_eq!(unreached(std::slice::from_ref(&abort), &counts(0)), ["abort"]);
        assert_eq!(unreached(&[abort], &Counts::new()), ["abort"]);
        assert_eq!(unreached(&[], &Counts::new()), [""; 0]);
    }
}
