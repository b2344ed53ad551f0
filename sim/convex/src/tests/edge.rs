//! The whole edge over in-memory streams: HTTP, the WebSocket, its timers.

use ::convex::base_client::{BaseConvexClient, FunctionResult};
use convex_sync_types::{ClientMessage, ServerMessage, SessionId};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value as Json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, timeout},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};
use uuid::Uuid;

use super::{fixture::*, *};

fn connect(convex: &Convex) -> DuplexStream {
    let (client, server) = duplex(64 << 10);
    let convex = convex.clone();
    tokio::task::spawn_local(async move { convex.serve_connection(server, "peer").await });
    client
}

async fn sync_socket(convex: &Convex) -> WebSocketStream<DuplexStream> {
    client_async("ws://convex/api/sync", connect(convex)).await.unwrap().0
}

/// A client over a socket.
struct Peer {
    client: BaseConvexClient,
    socket: WebSocketStream<DuplexStream>,
}

impl Peer {
    async fn new(convex: &Convex) -> Self {
        let mut peer = Self { client: BaseConvexClient::new(), socket: sync_socket(convex).await };
        let connect = ClientMessage::Connect {
            session_id: SessionId::new(Uuid::from_u128(1)),
            connection_count: 0,
            last_close_reason: "InitialConnect".into(),
            max_observed_timestamp: None,
            client_ts: None,
        };
        peer.send(connect).await;
        peer
    }

    async fn send(&mut self, message: ClientMessage) {
        let text = Json::try_from(message).unwrap().to_string();
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Sends what the client has to send, then handles one message.
    async fn step(&mut self) {
        while let Some(message) = self.client.pop_next_message() {
            self.send(message).await;
        }
        let message = loop {
            if let Message::Text(text) = self.socket.next().await.unwrap().unwrap() {
                break text;
            }
        };
        let message =
            ServerMessage::<Value>::try_from(serde_json::from_str::<Json>(&message).unwrap()).unwrap();
        self.client.receive_message(message).unwrap();
    }
}

#[test]
fn a_subscription_follows_mutations_of_another_connection() {
    simulate(|| async {
        let (convex, _) = deploy(FIXTURE, Duration::from_millis(3), SyncOptions::default());
        let mut watcher = Peer::new(&convex).await;
        let count = watcher.client.subscribe("items:count".parse().unwrap(), BTreeMap::new());
        watcher.step().await;
        let mut writer = Peer::new(&convex).await;
        let answer = writer.client.mutation("items:add".parse().unwrap(), item("a", 1.0, None));
        writer.step().await;
        writer.step().await;
        assert!(matches!(answer.await, Ok(FunctionResult::Value(_))));
        watcher.step().await;
        let seen = watcher.client.latest_results().get(&count).cloned();
        assert!(matches!(seen, Some(FunctionResult::Value(Value::Float64(1.0)))), "{seen:?}");
    });
}

#[test]
fn the_server_pings_and_drops_a_client_that_is_silent() {
    simulate(|| async {
        let (convex, _) = deploy(FIXTURE, Duration::ZERO, SyncOptions::default());
        let (began, mut socket) = (Instant::now(), sync_socket(&convex).await);
        // What the client's WebSocket answers to pings is only sent when it is written to: it stays silent.
        let mut seen = Vec::new();
        while let Ok(Ok(message)) = timeout(Duration::from_secs(300), socket.get_mut().read_u8()).await {
            seen.push((began.elapsed().as_secs(), message));
        }
        let first = seen.iter().find(|(_, byte)| *byte == 0x89).map(|(at, _)| *at);
        let last = seen.last().map(|(at, _)| *at);
        assert_eq!((first, last), (Some(5), Some(125)), "the first ping, and the close after 120 s");
        let json_ping = seen.windows(4).find(|bytes| bytes.iter().map(|(_, byte)| *byte).eq(*b"Ping"));
        assert_eq!(json_ping.map(|bytes| bytes[0].0), Some(15));
    });
}

#[test]
fn a_mutation_of_a_connection_that_is_cut_still_takes_effect() {
    simulate(|| async {
        let (convex, _) = deploy(FIXTURE, Duration::from_millis(50), SyncOptions::default());
        let mut peer = Peer::new(&convex).await;
        drop(peer.client.mutation("items:add".parse().unwrap(), item("a", 1.0, None)));
        let cut = convex.clone();
        let step = async {
            let _ = timeout(Duration::from_millis(20), peer.step()).await;
        };
        step.await;
        cut.disconnect_all();
        assert!(convex.table("items").is_empty());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(convex.table("items").len(), 1);
        assert!(
            peer.socket.next().await.is_none_or(|end| end.is_err()),
            "the socket is cut without a close frame"
        );
    });
}

async fn http(convex: &Convex, request: String) -> String {
    let mut stream = connect(convex);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.replace("\r\n", "\n")
}

async fn post(convex: &Convex, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    http(convex, format!("POST {path} HTTP/1.1\r\nhost: c\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")).await
}

#[test]
fn functions_are_called_over_http() {
    simulate(|| async {
        let (convex, _) = deploy(FIXTURE, Duration::ZERO, SyncOptions::default());
        let body = r#"{"path":"items:add","args":[{"name":"a","n":1}],"format":"convex_encoded_json"}"#;
        let added = post(&convex, "/api/mutation", "", body).await;
        assert!(added.starts_with("HTTP/1.1 200 OK\n") && added.contains(r#""status":"success""#), "{added}");
        let body = r#"{"path":"items:values","args":{"value":{"$integer":"BQAAAAAAAAA="}}}"#;
        insta::assert_snapshot!(post(&convex, "/api/query", "", body).await, @r#"
        HTTP/1.1 200 OK
        content-type: application/json
        connection: close
        content-length: 32

        {"status":"success","value":"5"}
        "#);
        let body = r#"{"path":"items:refuse","args":{}}"#;
        let refused = post(&convex, "/api/mutation", "", body).await;
        assert!(refused.contains(r#""errorData":{"code":"no","message":"No."}"#), "{refused}");
        let body = r#"{"path":"actions:refused","args":{"caught":false}}"#;
        let refused = post(&convex, "/api/action", "", body).await;
        assert!(refused.contains(r#""errorData":{"code":"no","message":"No."}"#), "{refused}");
        let token = Identity::new("https://i", "ada").to_token();
        let header = format!("authorization: Bearer {token}\r\n");
        let seen = post(&convex, "/api/query", &header, r#"{"path":"items:environment"}"#).await;
        assert!(
            seen.contains(r#""who":"https://i|ada""#)
                && seen.contains(r#""logLines":["[LOG] 'seen' {\"n\":1}"]"#),
            "{seen}"
        );
    });
}

#[test]
fn bad_requests_are_refused_with_a_code() {
    simulate(|| async {
        let (convex, _) = deploy(FIXTURE, Duration::ZERO, SyncOptions::default());
        let refused = async |headers: &str, body: &str| {
            let answer = post(&convex, "/api/query", headers, body).await;
            let (head, body) = answer.split_once("\n\n").unwrap();
            format!("{}\n{body}", head.lines().next().unwrap())
        };
        let call = r#"{"path":"a:b"}"#;
        insta::assert_snapshot!(refused("", "nonsense").await, @r#"
        HTTP/1.1 400 Bad Request
        {"code":"BadJsonBody","message":"expected ident at line 1 column 2"}
        "#);
        insta::assert_snapshot!(refused("authorization: Bearer x\r\n", call).await, @r#"
        HTTP/1.1 401 Unauthorized
        {"code":"InvalidAuthHeader","message":"Could not parse as JWT: a token has three parts separated by dots"}
        "#);
        insta::assert_snapshot!(refused("convex-client: npm-0.19.1\r\n", call).await, @r#"
        HTTP/1.1 400 Bad Request
        {"code":"ClientVersionUnsupported","message":"The npm package at version 0.19.1 is no longer supported. Update it."}
        "#);
        let version =
            http(&convex, "GET /version HTTP/1.1\r\nhost: c\r\nconnection: close\r\n\r\n".into()).await;
        assert!(version.ends_with("sim"), "{version}");
    });
}

#[test]
fn an_action_of_a_connection_that_is_cut_goes_on_and_one_of_a_restarted_deployment_does_not() {
    let added = |restarts: bool| {
        simulate(|| async {
            let (convex, _) = deploy(FIXTURE, Duration::from_millis(50), SyncOptions::default());
            let mut peer = Peer::new(&convex).await;
            let args = [("first", "a"), ("second", "b")];
            let args = args.map(|(name, value)| (name.to_owned(), Value::from(value)));
            drop(peer.client.action("actions:addTwo".parse().unwrap(), BTreeMap::from(args)));
            let _ = timeout(Duration::from_millis(20), peer.step()).await;
            if restarts {
                convex.restart()
            } else {
                convex.disconnect_all()
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            convex.table("items").len()
        })
    };
    assert_eq!((added(false), added(true)), (2, 0));
}

#[test]
fn it_also_listens_on_real_loopback() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (convex, _) = deploy(FIXTURE, Duration::ZERO, SyncOptions::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::task::spawn_local(async move { convex.serve(listener).await });
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /version HTTP/1.1\r\nhost: c\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("sim"), "{answer}");
        server.abort();
    });
}
