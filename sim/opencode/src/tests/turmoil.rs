//! The fake as a host of the simulated network: it serves, crashes, and comes back with its disk.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use turmoil::net::{TcpListener, TcpStream};

use super::{
    super::{OpenCode, Options},
    world::EPOCH,
};

const PORT: u16 = 4096;

/// What a host runs: a server that listens when it is ready. Everything dies with the host.
async fn serve(machine: OpenCode) -> turmoil::Result {
    let server = machine.start(None);
    server.ready().await;
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(server.serve_connection(stream));
    }
}

async fn call(method: &str, path: &str, body: Value) -> Value {
    let stream = TcpStream::connect(("opencode", PORT)).await.expect("the host listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP begins");
    tokio::task::spawn_local(connection);
    let body = if method == "GET" { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(path).header("host", "opencode");
    let request = request.header("content-type", "application/json").body(Full::<Bytes>::from(body)).unwrap();
    let response = sender.send_request(request).await.expect("the server answers");
    let bytes = response.into_body().collect().await.expect("the body comes whole").to_bytes();
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}

#[test]
fn a_host_that_crashes_in_mid_reply_comes_back_with_its_disk() {
    let mut sim = turmoil::Builder::new()
        .tick_duration(Duration::from_millis(10))
        .simulation_duration(Duration::from_secs(60))
        .build();
    let heard = Rc::new(RefCell::new(Vec::new()));
    let ears = heard.clone();
    let clock = || EPOCH + turmoil::sim_elapsed().unwrap_or_default().as_millis() as u64;
    let mut options = Options::new(1, Rc::new(clock));
    options.observer = Rc::new(move |seen| ears.borrow_mut().push(format!("{seen:?}")));
    let machine = OpenCode::new(options);
    let disk = machine.clone();
    sim.host("opencode", move || serve(disk.clone()));

    let session = Rc::new(RefCell::new(String::new()));
    let made = session.clone();
    sim.client("before", async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let id = call("POST", "/session", json!({})).await["id"].as_str().unwrap().to_owned();
        let prompt = json!({ "parts": [{ "type": "text", "text": "[[deltas=1000]]" }] });
        call("POST", &format!("/session/{id}/prompt_async"), prompt).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        *made.borrow_mut() = id;
        Ok(())
    });
    sim.run().unwrap();
    sim.crash("opencode");
    assert!(heard.borrow().contains(&"ServerStopped { generation: 1, lost_replies: 1 }".into()), "{heard:?}");
    sim.bounce("opencode");
    let id = session.borrow().clone();
    sim.client("after", async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(call("GET", "/session/status", Value::Null).await, json!({}));
        let messages = call("GET", &format!("/session/{id}/message"), Value::Null).await;
        assert_eq!(messages[1]["parts"][1]["text"], "");
        Ok(())
    });
    sim.run().unwrap();
    assert_eq!(machine.messages(&session.borrow())[1].completed, None);
}
