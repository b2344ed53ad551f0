//! Sessions that are found, renamed or deleted in OpenCode.

use super::*;

fn plan(new: &[(&str, &str)], renamed: &[(&str, &str)], deleted: &[&str]) -> [(&'static str, Value); 3] {
    let named = |sessions: &[(&str, &str)]| {
        let one = |(id, title): &(&str, &str)| {
            object([("opencodeSessionId", Value::from(*id)), ("title", Value::from(*title))])
        };
        Value::Array(sessions.iter().map(one).collect())
    };
    let deleted = Value::Array(deleted.iter().map(|id| Value::from(*id)).collect());
    [("newSessions", named(new)), ("nameUpdates", named(renamed)), ("deletions", deleted)]
}

/// `created`, `renamed` and `deleted` of what a plan came to.
fn counts(result: &Value) -> [Value; 3] {
    ["created", "renamed", "deleted"].map(|name| field(result, name))
}

#[test]
fn a_session_found_in_opencode_becomes_one_chat_however_often_it_is_found() {
    check(async |world| {
        let found = || world.worker("sync:applyPlan", plan(&[("ses_1", "one"), ("ses_2", "two")], &[], &[]));
        assert_eq!(counts(&found().await.unwrap()), [2.0.into(), 0.0.into(), 0.0.into()]);
        assert_eq!(counts(&found().await.unwrap()), [0.0.into(), 0.0.into(), 0.0.into()]);
        let fields = [("opencodeSessionId", "ses_1".into()), ("title", "one".into())];
        let chat = world.worker("sync:createSyncedSession", fields).await.unwrap();
        let chats = world.convex.table("sessions");
        assert_eq!((chats.len(), field(&chats[1], "_id")), (3, chat));
        let again = world.worker("sync:applyPlan", plan(&[("ses_1", "uno")], &[("ses_2", "due")], &[])).await;
        assert_eq!(counts(&again.unwrap()), [0.0.into(), 2.0.into(), 0.0.into()]);
    });
}

#[test]
fn a_chat_outlives_its_opencode_session_and_gets_a_new_one() {
    check(async |world| {
        let link = |id: &str| [("session", world.session.clone()), ("opencodeSessionId", Value::from(id))];
        world.worker("chat:sessionReady", link("ses_1")).await.unwrap();
        let delete =
            || world.worker("sync:markSessionDeletedInOpencode", [("opencodeSessionId", "ses_1".into())]);
        assert_eq!(delete().await.unwrap(), true.into());
        assert_eq!(delete().await.unwrap(), false.into());
        let chat = || world.convex.table("sessions").remove(0);
        assert_eq!(
            (field(&chat(), "deletedInOpencode"), field(&chat(), "state")),
            (true.into(), "active".into())
        );
        world.worker("chat:sessionReady", link("ses_2")).await.unwrap();
        let Value::Object(chat) = chat() else { panic!() };
        assert_eq!(chat.get("opencodeSessionId"), Some(&"ses_2".into()));
        assert_eq!(chat.get("deletedInOpencode"), None);
    });
}

#[test]
fn one_opencode_session_never_belongs_to_two_chats() {
    check(async |world| {
        world.worker("sync:applyPlan", plan(&[("ses_1", "found first")], &[], &[])).await.unwrap();
        let link = [("session", world.session.clone()), ("opencodeSessionId", "ses_1".into())];
        world.worker("chat:sessionReady", link).await.unwrap();
        let links = world.convex.table("sessions");
        let links: Vec<_> = links
            .iter()
            .map(|chat| match chat {
                Value::Object(fields) => fields.get("opencodeSessionId").cloned(),
                _ => None,
            })
            .collect();
        assert_eq!(links, [Some("ses_1".into()), None]);
    });
}

#[test]
fn a_batch_that_is_too_large_is_refused_and_the_moment_of_the_sync_never_goes_back() {
    check(async |world| {
        let ids: Vec<_> = (0..101).map(|n| format!("ses_{n}")).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let refused = world.worker("sync:applyPlan", plan(&[], &[], &ids)).await;
        assert_eq!(code(refused), "too_many".into());
        for moment in [5.0, 9.0, 7.0] {
            world.worker("sync:updateLastSyncTimestamp", [("timestamp", moment.into())]).await.unwrap();
        }
        assert_eq!(field(&world.convex.table("syncStates")[0], "syncedUntil"), 9.0.into());
    });
}
