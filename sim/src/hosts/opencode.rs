//! The machine's OpenCode: starts servers for the worker of the same machine.

use std::time::Duration;

use tokio::{sync::watch, task::JoinSet};
use worker::env::Address;

use crate::{
    engine::network::{CloseDeferred, Listener},
    hosts::launcher::{LaunchRequest, Launcher, Leash, SimServer},
};
use fake_opencode::{OpenCode, Server};
use sim_model::{plant::EnvPlants, trace::Name};

/// Servers listen from here on, each on a port of its own as the system would give them.
const FIRST_PORT: u16 = 4096;
/// So many ports are used in turn; all are below the ephemeral ones.
const PORTS: u16 = 10_000;

/// Runs the host called `name` for ever.
///
/// # Errors
/// None; the signature is turmoil's.
pub async fn run(
    name: Name,
    machine: OpenCode,
    launcher: Launcher,
    env_plants: EnvPlants,
) -> turmoil::Result {
    let _close_deferred = CloseDeferred;
    let mut requests = launcher.open();
    let mut servers = JoinSet::new();
    let mut started: u16 = 0;
    let _eager = env_plants.eager_server.then(|| machine.start(None));
    loop {
        tokio::select! {
            Some(request) = requests.recv() => {
                let address = Address { host: name.to_string(), port: FIRST_PORT + started % PORTS };
                started = started.wrapping_add(1);
                let crash = launcher.crashes();
                servers.spawn_local(process(machine.clone(), request, address, env_plants, crash));
            }
            Some(ended) = servers.join_next() => ended?,
            else => return Ok(()),
        }
    }
}

/// One server process, from its start to its end.
async fn process(
    machine: OpenCode,
    request: LaunchRequest,
    address: Address,
    env_plants: EnvPlants,
    mut crash: watch::Receiver<u64>,
) {
    let LaunchRequest { password, mut answer } = request;
    let server = machine.start(Some(password));
    tokio::select! {
        () = server.ready() => {}
        () = answer.closed() => return,
        Ok(()) = crash.changed() => return,
    }
    let listener = Listener::bind(address.port).await.expect("each server has a port of its own");
    let (handle, Leash { exited, stop }) = SimServer::new(address);
    if answer.send(handle).is_err() {
        return;
    }
    let status = tokio::select! {
        asked = stop => if asked.is_ok() { "exit status: 0" } else { "killed by signal 9" },
        Ok(()) = crash.changed() => "killed by signal 11",
        () = serve(&server, &listener) => unreachable!("a listener listens for ever"),
    };
    if env_plants.orphan_server {
        end(&exited, status);
        serve(&server, &listener).await;
    }
    drop(server);
    end(&exited, status);
}

fn end(exited: &watch::Sender<Option<String>>, status: &str) {
    exited.send_replace(Some(status.to_owned()));
}

async fn serve(server: &Server, listener: &Listener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn_local(server.serve_connection(stream)); }
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
