//! The connection's task in paused time, against a peer that the test plays.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value as Json, json};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

use super::*;
use crate::{
    convex::values::args,
    env::{
        Address, Launch, LaunchError, UnixMillis,
        system::{SystemEnv, SystemServer},
    },
};

/// Surroundings in which the test answers each connection, and sets the wall clock.
#[derive(Clone)]
struct Played {
    wall: Arc<AtomicU64>,
    dials: mpsc::Sender<DuplexStream>,
}

impl Env for Played {
    type Stream = DuplexStream;
    type Server = SystemServer;

    async fn connect(&self, _: &Address) -> io::Result<DuplexStream> {
        let (ours, theirs) = duplex(64 << 10);
        self.dials.send(theirs).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }

    async fn launch(&self, launch: Launch) -> Result<SystemServer, LaunchError> {
        SystemEnv.launch(launch).await
    }

    fn now(&self) -> UnixMillis {
        self.wall.load(Relaxed)
    }

    fn random(&self, buffer: &mut [u8]) {
        buffer.fill(7);
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) -> JoinHandle<()> {
        SystemEnv.spawn(task)
    }
}

struct Peer {
    dialled: mpsc::Receiver<DuplexStream>,
}

impl Peer {
    /// The next connection, and why the one before it ended.
    async fn accept(&mut self) -> (WebSocketStream<DuplexStream>, Json) {
        let mut socket = accept_async(self.dialled.recv().await.unwrap()).await.unwrap();
        let connect = next(&mut socket).await;
        (socket, connect["lastCloseReason"].clone())
    }
}

async fn next(socket: &mut WebSocketStream<DuplexStream>) -> Json {
    serde_json::from_str(socket.next().await.unwrap().unwrap().to_text().unwrap()).unwrap()
}

fn started() -> (Played, ConvexClient, AbortOnDropHandle<()>, Peer) {
    let (dials, dialled) = mpsc::channel(1);
    let env = Played { wall: Arc::default(), dials };
    let url = ConvexUrl::plain(Address { host: "127.0.0.1".into(), port: 1 });
    let (client, task) = ConvexClient::start(&env, url);
    (env, client, task, Peer { dialled })
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_trusted_after_a_sleep() {
    let (env, _client, _task, mut peer) = started();
    let (_first, reason) = peer.accept().await;
    assert_eq!(reason, "InitialConnect");
    let begun = Instant::now();
    env.wall.fetch_add(60_000, Relaxed);
    let (_second, reason) = peer.accept().await;
    assert_eq!(reason, "MachineSlept");
    assert!(begun.elapsed() <= LOOK + 2 * BACKOFF_MIN, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_a_little_or_back_ends_no_connection() {
    let (env, client, _task, mut peer) = started();
    env.wall.store(1_000_000, Relaxed);
    let (mut socket, _) = peer.accept().await;
    for wall in [1_009_000, 0] {
        env.wall.store(wall, Relaxed);
        let asked = client.mutation("workers:heartbeat", args([]));
        let asked = tokio::time::timeout(2 * LOOK, asked).await;
        assert!(asked.is_err(), "nobody answers: {asked:?}");
    }
    assert_eq!(next(&mut socket).await["type"], "Mutation");
    assert!(peer.dialled.try_recv().is_err(), "there is a second connection");
}

/// From the end of a connection to the next one.
async fn pause_after(socket: WebSocketStream<DuplexStream>, peer: &mut Peer) -> Duration {
    drop(socket);
    let begun = Instant::now();
    peer.accept().await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn the_pauses_grow_until_there_is_progress_however_long_connections_live() {
    let (_env, client, _task, mut peer) = started();
    let asked = client.mutation("workers:heartbeat", args([]));
    let played = async {
        for least in [100, 200, 400, 800, 1_600] {
            let (socket, _) = peer.accept().await;
            sleep(Duration::from_secs(20)).await;
            drop(socket);
            let begun = Instant::now();
            let next = peer.dialled.recv().await.unwrap();
            assert!(begun.elapsed() >= Duration::from_millis(least), "{:?}", begun.elapsed());
            drop(next);
        }
        let (mut socket, _) = peer.accept().await;
        while next(&mut socket).await["type"] != "Mutation" {}
        let version = |set: u32, ts: &str| json!({ "querySet": set, "identity": 0, "ts": ts });
        let answer = json!({ "type": "MutationResponse", "requestId": 0, "success": true, "result": null,
            "ts": "CgAAAAAAAAA=", "logLines": [] });
        let shown = json!({ "type": "Transition", "startVersion": version(0, "AAAAAAAAAAA="),
            "endVersion": version(1, "CgAAAAAAAAA="), "modifications": [] });
        for frame in [answer, shown] {
            socket.send(Message::text(frame.to_string())).await.unwrap();
        }
        socket
    };
    let (answered, socket) = tokio::join!(asked, played);
    answered.unwrap();
    let pause = pause_after(socket, &mut peer).await;
    assert!(pause < 3 * BACKOFF_MIN, "{pause:?}");
}
