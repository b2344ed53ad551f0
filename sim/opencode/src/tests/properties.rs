//! What holds for every reply.

use std::{collections::BTreeMap, time::Duration};

use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::{Value, json};

use super::world::run;

/// Deltas of each part, joined, and the text with which it ended.
fn parts(events: &[Value]) -> BTreeMap<String, (String, Option<String>)> {
    let mut parts: BTreeMap<String, (String, Option<String>)> = BTreeMap::new();
    for event in events {
        let properties = &event["properties"];
        if event["type"] == "message.part.delta" {
            let part = parts.entry(properties["partID"].as_str().unwrap().into()).or_default();
            part.0.push_str(properties["delta"].as_str().unwrap());
        }
        if event["type"] == "message.part.updated" && !properties["part"]["time"]["end"].is_null() {
            let part = parts.entry(properties["part"]["id"].as_str().unwrap().into()).or_default();
            part.1 = properties["part"]["text"].as_str().map(Into::into);
        }
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// Several sessions prompt, some abort, at any time.
    #[test]
    fn events_ascend_deltas_join_to_the_text_and_every_message_ends(
        turns in prop::collection::vec((0_usize..3, 0_u32..12, 0_u32..2, 0_u64..900, any::<bool>()), 1..8)
    ) {
        run(async |world| {
            let events = world.listen("/event").await;
            let mut sessions = Vec::new();
            for index in 0..3 {
                sessions.push(world.create(&format!("s{index}")).await);
            }
            for (session, deltas, tools, wait, abort) in turns {
                let session = &sessions[session];
                let text = format!("[[deltas={deltas} tool={tools} reasoning={tools} bytes=40]]");
                world.prompt_async(session, &text).await;
                tokio::time::sleep(Duration::from_millis(wait)).await;
                if abort {
                    world.call("POST", &format!("/session/{session}/abort"), None).await;
                }
            }
            world.settle().await;

            let events = events.take();
            let ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
            assert!(ids.is_sorted_by(|a, b| a < b), "event ids ascend");
            for (part, (deltas, text)) in parts(&events) {
                assert_eq!(Some(deltas), text, "{part}");
            }
            for session in &sessions {
                for message in world.machine.messages(session).iter().filter(|message| message.parent.is_some()) {
                    assert!(message.completed.is_some(), "{message:?}");
                }
            }
            assert_eq!(world.get("/session/status").await, json!({}));
        });
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let record = || {
        let mut seen = String::new();
        run(async |world| {
            let events = world.listen("/event").await;
            let session = world.create("s").await;
            world.prompt(&session, "hello [[deltas=20 tool=1 reasoning=2]]").await;
            world.settle().await;
            seen = format!("{:?} {:?}", events.borrow(), world.heard.borrow());
        });
        seen
    };
    assert_eq!(record(), record());
}
