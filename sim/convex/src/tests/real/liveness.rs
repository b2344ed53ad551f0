//! Who looks after workers that went away, what that costs, and that none of it reaches anybody else.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn states(worlds: &[World]) -> Vec<Value> {
    worlds[0].convex.table("turns").iter().map(|turn| field(turn, "state")).collect()
}

fn status(world: &World) -> Value {
    let id = world.worker_id();
    let is_it = |worker: &Value| field(worker, "_id") == id;
    world.convex.table("workers").iter().find(|worker| is_it(worker)).map(|it| field(it, "status")).unwrap()
}

async fn beat(world: &World, interval: Duration) {
    let interval = Value::from(interval.as_millis() as f64);
    world.worker("workers:heartbeat", [("intervalMs", interval)]).await.unwrap();
}

/// Beats at an interval, for so long.
async fn live(world: &World, interval: Duration, span: Duration) {
    let end = tokio::time::Instant::now() + span;
    while tokio::time::Instant::now() < end {
        beat(world, interval).await;
        tokio::time::sleep(interval).await;
    }
}

/// How many checks are to come.
fn pending_checks(convex: &Convex) -> usize {
    let jobs = convex.table("_scheduled_functions");
    let is_pending = |job: &&Value| {
        field(job, "name") == "cleanup:check".into()
            && field(&field(job, "state"), "kind") == "pending".into()
    };
    jobs.iter().filter(is_pending).count()
}

#[test]
fn what_one_person_leaves_behind_keeps_nobody_elses_turns_waiting() {
    check_many(2, async |worlds| {
        let [hostile, victim] = &worlds[..] else { unreachable!() };
        run_scheduler(&hostile.convex);
        let worker = hostile.worker_id();
        let longest = "漢".repeat(200_000);
        // Each end of a short turn makes a long one the head of its session.
        for _ in 0..40 {
            let session = hostile.person("chat:startSession", object([("worker", worker.clone())])).await;
            for content in ["short", longest.as_str()] {
                let args = object([("session", session.clone()), ("content", content.into())]);
                let turn = hostile.person("chat:sendMessage", args).await;
                if content == "short" {
                    hostile.worker("chat:claim", [("turn", turn)]).await.unwrap();
                }
            }
        }
        hostile.worker("workers:markConnected", []).await.unwrap();
        victim.worker("workers:markConnected", []).await.unwrap();
        victim.turn().await;
        victim.send().await;
        tokio::time::sleep(MINUTE * 11).await;
        assert!(states(&worlds).iter().all(|state| *state == "expired".into()));
        assert!(hostile.log.borrow().iter().all(|call| call.contains(" Ok ")), "a transaction did not fit");
    });
}

#[test]
fn a_transaction_that_does_not_fit_stops_one_worker_alone_and_is_tried_again() {
    check_many(2, async |worlds| {
        let [old, victim] = &worlds[..] else { unreachable!() };
        run_scheduler(&old.convex);
        // Messages that an older version left in their turns: what ends the first reads all the others.
        let longest = Value::from("漢".repeat(200_000));
        let worker = old.worker_id();
        for _ in 0..40 {
            let session = old.person("chat:startSession", object([("worker", worker.clone())])).await;
            let args = object([("session", session.clone()), ("content", "short".into())]);
            let turn = old.person("chat:sendMessage", args).await;
            old.worker("chat:claim", [("turn", turn)]).await.unwrap();
            let fields = [("session", session), ("worker", worker.clone()), ("content", longest.clone())];
            let Value::Object(mut fields) = object(fields) else { unreachable!() };
            fields.insert("state".into(), "pending".into());
            old.convex.seed(|seeder| seeder.insert("turns", fields, START as f64 / 1e6).unwrap());
        }
        for world in &worlds {
            world.worker("workers:markConnected", []).await.unwrap();
        }
        victim.turn().await;
        tokio::time::sleep(MINUTE * 32).await;
        let failures = || {
            let log = old.log.borrow();
            log.iter().filter(|call| call.starts_with("mutation cleanup:expireAbandoned Error")).count()
        };
        assert!((2..=4).contains(&failures()), "tried again, now and then: {}", failures());
        let theirs = field(&old.convex.table("turns")[40 * 2], "state");
        assert_eq!((theirs, pending_checks(&old.convex)), ("expired".into(), 1));
    });
}

#[test]
fn the_turns_of_a_hundred_workers_that_went_at_once_end_in_their_time() {
    check_many(120, async |worlds| {
        run_scheduler(&worlds[0].convex);
        for world in &worlds {
            world.worker("workers:markConnected", []).await.unwrap();
            world.send().await;
        }
        tokio::time::sleep(MINUTE * 11).await;
        assert!(states(&worlds).iter().all(|state| *state == "expired".into()));
        assert!(worlds[0].convex.table("workerHeartbeats").is_empty());
        assert_eq!(pending_checks(&worlds[0].convex), 0, "nobody is there, and nothing waits");
    });
}

#[test]
fn after_an_outage_a_worker_that_comes_back_keeps_what_it_runs() {
    check_many(2, async |worlds| {
        let [back, gone] = &worlds[..] else { unreachable!() };
        for world in &worlds {
            beat(world, Duration::from_secs(5)).await;
            world.turn().await;
        }
        // Nobody runs anything for an hour; then all that is due comes at once, before the first beat. A worker that has
        // tried for long tries again after some time.
        tokio::time::sleep(MINUTE * 60).await;
        run_scheduler(&back.convex);
        tokio::time::sleep(Duration::from_secs(45)).await;
        live(back, Duration::from_secs(5), MINUTE).await;
        assert_eq!(states(&worlds), ["claimed".into(), "expired".into()]);
        assert_eq!((status(back), status(gone)), ("online".into(), "offline".into()));
        let turn = field(&back.convex.table("turns")[0], "_id");
        let done = back.worker("chat:completeMessage", chunk(&turn, 0.0, "done")).await.unwrap();
        assert_eq!(field(&done, "status"), "completed".into());
    });
}

#[test]
fn a_worker_is_lost_after_three_of_its_own_intervals() {
    for (interval, lost) in [(1, 3), (10, 30), (30, 90), (60, 180), (3_600, 180)] {
        check(async |world| {
            run_scheduler(&world.convex);
            beat(&world, Duration::from_secs(interval)).await;
            tokio::time::sleep(Duration::from_secs(lost - 1)).await;
            assert_eq!(status(&world), "online".into(), "{interval}");
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(status(&world), "offline".into(), "{interval}");
        });
    }
}

#[test]
fn a_shorter_interval_counts_at_once_and_leaves_one_check() {
    check(async |world| {
        run_scheduler(&world.convex);
        live(&world, Duration::from_secs(60), MINUTE * 5).await;
        beat(&world, Duration::from_secs(5)).await;
        assert_eq!(pending_checks(&world.convex), 1);
        tokio::time::sleep(Duration::from_secs(16)).await;
        assert_eq!(status(&world), "offline".into());
    });
}

#[test]
fn an_idle_worker_costs_two_hundred_calls_an_hour_at_most_and_no_worker_none() {
    check(async |world| {
        run_scheduler(&world.convex);
        let before = world.log.borrow().len();
        tokio::time::sleep(MINUTE * 60).await;
        assert_eq!(world.log.borrow().len(), before, "nobody is there");
        live(&world, Duration::from_secs(30), MINUTE * 60).await;
        let calls = world.log.borrow().len() - before;
        assert!((120..=200).contains(&calls), "{calls}");
    });
}

#[test]
fn nobody_looks_after_a_worker_that_left_nothing() {
    check(async |world| {
        run_scheduler(&world.convex);
        live(&world, Duration::from_secs(10), MINUTE).await;
        world.worker("workers:setOffline", []).await.unwrap();
        tokio::time::sleep(MINUTE).await;
        assert_eq!(pending_checks(&world.convex), 0);
        assert!(world.convex.table("workerHeartbeats").is_empty());
    });
}
