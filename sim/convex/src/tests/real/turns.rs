//! Turns: from a message to its end, however it comes.

use super::*;

#[test]
fn a_turn_goes_from_pending_to_completed() {
    check(async |world| {
        let turn = world.turn().await;
        world.worker("chat:writeChunk", chunk(&turn, 0.0, "hi ")).await.unwrap();
        let done = world.worker("chat:completeMessage", chunk(&turn, 1.0, "there")).await.unwrap();
        assert_eq!(field(&done, "status"), "completed".into());
        let turns = world.convex.table("turns");
        assert_eq!((field(&turns[0], "state"), field(&turns[0], "chunks")), ("completed".into(), 2.0.into()));
        assert!(world.convex.table("readySessions").is_empty());
        insta::assert_snapshot!(world.log.borrow().join("\n"), @r"
        mutation workers:createMachine Ok 2/3 x1
        mutation workers:openEnrolment Ok 2/1 x1
        mutation workers:register Ok 3/2 x1
        mutation workers:approve Ok 2/1 x1
        mutation chat:startSession Ok 3/2 x1
        mutation chat:sendMessage Ok 6/6 x1
        mutation chat:claim Ok 9/3 x1
        mutation chat:writeChunk Ok 2/1 x1
        mutation chat:completeMessage Ok 5/2 x1
        ");
    });
}

#[test]
fn an_expired_turn_says_what_became_of_it() {
    check(async |world| {
        let check = |n: usize, expected: &str| {
            let message = field(&field(&world.convex.table("turns")[n], "error"), "message");
            assert_eq!(message, format!("{expected} Send it again if you still need an answer.").into());
        };
        let expire = async |epoch: f64| {
            let who = who(&world.machine, Some(epoch));
            let args = [("who", who), ("limit", 9.0.into()), ("running", Value::Array(vec![]))];
            world.call("chat:expireStale", object(args), None).await.unwrap();
        };
        world.turn().await;
        expire(1.0).await;
        world.turn().await;
        world.send().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.register().await;
        expire(2.0).await;
        check(0, "The worker could not store its answer to this message.");
        check(1, "The worker was started anew while it was answering this message.");
        check(2, "The worker was started anew while this message was waiting.");
    });
}

#[test]
fn a_turn_of_a_session_that_was_ended_is_never_claimed() {
    check(async |world| {
        for _ in 0..3 {
            world.send().await;
        }
        let page = world.person("chat:endSession", object([("session", world.session.clone())])).await;
        assert_eq!(field(&page, "isDone"), false.into());
        // Before the pages that fail them have come.
        for left in (0..3).rev() {
            let head = field(&world.convex.table("readySessions")[0], "turn");
            let claimed = world.worker("chat:claim", [("turn", head)]).await.unwrap();
            assert_eq!(field(&claimed, "status"), "gone".into());
            let pending = |turn: &&Value| field(turn, "state") == "pending".into();
            assert_eq!(world.convex.table("turns").iter().filter(pending).count(), left);
        }
        assert!(world.convex.table("readySessions").is_empty());
    });
}

#[test]
fn what_is_claimed_but_does_not_run_is_expired_and_what_runs_is_not() {
    check(async |world| {
        let turn = world.turn().await;
        let running = |turns: Vec<Value>| [("limit", 1.0.into()), ("running", Value::Array(turns))];
        world.worker("chat:expireStale", running(vec![turn.clone()])).await.unwrap();
        let state = || field(&world.convex.table("turns")[0], "state");
        assert_eq!(state(), "claimed".into());
        world.worker("chat:expireStale", running(vec![])).await.unwrap();
        assert_eq!(state(), "expired".into());
    });
}

#[test]
fn the_largest_page_of_stale_turns_stays_within_the_limits_of_a_transaction() {
    check(async |world| {
        world.hurry().await;
        for _ in 0..1_000 {
            world.send().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.register().await;
        let all = object([
            ("who", who(&world.machine, Some(2.0))),
            ("limit", 1_000.0.into()),
            ("running", Value::Array(vec![])),
        ]);
        let page = world.call("chat:expireStale", all, None).await.unwrap();
        assert_eq!(field(&page, "isDone"), false.into());
    });
}

/// Messages as long as they may be, of which thirty are more than one transaction may read.
async fn send_longest(world: &World) {
    for _ in 0..30 {
        let args = object([("session", world.session.clone()), ("content", "漢".repeat(200_000).into())]);
        world.person("chat:sendMessage", args).await;
    }
}

fn count_in(world: &World, state: &str) -> usize {
    world.convex.table("turns").iter().filter(|turn| field(turn, "state") == state.into()).count()
}

#[test]
fn a_backlog_of_the_longest_messages_expires_in_pages_that_fit_into_a_transaction() {
    check(async |world| {
        send_longest(&world).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.register().await;
        for _ in 0..30 {
            let who = who(&world.machine, Some(2.0));
            let args = [("who", who), ("limit", 500.0.into()), ("running", Value::Array(vec![]))];
            let page = world.call("chat:expireStale", object(args), None).await.unwrap();
            if field(&page, "isDone") == true.into() {
                break;
            }
        }
        assert_eq!(count_in(&world, "expired"), 30);
    });
}

#[test]
fn a_session_with_any_backlog_is_ended_by_one_call_and_its_running_turn_stopped() {
    check(async |world| {
        let longest = "漢".repeat(200_000);
        world.say(&longest).await.unwrap();
        let running = field(&world.convex.table("turns")[0], "_id");
        world.worker("chat:claim", [("turn", running.clone())]).await.unwrap();
        for n in 0..110 {
            world.say(if n < 30 { &longest } else { "hello" }).await.unwrap();
        }
        let end = || world.person("chat:endSession", object([("session", world.session.clone())]));
        assert_eq!(field(&end().await, "isDone"), false.into());
        let stopped = world.convex.table("cancellations");
        assert_eq!(field(&stopped[0], "turn"), running);
        run_scheduler(&world.convex);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((count_in(&world, "failed"), count_in(&world, "claimed")), (110, 1));
        assert_eq!(field(&end().await, "isDone"), true.into());
        // Only the sessions' and the turns' own small rows were read: no page needed more than one look at the queue.
        let log = world.log.borrow();
        let pages: Vec<_> = log.iter().filter(|call| call.contains("cleanup:failEnded")).collect();
        assert_eq!(pages.len(), 3, "{pages:?}");
    });
}

#[test]
fn the_longest_messages_fit_a_page_of_people_and_a_claim() {
    check(async |world| {
        let longest = "漢".repeat(200_000);
        for _ in 0..30 {
            world.say(&longest).await.unwrap();
        }
        let options = object([("numItems", 100.0.into()), ("cursor", Value::Null)]);
        let args = object([("session", world.session.clone()), ("paginationOpts", options)]);
        let page = world.query("chat:listTurns", args).await.unwrap();
        let turns = array(field(&page, "page"));
        assert_eq!((turns.len(), field(&page, "isDone")), (20, false.into()));
        assert!(turns.iter().all(|turn| field(turn, "content") == longest.clone().into()));
        let head = field(&world.convex.table("turns")[0], "_id");
        let claimed = world.worker("chat:claim", [("turn", head.clone())]).await.unwrap();
        assert_eq!(field(&claimed, "content"), longest.clone().into());
        let message = world.query("chat:readMessage", object([("turn", head.clone())])).await;
        assert_eq!(message.unwrap(), longest.into());
        let eve = Some(Identity::new("https://issuer", "eve"));
        let args = object([("turn", head)]);
        let foreign = world.convex.call(Kind::Query, "chat:readMessage", args, eve, "test").await;
        assert_eq!(code(foreign), "not_found".into());
    });
}

#[test]
fn a_backlog_of_the_longest_messages_for_a_worker_that_never_comes_expires() {
    check(async |world| {
        run_scheduler(&world.convex);
        send_longest(&world).await;
        tokio::time::sleep(Duration::from_secs(16 * 60)).await;
        assert_eq!(count_in(&world, "expired"), 30);
    });
}
