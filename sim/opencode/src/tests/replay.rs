//! The recorded requests, sent to the fake: status, content type and shape of each answer must be the recorded ones.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::Value;

use super::{
    shape::same_shape,
    world::{Reply200, World, run},
};

#[derive(Deserialize)]
struct Recording {
    name: String,
    method: String,
    path: String,
    status: u16,
    sends: Option<String>,
    request: Option<Value>,
    headers: BTreeMap<String, String>,
    body: Value,
}

/// The recordings, and which of our sessions stands for which recorded one.
struct Replay {
    world: Rc<World>,
    recordings: Vec<Recording>,
    sessions: RefCell<BTreeMap<String, String>>,
}

impl Replay {
    fn new(world: Rc<World>) -> Self {
        let recordings = serde_json::from_str(include_str!("../recordings/http.json")).unwrap();
        Self { world, recordings, sessions: RefCell::default() }
    }

    fn recording(&self, name: &str) -> &Recording {
        self.recordings.iter().find(|recording| recording.name == name).expect(name)
    }

    /// The recorded path with our session in it; a recorded session that nobody created here is made now.
    async fn path(&self, recording: &Recording) -> String {
        let mut segments: Vec<_> = recording.path.split('/').map(str::to_owned).collect();
        if let Some(id) =
            segments.get_mut(2).filter(|id| id.starts_with("ses_") && !id.contains("doesnotexist"))
        {
            let known = self.sessions.borrow().get(id.as_str()).cloned();
            *id = match known {
                Some(known) => known,
                None => {
                    let ours = self.world.create("replayed").await;
                    self.sessions.borrow_mut().insert(id.clone(), ours.clone());
                    ours
                }
            };
        }
        segments.join("/")
    }

    async fn replay(&self, name: &str) -> Reply200 {
        let recording = self.recording(name);
        let path = self.path(recording).await;
        self.check(recording, self.world.send(request(recording, &path)).await)
    }

    fn check(&self, recording: &Recording, reply: Reply200) -> Reply200 {
        let name = &recording.name;
        assert_eq!(reply.status, recording.status, "{name}: {}", reply.body());
        for field in
            ["content-type", "x-next-cursor", "link", "access-control-expose-headers", "transfer-encoding"]
        {
            let ours = reply.headers.get(field).map(|value| value.to_str().unwrap());
            let recorded = recording.headers.get(field).map(String::as_str);
            assert_eq!(ours.is_some(), recorded.is_some(), "{name}: header {field}");
            assert!(field != "content-type" || ours == recorded, "{name}: {ours:?}");
        }
        same_shape(name, &reply.body(), &recording.body);
        if let (Some(recorded), Some(ours)) = (recording.body["id"].as_str(), reply.body()["id"].as_str()) {
            self.sessions.borrow_mut().insert(recorded.into(), ours.into());
        }
        reply
    }
}

fn request(recording: &Recording, path: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(recording.method.as_str()).uri(path);
    request = request.header(header::HOST, "127.0.0.1:18401");
    if let Some(kind) = &recording.sends {
        request = request.header(header::CONTENT_TYPE, kind);
    }
    let body = match &recording.request {
        Some(Value::String(raw)) => raw.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    request.body(Full::from(body)).unwrap()
}

/// Replays recordings in order.
fn check(names: &[&str]) {
    run(async |world| {
        let replay = Replay::new(world);
        for name in names {
            replay.replay(name).await;
        }
    });
}

#[test]
fn sessions_are_created_changed_and_deleted_as_recorded() {
    check(&[
        "health",
        "unknown-route-get",
        "unknown-route-post",
        "session-create-nobody",
        "session-create-empty",
        "session-create-title",
        "session-create-model",
        "session-create-model-unknown",
        "session-create-model-wrong-shape",
        "session-create-unknown-field",
        "session-create-bad-type",
        "session-create-malformed-json",
        "session-get",
        "session-get-missing",
        "session-get-badid",
        "session-rename",
        "session-archive",
        "session-rename-missing",
        "session-abort-idle",
        "session-abort-missing",
        "messages-empty",
        "messages-missing-session",
        "session-delete",
        "session-delete-missing",
        "session-status-idle",
    ]);
}

#[test]
fn prompts_are_answered_as_recorded() {
    check(&[
        "session-create-model",
        "prompt-sync",
        "messages-after-prompt",
        "session-get-after-prompt",
        "ev-session-create",
        "prompt-noreply",
        "prompt-tool",
        "prompt-llm-400",
        "prompt-no-parts",
        "prompt-bad-messageid",
        "prompt-missing-session",
        "prompt-invalid-agent",
        "prompt-invalid-model",
        "prompt-async-invalid-model",
        "prompt-async-malformed-json",
        "prompt-async-missing-session",
        "prompt-malformed-json",
        "prompt-bad-part",
        "prompt-wrong-content-type",
        "prompt-empty-parts",
    ]);
}

#[test]
fn a_prompt_in_an_untitled_session_ends_as_recorded() {
    run(async |world| {
        let replay = Replay::new(world.clone());
        replay.replay("ev-session-create").await;
        replay.replay("prompt-async").await;
        world.settle().await;
        replay.replay("session-get-after-autotitle").await;
        replay.replay("session-status-after").await;
        replay.replay("ev-session-delete").await;
    });
}

#[test]
fn an_unknown_model_sticks_to_the_session_until_a_valid_one_is_named() {
    run(async |world| {
        let replay = Replay::new(world.clone());
        let ours = world.create("poisoned").await;
        let recorded = ["ses_df8228627ffe74ureYIfRIdgY4", "ses_df8062790ffe1DrJ97rjQC6PxO"];
        replay.sessions.borrow_mut().extend(recorded.map(|id| (id.into(), ours.clone())));
        replay.replay("prompt-invalid-model").await;
        replay.replay("prompt-after-invalid-model").await;
        replay.replay("prompt-async").await;
        world.settle().await;
        assert_eq!(world.prompt(&ours, "again").await["info"]["finish"], "stop");
    });
}

#[test]
fn lists_hold_what_was_recorded() {
    run(async |world| {
        // The last three sessions of the recorded population, with their times.
        for (title, at) in
            [("list3", 1_795_430_141_496), ("list4", 1_795_430_141_500), ("list5", 1_795_430_141_515)]
        {
            world.machine.seed_session(title, at, crate::Place::Here);
        }
        let replay = Replay::new(world);
        for name in [
            "session-list-limit2",
            "session-list-limit0",
            "session-list-search",
            "session-list-start",
            "session-list-start-future",
            "session-list-dir-other",
            "session-list-path",
            "session-list-scope-bad",
        ] {
            let reply = replay.replay(name).await.body();
            let titles = |list: &Value| -> Vec<Value> {
                list.as_array().into_iter().flatten().map(|session| session["title"].clone()).collect()
            };
            assert_eq!(titles(&reply), titles(&replay.recording(name).body), "{name}");
        }
    });
}

#[test]
fn children_and_providers_have_the_recorded_shape() {
    run(async |world| {
        let replay = Replay::new(world.clone());
        let parent = world.create("parent").await;
        let child = serde_json::json!({ "title": "child", "parentID": parent });
        world.call("POST", "/session", Some(&child)).await;
        replay.sessions.borrow_mut().insert("ses_df80631d8ffeN0PGkt2woQMvma".into(), parent);
        replay.replay("session-children").await;
        let recording = replay.recording("config-providers");
        let mut ours = world.get(&recording.path).await;
        assert!(ours.to_string().contains(super::super::PROVIDER_KEY), "the real server shows the key");
        ours["providers"][0]["models"].as_object_mut().unwrap().remove("m1");
        same_shape("config-providers", &ours, &recording.body);
    });
}

#[test]
fn an_aborted_prompt_answers_as_recorded() {
    run(async |world| {
        let replay = Rc::new(Replay::new(world.clone()));
        let prompt = tokio::task::spawn_local({
            let replay = replay.clone();
            async move { replay.replay("prompt-sync-aborted").await }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        replay.replay("session-status-after-client-disconnect").await;
        replay.replay("session-abort-busy").await;
        let text = prompt.await.unwrap().body()["parts"][1]["text"].clone();
        assert!(text.as_str().unwrap().starts_with("word0 word1 "), "what was written is kept: {text}");
    });
}

#[test]
fn concurrent_prompts_are_merged_and_paged_as_recorded() {
    run(async |world| {
        let replay = Rc::new(Replay::new(world.clone()));
        world.prompt(&world.create("warm").await, "warm up").await;
        replay.path(replay.recording("prompt-concurrent-0")).await;
        let mut calls = Vec::new();
        for name in ["prompt-concurrent-0", "prompt-concurrent-1", "prompt-concurrent-2"] {
            let replay = replay.clone();
            calls.push(tokio::task::spawn_local(async move { replay.replay(name).await.body() }));
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap());
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "every caller gets the same reply");
        let all = replay.replay("messages-after-concurrent").await.body();
        roles_and_parents(&all, &replay.recording("messages-after-concurrent").body);
        replay.replay("messages-page-limit0").await;
        let page = replay.replay("messages-page-limit2").await;
        roles_and_parents(&page.body(), &replay.recording("messages-page-limit2").body);
        replay.replay("messages-page-limit2-beforezzz").await;
        replay.replay("messages-page-limitabc").await;
        let cursor = page.headers["x-next-cursor"].to_str().unwrap();
        let recording = replay.recording("messages-page2");
        let path =
            format!("{}?limit=2&before={cursor}", replay.path(recording).await.split('?').next().unwrap());
        let page = replay.check(recording, world.call("GET", &path, None).await);
        roles_and_parents(&page.body(), &recording.body);
    });
}

/// Which message answers which, by position: identifiers differ.
fn roles_and_parents(ours: &Value, recorded: &Value) {
    let outline = |list: &Value| -> Vec<(String, Option<usize>)> {
        let messages = list.as_array().unwrap();
        let position = |id: &Value| messages.iter().position(|message| &message["info"]["id"] == id);
        let infos = messages.iter().map(|message| &message["info"]);
        infos.map(|info| (info["role"].to_string(), position(&info["parentID"]))).collect()
    };
    assert_eq!(outline(ours), outline(recorded));
}
