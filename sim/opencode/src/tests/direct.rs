//! Lists with pages, and people who use OpenCode without the worker.

use std::time::Duration;

use serde_json::json;

use super::{
    super::{Place, Way},
    world::run,
};

#[test]
fn pages_are_strictly_older_than_their_cursor_and_name_the_next_one() {
    run(async |world| {
        for (title, at) in [("a", 10), ("b", 30), ("c", 20), ("d", 30)] {
            world.machine.seed_session(title, at, Place::Here);
        }
        let titles = |body: serde_json::Value| {
            let all = body.as_array().unwrap().iter().map(|s| s["title"].as_str().unwrap().to_owned());
            all.collect::<Vec<_>>()
        };
        let first = world.call("GET", "/experimental/session?limit=3", None).await;
        assert_eq!(first.headers["x-next-cursor"], "20");
        assert_eq!(first.body()[0]["project"]["worktree"], "/project");
        let rest = world.call("GET", "/experimental/session?limit=3&cursor=20", None).await;
        assert_eq!((titles(rest.body()), rest.headers.get("x-next-cursor")), (vec!["a".to_owned()], None));
        let since = world.get("/experimental/session?start=20&cursor=30&roots=true&archived=true").await;
        assert_eq!(titles(since), ["c"]);
    });
}

#[test]
fn archived_sessions_are_listed_page_by_page_only_on_request() {
    run(async |world| {
        let session = world.create("old").await;
        let path = format!("/session/{session}");
        world.call("PATCH", &path, Some(&json!({ "time": { "archived": 5 } }))).await;
        assert_eq!(world.get("/experimental/session").await, json!([]));
        assert_eq!(world.get("/experimental/session?archived=true").await[0]["id"], session);
    });
}

#[test]
fn what_is_done_through_the_server_is_published_as_recorded_and_what_another_process_does_is_not() {
    run(async |world| {
        let events = world.listen("/event").await;
        let session = world.machine.create_directly("one", Place::Here, Way::Server);
        world.machine.rename_directly(&session, "two", Way::Server);
        world.machine.rename_directly(&session, "three", Way::OtherProcess);
        world.machine.delete_directly(&session, Way::Server);
        world.machine.delete_directly(&session, Way::Server);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let told = |event: &serde_json::Value| {
            let info = &event["properties"]["info"];
            assert_eq!(event["properties"]["sessionID"], info["id"]);
            format!("{} {}", event["type"].as_str().unwrap(), info["title"].as_str().unwrap())
        };
        let told: Vec<_> = events.borrow().iter().skip(1).map(told).collect();
        assert_eq!(told, ["session.created one", "session.updated two", "session.deleted three"]);
        assert_eq!(world.heard("SessionStands").len(), 3);
        assert_eq!(world.heard("SessionDeleted").len(), 1);
    });
}

#[test]
fn a_session_of_another_directory_is_shown_to_all_and_published_to_nobody_here() {
    run(async |world| {
        let events = world.listen("/event").await;
        let session = world.machine.create_directly("theirs", Place::Elsewhere, Way::Server);
        let seeded = world.machine.seed_session("theirs too", 5, Place::Elsewhere);
        let listed = async |query: &str| {
            let body = world.get(&format!("/experimental/session{query}")).await;
            body.as_array().unwrap().iter().map(|row| row["id"].clone()).collect::<Vec<_>>()
        };
        let both = [json!(session), json!(seeded)];
        assert_eq!(listed("").await, both);
        assert_eq!(listed("?directory=%2Fproject-2").await, both);
        assert!(listed("?directory=%2Fproject").await.is_empty());
        assert_eq!(world.get("/session").await, json!([]));
        assert_eq!(world.get(&format!("/session/{session}")).await["directory"], "/project-2");
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(events.borrow().len(), 1, "the greeting alone");
        assert_eq!((world.heard("SessionStands").len(), world.heard("ForeignSessionStands").len()), (0, 2));
    });
}
