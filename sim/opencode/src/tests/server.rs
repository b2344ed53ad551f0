//! Authentication, refusals, start and stop.

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::{EPOCH, run, run_with};
use crate::{Latencies, OpenCode, Options, Place};

#[derive(Deserialize)]
struct Recorded {
    name: String,
    path: String,
    authorization: Option<String>,
    status: u16,
    body: Option<String>,
    #[serde(rename = "www-authenticate")]
    challenge: Option<String>,
}

#[test]
fn authentication_is_as_recorded() {
    run_with(Latencies::NONE, Some("sekret"), async |world| {
        let recorded: Vec<Recorded> = serde_json::from_str(include_str!("../recordings/auth.json")).unwrap();
        for recorded in recorded {
            let mut request = Request::builder().uri(&recorded.path);
            if let Some(authorization) = &recorded.authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let reply = world.send(request.body(Full::<Bytes>::default()).unwrap()).await;
            let challenge = reply.headers.get(header::WWW_AUTHENTICATE).map(|value| value.to_str().unwrap());
            assert_eq!(reply.status, recorded.status, "{}", recorded.name);
            assert_eq!(challenge, recorded.challenge.as_deref(), "{}", recorded.name);
            if let Some(body) = recorded.body {
                assert_eq!(String::from_utf8_lossy(&reply.bytes), body, "{}", recorded.name);
            }
        }
    });
}

#[test]
fn what_is_not_modelled_is_refused_loudly() {
    run(async |world| {
        for (method, path) in
            [("GET", "/api/health"), ("GET", "/global/event"), ("POST", "/session/ses_1/fork")]
        {
            let reply = world.call(method, path, None).await;
            assert_eq!(reply.status, 501, "{path}");
        }
        let session = world.create("s").await;
        let file = json!({ "parts": [{ "type": "file", "url": "x", "mime": "y" }] });
        let reply = world.call("POST", &format!("/session/{session}/message"), Some(&file)).await;
        assert_eq!(reply.status, 501);
        assert_eq!(world.heard("Refused").len(), 4);
        assert!(world.heard("Request").iter().all(|line| !line.contains("ses_")), "templates, not paths");
    });
}

#[test]
fn a_body_that_is_too_large_is_refused_and_one_that_breaks_off_is_not() {
    run(async |world| {
        let large = serde_json::Value::String("x".repeat(9 << 20));
        assert_eq!(world.call("POST", "/session", Some(&large)).await.status, 501);
        assert_eq!(world.heard("Refused").len(), 1);

        let (mut near, far) = tokio::io::duplex(1024);
        let connection = world.server.borrow().as_ref().unwrap().serve_connection(far);
        let head = b"POST /session HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"ti";
        near.write_all(head).await.unwrap();
        drop(near);
        connection.await;
        assert_eq!(world.heard("Refused").len(), 1);
        assert!(world.machine.session_ids().is_empty());
    });
}

#[test]
fn it_serves_on_real_loopback_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut options = Options::new(1, std::rc::Rc::new(|| EPOCH));
        options.latencies = Latencies::NONE;
        let server = OpenCode::new(options).start(None);
        server.ready().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        tokio::task::spawn_local(server.serve_connection(stream));
        let request = b"GET /global/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        insta::assert_snapshot!(answer.replace('\r', ""), @r#"
        HTTP/1.1 200 OK
        content-type: application/json
        vary: Origin
        connection: close
        content-length: 36

        {"healthy":true,"version":"1.18.33"}
        "#);
    });
}

#[test]
fn restarts_count_generations_and_keep_the_sessions() {
    run(async |world| {
        let seeded = world.machine.seed_session("old", 5, Place::Here);
        let made = world.create("new").await;
        world.crash();
        world.start(None).await;
        assert_eq!(world.machine.session_ids(), [made, seeded], "the newest first");
        assert_eq!(world.get("/session").await.as_array().unwrap().len(), 2);
        assert_eq!(
            world.heard("Server"),
            [
                "ServerStarted { generation: 1 }",
                "ServerStopped { generation: 1, lost_replies: 0 }",
                "ServerStarted { generation: 2 }",
            ]
        );
    });
}

#[test]
fn listing_models_is_observed_by_either_way() {
    run(async |world| {
        assert_eq!(world.machine.models(), ["fake/m1", "fake/m2"]);
        assert_eq!(world.get("/config/providers").await["default"], json!({ "fake": "m2" }));
        assert_eq!(world.heard("ModelsListed").len(), 2);
    });
}
