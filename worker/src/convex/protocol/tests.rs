//! The traps of the protocol, each with the frames that set it off. Frames are those that the real server and the
//! official crate exchange.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::convex::values::args;

const T0: &str = "AAAAAAAAAAA=";
const T10: &str = "CgAAAAAAAAA=";
const T20: &str = "FAAAAAAAAAA=";

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn protocol() -> Protocol {
    Protocol::new(Uuid::from_u128(7))
}

/// The moment does not matter.
fn receive(protocol: &mut Protocol, frame: &str) -> Result<bool, String> {
    protocol.receive(frame, secs(0))
}

/// The frames of a new connection, parsed.
fn connect(protocol: &mut Protocol) -> Vec<Json> {
    let connected = protocol.connected(1_000, secs(0));
    futures_util::FutureExt::now_or_never(connected).expect("nothing to wait for").iter().map(parse).collect()
}

fn parse(frame: impl AsRef<str>) -> Json {
    serde_json::from_str(frame.as_ref()).unwrap()
}

fn transition(query_sets: (u32, u32), times: (&str, &str), modifications: Json) -> String {
    json!({
        "type": "Transition",
        "startVersion": { "querySet": query_sets.0, "identity": 0, "ts": times.0 },
        "endVersion": { "querySet": query_sets.1, "identity": 0, "ts": times.1 },
        "modifications": modifications,
    })
    .to_string()
}

fn updated(value: Json) -> Json {
    json!([{ "type": "QueryUpdated", "queryId": 0, "value": value, "logLines": [], "journal": null }])
}

fn success(request: u32, ts: &str) -> String {
    json!({ "type": "MutationResponse", "requestId": request, "success": true, "result": "ok", "ts": ts, "logLines": [] })
        .to_string()
}

fn mutate(protocol: &mut Protocol) -> oneshot::Receiver<FunctionResult> {
    protocol.mutate("chat:claim", args([("turn", "t1".into())]))
}

#[test]
fn every_connection_of_a_client_shows_the_same_session_and_resends_what_is_unanswered() {
    let mut protocol = protocol();
    let first = connect(&mut protocol);
    let _answer = mutate(&mut protocol);
    let sent: Vec<Json> = protocol.outgoing(secs(0)).iter().map(parse).collect();
    protocol.disconnected("WebsocketConnectionError".into());
    let second = connect(&mut protocol);

    assert_eq!(first[0]["sessionId"], second[0]["sessionId"]);
    assert_eq!((&first[0]["connectionCount"], &second[0]["connectionCount"]), (&json!(0), &json!(1)));
    assert_eq!(second[0]["lastCloseReason"], "WebsocketConnectionError");
    assert_eq!(second[1]["type"], "ModifyQuerySet");
    assert_eq!(second[2]["requestId"], sent[0]["requestId"]);
    assert_eq!(second[2]["args"], sent[0]["args"]);
}

#[test]
fn a_frame_that_waited_for_a_lost_connection_is_not_sent_twice_on_the_next() {
    let mut protocol = protocol();
    connect(&mut protocol);
    let _answer = mutate(&mut protocol);
    protocol.disconnected("SlowSend".into());
    let frames = connect(&mut protocol);
    assert_eq!(frames.iter().filter(|frame| frame["type"] == "Mutation").count(), 1);
    assert_eq!(protocol.outgoing(secs(0)).len(), 0);
}

#[test]
fn an_answer_that_comes_twice_does_not_end_the_connection() {
    let mut protocol = protocol();
    connect(&mut protocol);
    let mut answer = mutate(&mut protocol);
    protocol.outgoing(secs(0));
    receive(&mut protocol, &success(0, T10)).unwrap();
    protocol.disconnected("WebsocketConnectionError".into());
    connect(&mut protocol);
    assert_eq!(receive(&mut protocol, &transition((0, 1), (T0, T20), json!([]))), Ok(true));
    assert!(matches!(answer.try_recv(), Ok(FunctionResult::Value(_))));
    assert_eq!(receive(&mut protocol, &success(0, T10)), Ok(false));
}

#[test]
fn a_subscription_wakes_only_when_its_result_differs() {
    let mut protocol = protocol();
    let (sender, mut latest) = watch::channel(None);
    protocol.subscribe("chat:subscribeToWorkerMessages", args([]), sender);
    connect(&mut protocol);
    receive(&mut protocol, &transition((0, 1), (T0, T10), updated(json!([1])))).unwrap();
    assert!(latest.has_changed().unwrap());
    latest.borrow_and_update();
    receive(&mut protocol, &transition((1, 1), (T10, T20), updated(json!([1])))).unwrap();
    assert!(!latest.has_changed().unwrap());
}

#[test]
fn a_subscription_that_nobody_looks_at_is_removed() {
    let mut protocol = protocol();
    let (sender, latest) = watch::channel(None);
    protocol.subscribe("chat:subscribeToWorkerMessages", args([]), sender);
    connect(&mut protocol);
    protocol.outgoing(secs(0));
    drop(latest);
    protocol.drop_abandoned();
    let frames: Vec<Json> = protocol.outgoing(secs(0)).iter().map(parse).collect();
    assert_eq!(frames[0]["modifications"], json!([{ "type": "Remove", "queryId": 0 }]));
}

#[test]
fn frames_that_make_no_sense_end_the_connection_and_say_why() {
    let check = |frame: &str, reason: &str| {
        let mut protocol = protocol();
        connect(&mut protocol);
        let error = receive(&mut protocol, frame).unwrap_err();
        assert!(error.starts_with(reason), "{error:?} for {frame}");
    };
    check("{", "MalformedFrame: EOF");
    check("{\"type\":\"Surprise\"}", "MalformedFrame");
    check(&transition((5, 6), (T10, T20), json!([])), "StartVersionMismatch");
    check("{\"type\":\"FatalError\",\"error\":\"boom\"}", "FatalError: boom");
}

#[test]
fn a_refusal_carries_the_backends_code_and_message() {
    let mut protocol = protocol();
    connect(&mut protocol);
    let mut answer = mutate(&mut protocol);
    let data = json!({ "code": "superseded", "message": "Epoch 1 was superseded by epoch 2." });
    let response = json!({
        "type": "MutationResponse", "requestId": 0, "success": false, "result": "Uncaught ConvexError",
        "ts": null, "logLines": [], "errorData": data,
    });
    receive(&mut protocol, &response.to_string()).unwrap();
    assert!(answer.try_recv().is_err(), "the crate waits for the Transition that always follows");
    receive(&mut protocol, &transition((0, 0), (T0, T10), json!([]))).unwrap();
    let error = outcome("chat:claim", answer.try_recv().unwrap()).unwrap_err();
    assert_eq!(error.code(), Some("superseded"));
    assert_eq!(error.to_string(), "chat:claim refused (superseded): Epoch 1 was superseded by epoch 2.");
}

#[test]
fn a_connection_that_is_asked_and_does_not_answer_is_given_up_whatever_else_it_says() {
    let mut protocol = protocol();
    connect(&mut protocol);
    assert_eq!(protocol.gives_up_at(None), None, "nothing was asked");
    let _answer = mutate(&mut protocol);
    protocol.outgoing(secs(10));
    protocol.receive(r#"{"type":"Ping"}"#, secs(20)).unwrap();
    protocol.receive(&transition((0, 0), (T0, T10), json!([])), secs(30)).unwrap();
    assert_eq!(protocol.gives_up_at(None), Some(secs(40)));
    protocol.disconnected("UnansweredRequests".into());
    connect(&mut protocol);
    assert_eq!(protocol.gives_up_at(None), Some(secs(30)), "what is sent again counts anew");
}

#[test]
fn a_server_that_answers_one_after_the_other_is_waited_for() {
    let mut protocol = protocol();
    connect(&mut protocol);
    let _answers = [mutate(&mut protocol), mutate(&mut protocol)];
    protocol.outgoing(secs(10));
    protocol.receive(&success(0, T10), secs(35)).unwrap();
    assert_eq!(
        protocol.gives_up_at(None),
        Some(secs(65)),
        "the second has waited since the first was answered"
    );
    protocol.receive(&success(1, T20), secs(60)).unwrap();
    assert_eq!(protocol.gives_up_at(None), None);
}

#[test]
fn a_server_whose_answer_comes_in_pieces_is_waited_for_from_the_last_one_on() {
    let mut protocol = protocol();
    connect(&mut protocol);
    assert_eq!(protocol.gives_up_at(Some(secs(5))), None, "nothing was asked");
    let _answer = mutate(&mut protocol);
    protocol.outgoing(secs(10));
    assert_eq!(protocol.gives_up_at(Some(secs(39))), Some(secs(69)));
    assert_eq!(
        protocol.gives_up_at(Some(secs(5))),
        Some(secs(40)),
        "those of before it was asked do not count"
    );
}

#[test]
fn a_mutation_that_is_over_and_a_result_that_differs_are_progress_and_what_comes_anyway_is_none() {
    let mut protocol = protocol();
    let (sender, _latest) = watch::channel(None);
    protocol.subscribe("chat:subscribeToWorkerMessages", args([]), sender);
    connect(&mut protocol);
    let shown = transition((0, 1), (T0, T10), updated(json!([1])));
    assert_eq!(receive(&mut protocol, &shown), Ok(true), "the first result");
    let _answer = mutate(&mut protocol);
    protocol.outgoing(secs(0));
    assert_eq!(receive(&mut protocol, &success(0, T20)), Ok(false), "an answer whose effect is not shown");
    protocol.disconnected("WebsocketConnectionError".into());
    connect(&mut protocol);
    let shown = transition((0, 1), (T0, T20), updated(json!([1])));
    assert_eq!(receive(&mut protocol, &shown), Ok(true), "its effect");
    protocol.disconnected("WebsocketConnectionError".into());
    connect(&mut protocol);
    assert_eq!(receive(&mut protocol, &shown), Ok(false), "what every connection shows");
    assert_eq!(receive(&mut protocol, r#"{"type":"Ping"}"#), Ok(false));
}

#[test]
fn a_subscription_is_answered_by_the_transition_that_knows_it() {
    let mut protocol = protocol();
    connect(&mut protocol);
    let (sender, _latest) = watch::channel(None);
    protocol.subscribe("chat:subscribeToWorkerMessages", args([]), sender);
    protocol.outgoing(secs(1));
    protocol.receive(&transition((0, 0), (T0, T10), json!([])), secs(2)).unwrap();
    assert_eq!(protocol.gives_up_at(None), Some(secs(31)));
    protocol.receive(&transition((0, 1), (T10, T20), updated(json!([1]))), secs(3)).unwrap();
    assert_eq!(protocol.gives_up_at(None), None);
}

/// The frames that the server sends, each of which a protocol in the state of [`in_use`] takes.
fn frames() -> Vec<String> {
    let refusal = json!({ "type": "MutationResponse", "requestId": 0, "success": false, "result": "no", "ts": null,
        "logLines": [], "errorData": { "code": "superseded" } });
    let failed = json!([{ "type": "QueryFailed", "queryId": 0, "errorMessage": "no", "logLines": [], "journal": null }]);
    vec![
        success(0, T10),
        refusal.to_string(),
        transition((0, 1), (T0, T10), updated(json!({ "$integer": "AAAAAAAAAAA=" }))),
        transition((0, 1), (T0, T10), failed),
        transition((0, 1), (T0, T10), json!([{ "type": "QueryRemoved", "queryId": 0 }])),
        r#"{"type":"FatalError","error":"x"}"#.to_owned(),
        r#"{"type":"TransitionChunk","chunk":"{","partNumber":0,"totalParts":2,"transitionId":"99"}"#
            .to_owned(),
        r#"{"type":"AuthError","error":"x","baseVersion":0,"authUpdateAttempted":true}"#.to_owned(),
    ]
}

/// With a subscription and a mutation under way.
fn in_use() -> (Protocol, oneshot::Receiver<FunctionResult>, watch::Receiver<Latest>) {
    let mut protocol = protocol();
    connect(&mut protocol);
    let (sender, latest) = watch::channel(None);
    protocol.subscribe("chat:subscribeToWorkerMessages", args([]), sender);
    let answer = mutate(&mut protocol);
    protocol.outgoing(secs(0));
    (protocol, answer, latest)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_frame_whatever_became_of_it_makes_the_worker_panic(
        which in prop::collection::vec((0..8_usize, prop::option::of((any::<prop::sample::Index>(), 0..8_usize, "[ -~]{0,4}"))), 1..5),
    ) {
        let (mut protocol, _answer, _latest) = in_use();
        for (number, change) in which {
            let mut frame = frames()[number].clone();
            if let Some((place, length, other)) = change {
                let from = place.index(frame.len());
                frame.replace_range(from..(from + length).min(frame.len()), &other);
            }
            let _ = receive(&mut protocol, &frame);
        }
    }
}

#[test]
fn the_frames_that_are_spoiled_above_are_understood_when_they_are_whole() {
    let understood = |frame: &String| receive(&mut in_use().0, frame).is_ok();
    assert_eq!(frames().iter().filter(|frame| understood(frame)).count(), 5);
}

#[test]
fn a_failure_that_shows_the_arguments_does_not_show_the_secret() {
    let secret = "s3cr3t".repeat(6);
    let message = format!("ArgumentValidationError: Object: {{epoch: 1.0, secret: \"{secret}\"}}");
    let error = outcome("workers:register", FunctionResult::ErrorMessage(message)).unwrap_err().to_string();
    assert!(error.contains("secret: \"[redacted]\"") && !error.contains(&secret), "{error}");
}

/// What the server knows of the queries of one connection; it refuses what the real one refuses.
#[derive(Default)]
struct Server {
    version: u32,
    /// What the last transition told.
    told: (u32, u64),
    /// The argument of each query.
    queries: BTreeMap<u64, f64>,
    removed: Vec<u64>,
}

impl Server {
    fn take(&mut self, frames: impl IntoIterator<Item = impl AsRef<str>>) {
        for frame in frames.into_iter().map(parse).filter(|frame| frame["type"] == "ModifyQuerySet") {
            assert_eq!(frame["baseVersion"], self.version, "{frame}");
            self.version = u32::try_from(frame["newVersion"].as_u64().unwrap()).unwrap();
            for change in frame["modifications"].as_array().unwrap() {
                let id = change["queryId"].as_u64().unwrap();
                if change["type"] == "Add" {
                    let argument = change["args"][0]["n"].as_f64().unwrap();
                    assert_eq!(self.queries.insert(id, argument), None, "{frame}");
                } else {
                    self.queries.remove(&id).unwrap();
                    self.removed.push(id);
                }
            }
        }
    }

    /// Tells everything there is to tell; each result is the query's argument.
    fn transition(&mut self) -> String {
        let now = (self.version, self.told.1 + 1);
        let updated = self.queries.iter().map(|(id, argument)| {
            json!({ "type": "QueryUpdated", "queryId": id, "value": argument, "logLines": [], "journal": null })
        });
        let removed = self.removed.drain(..).map(|id| json!({ "type": "QueryRemoved", "queryId": id }));
        let modifications = updated.chain(removed).collect();
        let before = std::mem::replace(&mut self.told, now);
        transition((before.0, now.0), (&moment(before.1), &moment(now.1)), modifications)
    }
}

fn moment(number: u64) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, number.to_le_bytes())
}

fn subscribe(protocol: &mut Protocol, argument: u8) -> watch::Receiver<Latest> {
    let (sender, latest) = watch::channel(None);
    protocol.subscribe("chat:subscribeToWorkerMessages", args([("n", f64::from(argument).into())]), sender);
    latest
}

fn outgoing(protocol: &mut Protocol) -> Vec<String> {
    protocol.outgoing(secs(0))
}

#[test]
fn a_query_that_is_subscribed_to_anew_is_asked_of_the_server() {
    let mut protocol = protocol();
    connect(&mut protocol);
    let old = subscribe(&mut protocol, 1);
    outgoing(&mut protocol);
    drop(old);
    let _new = subscribe(&mut protocol, 1);
    let frames: Vec<Json> = outgoing(&mut protocol).iter().map(parse).collect();
    let changes: Vec<_> = frames.iter().map(|frame| frame["modifications"][0]["type"].clone()).collect();
    assert_eq!(changes, ["Remove", "Add"]);
}

#[test]
fn ten_thousand_subscriptions_leave_nothing_behind() {
    let (mut protocol, mut server) = (protocol(), Server::default());
    connect(&mut protocol);
    for round in 0..10_000_u32 {
        let argument = u8::try_from(round % 7).unwrap();
        let mut latest = subscribe(&mut protocol, argument);
        server.take(outgoing(&mut protocol));
        receive(&mut protocol, &server.transition()).unwrap();
        assert_eq!(latest.borrow_and_update().clone(), Some(Ok(f64::from(argument).into())));
        drop(latest);
        protocol.drop_abandoned();
        server.take(outgoing(&mut protocol));
    }
    receive(&mut protocol, &server.transition()).unwrap();
    assert!(protocol.subscriptions.is_empty() && server.queries.is_empty());
    // The crate keeps results; the next transition shows all that it has.
    let message = ServerMessage::try_from(parse(server.transition())).unwrap();
    let results = protocol.client.receive_message(message).unwrap().unwrap();
    assert_eq!((results.len(), results.iter().count()), (0, 0));
    protocol.disconnected("WebsocketConnectionError".into());
    let frames = connect(&mut protocol);
    assert_eq!((frames.len(), &frames[1]["modifications"]), (2, &json!([])), "nothing is asked for again");
}

/// What happens to the subscriptions of a client.
#[derive(Debug, Clone)]
enum Happens {
    Subscribe(u8),
    Drop(prop::sample::Index),
    /// Somebody else has something to say, and abandoned subscriptions are noticed.
    Wake,
    Transition,
    Lost,
    Connected,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => (0..3_u8).prop_map(Happens::Subscribe),
        3 => any::<prop::sample::Index>().prop_map(Happens::Drop),
        1 => Just(Happens::Wake),
        2 => Just(Happens::Transition),
        1 => Just(Happens::Lost),
        2 => Just(Happens::Connected),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_to_subscriptions_the_server_understands_them_and_each_sees_its_result(
        steps in prop::collection::vec(happens(), 0..80),
    ) {
        let mut protocol = protocol();
        let (mut server, mut latest) = (None, Vec::new());
        for step in steps.into_iter().chain([Happens::Connected, Happens::Wake, Happens::Transition]) {
            match step {
                Happens::Subscribe(argument) => latest.push((argument, subscribe(&mut protocol, argument))),
                Happens::Drop(which) if !latest.is_empty() => {
                    latest.swap_remove(which.index(latest.len()));
                }
                Happens::Wake => protocol.drop_abandoned(),
                Happens::Lost if server.take().is_some() => protocol.disconnected("Lost".into()),
                Happens::Connected if server.is_none() => {
                    let mut fresh = Server::default();
                    fresh.take(connect(&mut protocol).iter().map(Json::to_string));
                    server = Some(fresh);
                }
                Happens::Transition => {
                    if let Some(server) = &mut server {
                        prop_assert!(receive(&mut protocol, &server.transition()).is_ok());
                    }
                }
                _ => {}
            }
            if let Some(server) = &mut server {
                server.take(outgoing(&mut protocol));
            }
        }
        let mut wanted: Vec<f64> = latest.iter().map(|(argument, _)| f64::from(*argument)).collect();
        wanted.sort_by(f64::total_cmp);
        wanted.dedup();
        let mut asked: Vec<f64> = server.unwrap().queries.into_values().collect();
        asked.sort_by(f64::total_cmp);
        prop_assert_eq!(asked, wanted);
        for (argument, latest) in latest {
            prop_assert_eq!(latest.borrow().clone(), Some(Ok(f64::from(argument).into())));
        }
    }
}

const FRAMES: [&str; 4] = [
    r#"{"type":"Transition","startVersion":{"querySet":0,"identity":0,"ts":"AAAAAAAAAAA="},"endVersion":{"querySet":1,"identity":0,"ts":"CgAAAAAAAAA="},"modifications":[{"type":"QueryUpdated","queryId":0,"value":[1],"logLines":[],"journal":null}]}"#,
    r#"{"type":"MutationResponse","requestId":0,"success":true,"result":"ok","ts":"CgAAAAAAAAA=","logLines":[]}"#,
    r#"{"type":"MutationResponse","requestId":0,"success":false,"result":"no","ts":null,"logLines":[],"errorData":{"code":"superseded"}}"#,
    r#"{"type":"Ping"}"#,
];

proptest! {
    #[test]
    fn whatever_comes_as_a_frame_is_taken_or_ends_the_connection(texts in prop::collection::vec(crate::arbitrary::text(&FRAMES), 1..4)) {
        let (mut protocol, _answer, _latest) = in_use();
        for text in texts {
            if protocol.receive(&text, secs(1)).is_err() {
                break;
            }
        }
    }
}
