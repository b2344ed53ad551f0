//! The `worker` binary, the real OpenCode that it launches, and the fake Convex on loopback. A person sends messages.
//!
//! After every test nothing may be left of the worker, of OpenCode or of what its tools started.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use std::collections::BTreeSet;

use conformance::{model::reply_text, process::send_signal};

use self::world::{run, run_session, stop};

const SLOW_TOOL: &str = "slow [[tool=1 sleep=300]]";

#[test]
fn a_streamed_reply_arrives_complete_and_once() {
    run_session("", false, async |world, session| {
        world.is_answered(session, "hello [[deltas=200 pace=5]]").await;
        world.is_answered(session, "one tool [[tool=1 deltas=3]]").await;
        world.is_answered(session, "a long one [[deltas=400 bytes=500 pace=0]]").await;
        let refused = world.person.send(session, "no [[error=400]]").await.unwrap();
        assert_eq!(world.is_not_answered(session, &refused).await, "model_error");
        world.is_answered(session, "after the error").await;
    });
}

#[test]
fn after_a_kill_of_opencode_the_turn_fails_and_the_next_is_answered() {
    run_session("", false, async |world, session| {
        let text = "cut off [[deltas=40 hang=1]]";
        let turn = world.hang(session, text).await;
        send_signal(world.opencode(), "KILL").await;
        assert_eq!(world.is_not_answered(session, &turn).await, "opencode_lost");
        assert!(reply_text(text).starts_with(&world.stored(&turn).await), "what was stored is a prefix");
        world.is_answered(session, "and now?").await;
        assert_eq!(world.model.times(text), 1);
    });
}

#[test]
fn after_a_kill_of_the_worker_nothing_runs_and_the_turn_expires() {
    run("", false, async |world| {
        let mut worker = world.worker().await;
        let session = world.session("killed").await;
        let text = "cut off [[deltas=40 hang=1]]";
        let turn = world.hang(&session, text).await;
        let waiting = world.person.send(&session, "behind it").await.unwrap();
        worker.signal("KILL").await;
        assert_eq!(worker.wait().await, None);
        assert_eq!(world.place.is_left(world::END).await, Ok(()), "OpenCode outlives a killed worker");
        let worker = world.worker().await;
        assert_eq!(world.is_not_answered(&session, &turn).await, "expired");
        assert_eq!(world.is_not_answered(&session, &waiting).await, "expired");
        world.is_answered(&session, "and now?").await;
        assert_eq!((world.model.times(text), world.model.times("behind it")), (1, 0));
        stop(worker).await;
    });
}

#[test]
fn an_idle_server_is_stopped_and_started_again() {
    run_session("[opencode]\nidle_stop = '1s'\n", false, async |world, session| {
        world.is_answered(session, "first").await;
        let server = world.opencode();
        while world.place.processes().contains(&server) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        world.is_answered(session, "second").await;
        assert_ne!(world.opencode(), server);
    });
}

#[test]
fn a_permission_question_is_refused_and_hangs_nothing() {
    run_session("", true, async |world, session| {
        let turn = world.person.send(session, "may I? [[tool=1]]").await.unwrap();
        assert_eq!(world.is_not_answered(session, &turn).await, "permission_refused");
        world.is_answered(session, "then tell me").await;
    });
}

#[test]
fn a_session_that_ends_aborts_its_reply() {
    run_session("", false, async |world, session| {
        let text = "for ever [[deltas=40 hang=1]]";
        let turn = world.hang(session, text).await;
        world.person.end_session(session).await.unwrap();
        assert_eq!(world.is_not_answered(session, &turn).await, "session_ended");
        let other = world.session("a tool").await;
        let turn = world.person.send(&other, SLOW_TOOL).await.unwrap();
        world.runs("sleep 300").await;
        world.person.end_session(&other).await.unwrap();
        assert_eq!(world.is_not_answered(&other, &turn).await, "session_ended");
        world.ran("sleep 300").await;
    });
}

#[test]
fn a_tool_does_not_outlive_its_worker_or_at_least_not_the_start_of_the_next() {
    run("[lifecycle]\nstop_grace = '100ms'\n", false, async |world| {
        let mut killed = world.worker().await;
        let session = world.session("a tool").await;
        let turn = world.person.send(&session, SLOW_TOOL).await.unwrap();
        world.runs("sleep 300").await;
        killed.signal("KILL").await;
        killed.wait().await;
        let worker = world.worker().await;
        world.ran("sleep 300").await;
        assert_eq!(world.is_not_answered(&session, &turn).await, "expired");
        let turn = world.person.send(&session, SLOW_TOOL).await.unwrap();
        world.runs("sleep 300").await;
        stop(worker).await;
        assert_eq!(world.is_not_answered(&session, &turn).await, "worker_stopped");
    });
}

#[test]
fn a_model_that_is_put_off_is_waited_for_and_in_the_end_given_up() {
    run_session("[turns]\nretry_timeout = '20s'\n", false, async |world, session| {
        let text = "put off [[putoff=2 after=1000]]";
        let turn = world.person.send(session, text).await.unwrap();
        assert_eq!(world.ended(session, &turn).await.state, "completed");
        assert_eq!((world.stored(&turn).await, world.model.times(text)), (reply_text(text), 3));
        let text = "for ever [[putoff=1000 after=3600000]]";
        let turn = world.person.send(session, text).await.unwrap();
        assert_eq!(world.is_not_answered(session, &turn).await, "model_unavailable");
        world.is_answered(session, "and now?").await;
    });
}

#[test]
fn a_prompt_that_is_too_long_is_answered_when_the_history_is_summed_up() {
    run_session("", false, async |world, session| {
        world.is_answered(session, "before").await;
        let text = "too long [[toolong=1 deltas=5]]";
        let turn = world.person.send(session, text).await.unwrap();
        assert_eq!(world.ended(session, &turn).await.state, "completed");
        assert_eq!((world.stored(&turn).await, world.model.times(text)), (reply_text(text), 2));
        world.is_answered(session, "after").await;
    });
}

#[test]
fn what_is_made_by_hand_becomes_a_chat_in_the_worker_s_directory_alone() {
    run("[sync]\nscrub_interval = '1s'\n", false, async |world| {
        // Its config is that of the project; a repository of its own would be another project, too.
        let other = world.place.root().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::copy(world.place.project.join("opencode.json"), other.join("opencode.json")).unwrap();
        world.by_hand(&other, "theirs before").await;
        world.by_hand(&world.place.project, "ours before").await;
        let worker = world.worker().await;
        let session = world.session("a chat").await;
        world.is_answered(&session, "hello").await;
        world.has_session("ours before").await;
        world.by_hand(&other, "theirs meanwhile").await;
        world.by_hand(&world.place.project, "ours meanwhile").await;
        world.has_session("ours meanwhile").await;
        let mut titles = world.person.titles().await.unwrap();
        titles.sort();
        assert_eq!(titles, ["a chat", "ours before", "ours meanwhile"]);
        stop(worker).await;
    });
}

#[test]
fn many_sessions_at_once_are_all_answered() {
    run("", false, async |world| {
        let worker = world.worker().await;
        let mut turns = Vec::new();
        for number in 0..24 {
            let (session, text) =
                (world.session("one of many").await, format!("message {number} [[deltas=4]]"));
            let turn = world.person.send(&session, &text).await.unwrap();
            turns.push((session, turn, text));
        }
        for (session, turn, text) in &turns {
            world.was_answered(session, turn, text).await;
        }
        let asked: BTreeSet<_> = world.model.asked().into_iter().map(|asked| asked.text).collect();
        assert_eq!(asked.len(), turns.len());
        stop(worker).await;
    });
}
