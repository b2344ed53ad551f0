//! The engine floor: turmoil alone, with as many hosts, steps and messages as a run had, and nothing to do.
//!
//! Three hosts as in a run with one worker: a backend that echoes over a WebSocket, a server that answers HTTP and
//! streams events, and the one that talks to both. The libraries are those of the run (hyper, tungstenite), the traffic
//! is spread evenly over it. Nothing is parsed, stored, traced or checked.

use std::{cell::Cell, convert::Infallible, rc::Rc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    client::{self, conn::http1::SendRequest},
    header::HOST,
    server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use sim_model::scenario::Scenario;
use sim_report::Report;
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep_until},
};
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};
use turmoil::net::{TcpListener, TcpStream};

use crate::SEED;

/// What a round trip carries, and an event: about as many bytes as a chunk and a delta with their names around them.
const PAYLOAD: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
    0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const BACKEND: (&str, u16) = ("backend", 1);
const SERVER: (&str, u16) = ("server", 2);
const EVENTS: &str = "/event";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How much of everything.
#[derive(Debug, Clone)]
pub struct Load {
    /// The network's tick and its shortest and longest latency.
    pub tick: Duration,
    /// The shortest latency of a message.
    pub min_latency: Duration,
    /// The longest latency of a message.
    pub max_latency: Duration,
    /// Steps of the network.
    pub steps: u64,
    /// Echoes over the WebSocket: function calls of workers, and results that were pushed to them.
    pub websocket: u32,
    /// Requests over HTTP: prompts, and one look-up of a session for each.
    pub http: u32,
    /// Streamed events: the deltas of all replies.
    pub events: u32,
}

impl Load {
    /// The load of a run. What a report does not count is taken from the scenario's means: the deltas of a reply.
    #[must_use]
    pub fn of(scenario: &Scenario, report: &Report) -> Self {
        let functions = report.figures.functions.values();
        let calls: u64 = functions.map(|function| function.calls + function.reruns).sum();
        let sent = scenario.workload.turns;
        let prompts = report.figures.counts.prompts;
        let deltas = (scenario.replies.deltas.min + scenario.replies.deltas.max) / 2;
        let count = |n: u64| u32::try_from(n).expect("a run has fewer than 2^32 messages");
        Self {
            tick: scenario.tick,
            min_latency: scenario.latency.min.0,
            max_latency: scenario.latency.max.0,
            steps: report.engine.steps,
            websocket: count(calls - sent),
            http: count(2 * prompts),
            events: count(prompts) * u32::try_from(deltas).expect("small"),
        }
    }

    /// Time between two of `count` things that fill nine tenths of the run, so that all come through.
    fn pace(&self, count: u32) -> Duration {
        let steps = u32::try_from(self.steps).expect("a run has fewer than 2^32 steps");
        self.tick * (steps / 10 * 9) / count.max(1)
    }
}

/// Steps through the whole load.
///
/// # Panics
/// If the network fails or not all traffic came through.
pub fn run(load: &Load) {
    let mut sim = turmoil::Builder::new()
        .rng_seed(SEED.0)
        .tick_duration(load.tick)
        .min_message_latency(load.min_latency)
        .max_message_latency(load.max_latency)
        .simulation_duration(Duration::MAX)
        .build();
    sim.host(BACKEND.0, echo);
    let (events, pace) = (load.events, load.pace(load.events));
    sim.host(SERVER.0, move || serve(events, pace));
    let done = Rc::new(Cell::new(false));
    let (traffic, through) = (load.clone(), Rc::clone(&done));
    sim.client("worker", async move {
        tokio::try_join!(call(&traffic), request(&traffic), listen(&traffic))?;
        through.set(true);
        Ok(())
    });
    for _ in 0..load.steps {
        sim.step().expect("nothing in the floor fails");
    }
    assert!(done.get(), "all traffic fits into the run");
}

/// The backend.
async fn echo() -> turmoil::Result {
    let (stream, _) = TcpListener::bind(("0.0.0.0", BACKEND.1)).await?.accept().await?;
    let mut socket = accept_async(stream).await?;
    // The other side leaves without a closing handshake when it is through.
    while let Some(Ok(message)) = socket.next().await {
        socket.send(message).await?;
    }
    Ok(())
}

/// The server: `/event` streams, everything else is answered at once.
async fn serve(events: u32, pace: Duration) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", SERVER.1)).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let service =
            service_fn(move |request| async move { Ok::<_, Infallible>(answer(&request, events, pace)) });
        connections
            .spawn_local(server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn answer(request: &Request<Incoming>, events: u32, pace: Duration) -> Response<Body> {
    if request.uri().path() != EVENTS {
        return Response::new(Full::from(PAYLOAD).boxed_unsync());
    }
    let start = Instant::now();
    let frames = stream::iter(1..=events).then(move |n| async move {
        sleep_until(start + pace * n).await;
        Ok(Frame::data(PAYLOAD.into()))
    });
    Response::new(StreamBody::new(frames).boxed_unsync())
}

/// Calls are sent at their time, whether or not the ones before are answered.
async fn call(load: &Load) -> turmoil::Result {
    let stream = TcpStream::connect(BACKEND).await?;
    let (socket, _) = client_async("ws://backend/", stream).await?;
    let (mut sink, mut stream) = socket.split();
    let mut pace = interval(load.pace(load.websocket));
    let send = async {
        for _ in 0..load.websocket {
            pace.tick().await;
            sink.send(Message::text(PAYLOAD)).await?;
        }
        turmoil::Result::Ok(())
    };
    let receive = async {
        for _ in 0..load.websocket {
            stream.next().await.ok_or("the backend ended")??;
        }
        Ok(())
    };
    tokio::try_join!(send, receive)?;
    Ok(())
}

/// Requests go one after the other over one connection.
async fn request(load: &Load) -> turmoil::Result {
    let mut server = connect().await?;
    let mut pace = interval(load.pace(load.http));
    for _ in 0..load.http {
        pace.tick().await;
        server.ready().await?;
        let prompt = Request::post("/prompt").header(HOST, SERVER.0).body(Full::from(PAYLOAD))?;
        server.send_request(prompt).await?.collect().await?;
    }
    Ok(())
}

/// Events come over a connection of their own.
async fn listen(load: &Load) -> turmoil::Result {
    let mut server = connect().await?;
    let request = Request::get(EVENTS).header(HOST, SERVER.0).body(Full::default())?;
    let mut events = server.send_request(request).await?.into_body();
    let mut bytes = 0;
    while let Some(frame) = events.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(bytes, PAYLOAD.len() * load.events as usize, "every event arrives");
    Ok(())
}

async fn connect() -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(SERVER).await?;
    let (server, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    Ok(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_comes_through() {
        let ms = Duration::from_millis;
        run(&Load {
            tick: ms(10),
            min_latency: ms(10),
            max_latency: ms(20),
            steps: 1_000,
            websocket: 300,
            http: 50,
            events: 2_000,
        });
    }
}
