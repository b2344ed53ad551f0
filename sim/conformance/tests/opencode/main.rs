//! The fake OpenCode against the real one: the same requests and prompts, compared step by step.
//!
//! What the real one did is kept in `recordings/opencode-1.18.33.json`, so that the fake is measured also where the
//! real one is not installed. `CONFORMANCE_BLESS=1` keeps what it does now, and writes the table of differences into
//! `docs/fidelity.md`. A difference that is not explained here fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fidelity;
mod suite;

use std::{net::SocketAddr, path::Path};

use conformance::{
    model::ModelServer,
    place::Place,
    process::{PATIENCE, Process},
    tools,
};
use tokio::{
    net::TcpListener,
    process::Command,
    sync::oneshot,
    task::{LocalSet, spawn_local},
    time::timeout,
};

use self::suite::{PASSWORD, Record, Suite};

const RECORDING: &str = "recordings/opencode-1.18.33.json";

fn run<T>(test: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { test().await })
}

async fn measure(address: SocketAddr, asks: bool) -> Record {
    let mut suite = Suite::new(address).await;
    if asks {
        suite::asking(&mut suite).await
    } else {
        suite::plain(&mut suite).await
    }
    suite.record
}

async fn real(binary: &Path, asks: bool) -> Record {
    let model = ModelServer::start().await.unwrap();
    let place = Place::new(&model.url(), asks).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port().to_string();
    let mut command = Command::new(binary);
    command.args(["serve", "--hostname", "127.0.0.1", "--port", &port]).envs(place.variables());
    command.env("OPENCODE_SERVER_PASSWORD", PASSWORD).current_dir(&place.project);
    let server = Process::start(&mut command).unwrap();
    let line = server.line("opencode server listening", 1).await;
    let (_, address) = line.split_once("http://").unwrap();
    let record = measure(address.parse().unwrap(), asks).await;
    drop(server);
    record
}

async fn fake(asks: bool) -> Record {
    let machine = sim::serve::opencode::machine(Path::new("/project"));
    let (ready, address) = oneshot::channel();
    spawn_local(async move {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        sim::serve::opencode::serve(&machine, Some(PASSWORD.into()), any, |address| {
            ready.send(address).unwrap()
        })
        .await
        .unwrap();
    });
    measure(timeout(PATIENCE, address).await.unwrap().unwrap(), asks).await
}

/// Both halves of the suite.
async fn whole(half: impl AsyncFn(bool) -> Record) -> Record {
    let mut record = half(false).await;
    record.extend(half(true).await);
    record
}

fn recorded() -> Record {
    serde_json::from_str(&std::fs::read_to_string(Path::new(tools::DIRECTORY).join(RECORDING)).unwrap())
        .unwrap()
}

#[test]
fn the_fake_does_what_was_recorded_of_the_real_server_but_for_what_is_explained() {
    let fake = run(async || whole(fake).await);
    fidelity::check(&recorded(), &fake);
}

#[test]
fn the_real_server_does_what_was_recorded() {
    let Some(binary) = tools::opencode() else { return };
    let real = run(async || whole(async |asks| real(&binary, asks).await).await);
    if std::env::var_os("CONFORMANCE_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&real).unwrap();
        std::fs::write(Path::new(tools::DIRECTORY).join(RECORDING), text + "\n").unwrap();
    }
    let differences = fidelity::differences(&recorded(), &real);
    assert!(differences.is_empty(), "{differences:#?}");
}
