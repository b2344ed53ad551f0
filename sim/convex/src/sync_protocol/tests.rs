//! The state machine against the official client's, without a network.

use std::time::Duration;

use ::convex::base_client::FunctionResult;
use convex_sync_types::{QuerySetModification, SessionId};

use self::link::{Link, Todo, said, short};
use super::*;
use crate::tests::{deploy, fixture::*, simulate};

mod link;
mod properties;

/// The usual order of messages, always.
const USUAL: SyncOptions = SyncOptions { stale_transition: 0.0, early_transition: 0.0 };

fn check<F: Future<Output = ()>>(sync: SyncOptions, test: impl FnOnce(Link) -> F) {
    simulate(|| async {
        let (convex, _) = deploy(FIXTURE, Duration::ZERO, sync);
        test(Link::new(convex, sync).await).await;
    });
}

/// What a client is sent that watches a query and then writes what it shows.
fn messages(sync: SyncOptions) -> String {
    let mut log = String::new();
    check(sync, |mut link| {
        let log = &mut log;
        async move {
            link.subscribe("items:count");
            link.settle().await;
            let answer = link.add("a");
            link.settle().await;
            assert!(matches!(answer.await, Ok(FunctionResult::Value(_))));
            *log = link.take_log();
        }
    });
    log
}

#[test]
fn a_mutation_is_answered_and_then_followed_by_the_transition_that_shows_it() {
    insta::assert_snapshot!(messages(USUAL), @r"
    Transition 0→1 later ts 0=Float64(0.0)
    MutationResponse 0 ok
    Transition 1→1 later ts 0=Float64(1.0)
    ");
}

#[test]
fn the_transition_may_come_before_the_response() {
    insta::assert_snapshot!(messages(SyncOptions { early_transition: 1.0, ..USUAL }), @r"
    Transition 0→1 later ts 0=Float64(0.0)
    Transition 1→1 later ts 0=Float64(1.0)
    MutationResponse 0 ok
    Transition 1→1 same ts
    ");
}

#[test]
fn a_stale_transition_may_follow_the_response() {
    insta::assert_snapshot!(messages(SyncOptions { stale_transition: 1.0, ..USUAL }), @r"
    Transition 0→1 later ts 0=Float64(0.0)
    MutationResponse 0 ok
    Transition 1→1 same ts 
    Transition 1→1 later ts 0=Float64(1.0)
    ");
}

#[test]
fn an_action_waits_for_no_mutation_and_is_followed_by_a_transition() {
    check(USUAL, |mut link| async move {
        link.subscribe("items:count");
        link.settle().await;
        link.take_log();
        let mutation = link.add("a");
        let action = link.act("actions:clock");
        while link.send_one() {}
        link.todo.rotate_left(1);
        assert!(matches!(link.todo.front(), Some(Todo::Act(_))), "both are to be done at the same time");
        link.settle().await;
        assert!(matches!(action.await, Ok(FunctionResult::Value(_))));
        assert!(matches!(mutation.await, Ok(FunctionResult::Value(_))));
        insta::assert_snapshot!(link.take_log(), @r"
        ActionResponse 1 ok
        MutationResponse 0 ok
        Transition 1→1 same ts 
        Transition 1→1 later ts 0=Float64(1.0)
        ");
    });
}

#[test]
fn too_many_actions_close_the_socket() {
    check(USUAL, |mut link| async move {
        for _ in 0..limits::RUNNING_ACTIONS {
            drop(link.act("actions:clock"));
            link.send_one();
        }
        assert_eq!(link.closed, None);
        drop(link.act("actions:clock"));
        link.send_one();
        assert_eq!(link.closed, Some(Some((1013, "TooManyInflightActionsForSingleClient"))));
    });
}

#[test]
fn a_query_that_ran_again_with_the_same_result_is_left_out() {
    check(USUAL, |mut link| async move {
        link.subscribe("items:count");
        drop(link.add("a"));
        link.settle().await;
        link.take_log();
        link.ran.clear();
        link.client.mutation("items:nameAll".parse().unwrap(), BTreeMap::new());
        link.settle().await;
        assert_eq!(link.ran, [0], "it read what was written");
        insta::assert_snapshot!(link.take_log(), @r"
        MutationResponse 1 ok
        Transition 1→1 later ts 
        ");
    });
}

#[test]
fn a_query_that_fails_and_one_that_is_removed_are_named() {
    check(USUAL, |mut link| async move {
        link.subscribe("items:count");
        let tags = link.subscribe("items:missing");
        let names = link.subscribe("items:names");
        link.settle().await;
        link.client.unsubscribe(names);
        link.settle().await;
        link.client.mutation("items:refuse".parse().unwrap(), BTreeMap::new());
        link.settle().await;
        link.client.unsubscribe(tags);
        link.settle().await;
        insta::assert_snapshot!(link.take_log(), @r"
        Transition 0→1 later ts 0=Float64(0.0)
        Transition 1→3 same ts 1 failed 2=Array([])
        Transition 3→4 same ts 2 removed
        MutationResponse 0 failed
        Transition 4→4 same ts 
        Transition 4→5 same ts 1 removed
        ");
    });
}

#[test]
fn a_resent_mutation_is_answered_from_the_record_with_its_first_timestamp() {
    check(USUAL, |mut link| async move {
        let answer = link.add("a");
        assert!(link.send_one() && link.work_one().await, "the mutation is committed");
        let ts_of = |link: &Link| match link.to_client.front() {
            Some(ServerMessage::MutationResponse { ts: Some(ts), result: Ok(id), .. }) => (*ts, id.clone()),
            other => panic!("no response: {other:?}"),
        };
        let first = ts_of(&link);
        tokio::time::sleep(Duration::from_secs(60)).await;
        link.convex.seed(|seeder| seeder.insert("items", item("other", 0.0, None), 1.0)).unwrap();
        link.connect(USUAL).await;
        while link
            .to_client
            .front()
            .is_none_or(|message| !matches!(message, ServerMessage::MutationResponse { .. }))
        {
            link.to_client.pop_front();
            assert!(link.send_one() || link.work_one().await);
        }
        assert_eq!(ts_of(&link), first);
        assert_eq!(link.convex.table("items").len(), 2);
        drop(answer);
    });
}

#[test]
fn protocol_errors_close_as_the_table_says() {
    let closed = |event: fn(&Link) -> Event| {
        let mut seen = (Vec::new(), None);
        check(USUAL, |mut link| {
            let seen = &mut seen;
            async move {
                link.subscribe("items:count");
                link.settle().await;
                link.take_log();
                let event = event(&link);
                link.event(event);
                *seen = (link.to_client.iter().map(short).collect(), link.closed);
            }
        });
        format!("{} {:?}", seen.0.join(" "), seen.1)
    };
    insta::assert_snapshot!(closed(|_| said(ClientMessage::ModifyQuerySet { base_version: 5, new_version: 6, modifications: vec![] })), @r#"{"type":"FatalError","error":"Base version 5 passed up doesn't match the current version 1"} Some(None)"#);
    insta::assert_snapshot!(closed(|_| said(ClientMessage::ModifyQuerySet { base_version: 1, new_version: 1, modifications: vec![] })), @r#" Some(Some((1011, "InternalServerError")))"#);
    insta::assert_snapshot!(closed(|_| said(ClientMessage::ModifyQuerySet { base_version: 1, new_version: 2, modifications: vec![QuerySetModification::Remove { query_id: QueryId::new(9) }] })), @r#" Some(Some((1011, "InternalServerError")))"#);
    insta::assert_snapshot!(closed(|_| Event::Garbage("expected value".into())), @r#"{"type":"FatalError","error":"Received Invalid JSON on websocket: expected value"} Some(None)"#);
    insta::assert_snapshot!(closed(|_| Event::Binary), @r#" Some(Some((1011, "InternalServerError")))"#);
    insta::assert_snapshot!(closed(|_| said(ClientMessage::Authenticate { base_version: 0, token: AuthenticationToken::User("jwt".into()) })), @r#"{"type":"AuthError","error":"Could not parse as JWT: a token has three parts separated by dots","baseVersion":0,"authUpdateAttempted":true} Some(None)"#);
    insta::assert_snapshot!(closed(|_| Event::IdentityExpired), @r#"{"type":"AuthError","error":"Token expired","baseVersion":0,"authUpdateAttempted":false} Some(None)"#);
    insta::assert_snapshot!(closed(|link| {
        let ahead = Some(Timestamp::try_from(link.convex.present().last_ts + 1).unwrap());
        let session_id = SessionId::new(Uuid::nil());
        said(ClientMessage::Connect { session_id, connection_count: 0, last_close_reason: String::new(), max_observed_timestamp: ahead, client_ts: None })
    }), @r#" Some(Some((1011, "InternalServerError")))"#);
}

#[test]
fn a_conflict_at_every_attempt_closes_the_whole_socket() {
    check(USUAL, |mut link| async move {
        drop(link.add("a"));
        assert!(link.send_one());
        link.event(Event::MutationDone(Err(MutationError::Conflict)));
        assert_eq!(link.closed, Some(Some((1013, "OptimisticConcurrencyControlFailure"))));
    });
}

#[test]
fn too_many_waiting_mutations_close_the_socket() {
    check(USUAL, |mut link| async move {
        for _ in 0..=limits::QUEUED_MUTATIONS {
            drop(link.add("a"));
            link.send_one();
        }
        assert_eq!(link.closed, None, "one runs, the queue is full");
        drop(link.add("a"));
        link.send_one();
        assert_eq!(link.closed, Some(Some((1013, "TooManyConcurrentMutations"))));
    });
}
