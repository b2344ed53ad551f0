use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::advance,
};

use super::*;
use crate::telemetry::MAX_SILENCE;

fn view() -> View {
    let build = Build { version: "1.2.3", commit: "" };
    View { workers: Workers::One(Arc::default()), build, started: 0 }
}

/// Status and body that a running server answers to what is sent.
async fn ask(view: &View, request: &[u8]) -> String {
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = admin.address().unwrap();
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        // The server may reset the connection when it refuses to read on.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    };
    tokio::select! {
        answer = talk => answer,
        never = admin.serve(view.clone()) => match never {},
    }
}

async fn check(view: &View, path: &str, status: &str, body: &str) {
    let answer = ask(view, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
    let (head, found) = answer.split_once("\r\n\r\n").unwrap_or_default();
    assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    assert!(found.contains(body), "{path}: {answer}");
}

#[tokio::test]
async fn a_running_server_shows_metrics_health_and_readiness() {
    let view = view();
    check(&view, "/metrics", "200", "worker_phase{phase=\"uninitialized\"} 1").await;
    check(&view, "/healthz", "503", r#""alive":false"#).await;
    check(&view, "/readyz", "503", r#""phase":"uninitialized""#).await;
    let Workers::One(status) = &view.workers else { panic!() };
    status.beat();
    status.set_phase(Phase::Ready);
    check(&view, "/metrics", "200", "worker_phase{phase=\"ready\"} 1").await;
    check(&view, "/healthz", "200", r#""alive":true"#).await;
    check(&view, "/readyz", "200", r#""ready":true"#).await;
    check(&view, "/", "404", "/metrics").await;
}

#[tokio::test(start_paused = true)]
async fn a_main_loop_that_does_not_come_round_is_dead() {
    let status = Status::default();
    status.beat();
    advance(MAX_SILENCE).await;
    assert!(health(&status).0);
    advance(Duration::from_millis(1)).await;
    assert!(!health(&status).0);
    status.ended();
    assert!(health(&status).0, "one that has ended is not dead");
}

#[test]
fn a_worker_that_stops_is_not_ready() {
    let status = Status::default();
    status.set_phase(Phase::Stopping);
    assert!(!readiness(&status).0);
}

#[tokio::test]
async fn what_is_no_small_get_is_refused() {
    let post = ask(&view(), b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(4 * MAX_HEAD));
    let long = ask(&view(), long.as_bytes()).await;
    assert!(!long.contains("200 OK"), "{long}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let first = Admin::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = first.address().unwrap();
    let error = Admin::bind(address.to_string().parse().unwrap()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {address} for metrics and health")), "{error}");
}
