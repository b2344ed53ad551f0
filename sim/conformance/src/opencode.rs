//! The fake OpenCode against the real one: the same requests and prompts, compared step by step.
//!
//! What the real one did is kept in `recordings/`, so that the fake is measured also where the real one is not installed.
//! It asks and answers beside its turns, so events are compared in streams, each in its exact order.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::{fs, io, net::SocketAddr, path::Path};

use tokio::{
    net::TcpListener,
    process::Command,
    sync::oneshot,
    task::{LocalSet, spawn_local},
    time::timeout,
};

use self::suite::{PASSWORD, Record, Suite};
use crate::{
    model::ModelServer,
    place::Place,
    process::{PATIENCE, Process},
    tools,
};

pub mod fidelity;
mod shape;
mod steps;
pub mod suite;

const RECORDING: &str = "recordings/opencode-1.18.33.json";

/// Measures the fake.
///
/// # Panics
/// If it does not do what the suite needs to go on.
#[must_use]
pub fn fake() -> Record {
    run(async || whole(fake_half).await)
}

/// Measures the real server.
///
/// # Panics
/// If it does not do what the suite needs to go on.
#[must_use]
pub fn real(binary: &Path) -> Record {
    run(async || whole(async |asks| real_half(binary, asks).await).await)
}

/// What the real server did when it was recorded.
///
/// # Panics
/// If the recording is not there.
#[must_use]
pub fn recorded() -> Record {
    let text = fs::read_to_string(Path::new(tools::DIRECTORY).join(RECORDING)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Keeps what the real server does.
///
/// # Errors
/// If it cannot be written.
pub fn keep(real: &Record) -> io::Result<()> {
    let text = serde_json::to_string_pretty(real).expect("strings print");
    fs::write(Path::new(tools::DIRECTORY).join(RECORDING), text + "\n")
}

fn run<T>(work: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { work().await })
}

/// Both halves of the suite.
async fn whole(half: impl AsyncFn(bool) -> Record) -> Record {
    let mut record = half(false).await;
    record.extend(half(true).await);
    record
}

async fn measure(address: SocketAddr, asks: bool) -> Record {
    let mut suite = Suite::new(address).await;
    if asks {
        steps::asking(&mut suite).await
    } else {
        steps::plain(&mut suite).await
    }
    suite.record
}

async fn real_half(binary: &Path, asks: bool) -> Record {
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

async fn fake_half(asks: bool) -> Record {
    let machine = sim_serve::opencode::machine(Path::new("/project"));
    let (ready, address) = oneshot::channel();
    spawn_local(async move {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        sim_serve::opencode::serve(&machine, Some(PASSWORD.into()), any, |address| {
            ready.send(address).unwrap()
        })
        .await
        .unwrap();
    });
    measure(timeout(PATIENCE, address).await.unwrap().unwrap(), asks).await
}
