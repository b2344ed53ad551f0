//! Who lives in the simulated world: the backend with the people, and for each worker its machine.

pub mod env;
pub mod launcher;
pub mod opencode;
pub mod replies;
pub mod worker;

use std::rc::Rc;

use ::worker::config::{Config, ConvexUrl};
use ::worker::env::Address;
use turmoil::Sim;

use crate::{
    opencode::{OpenCode, Options},
    scenario::{Kind, Plan, Scenario},
    seed::Seed,
    trace::{Exit, Name},
    world::{Order, RunError, observe, recorder::Recorder},
};
use env::unix_millis;
use launcher::Launcher;
use worker::{Boot, Program, WorkerHost};

/// The backend's host.
const BACKEND: &str = "convex";
/// Where it listens.
const BACKEND_PORT: u16 = 3210;

/// Settles all hosts in the network and returns the workers'.
///
/// # Errors
/// If the backend's functions cannot be loaded.
pub fn populate(
    sim: &mut Sim<'static>,
    order: &Order,
    recorder: &Recorder,
) -> Result<Vec<Rc<WorkerHost>>, RunError> {
    let scenario = &order.scenario;
    let mut workers = Vec::new();
    for index in 0..scenario.workers {
        let host = recorder.name(&format!("opencode-{}", index + 1));
        let machine = machine(scenario, order.seed, index, recorder, &host);
        let plan = Plan::draw(scenario, order.seed, index);
        let launcher = Launcher::default();
        settle_opencode(sim, host, machine, launcher.clone());
        let program = program(scenario.kind);
        let config = config(scenario, String::new());
        let worker = Rc::new(WorkerHost::new(index, program, config, launcher, order.seed, recorder));
        workers.push(Rc::clone(&worker));
        sim.host(&*worker.name.clone(), move || Rc::clone(&worker).run());
    }
    Ok(workers)
}

fn machine(scenario: &Scenario, seed: Seed, index: usize, recorder: &Recorder, host: &Name) -> OpenCode {
    let options = Options::new(seed.derive(&format!("opencode/{index}")), Rc::new(unix_millis));
    OpenCode::new(Options {
        script: replies::script(scenario.replies.clone(), seed),
        observer: observe::opencode_observer(recorder.clone(), Name::clone(host)),
        ..options
    })
}

fn settle_opencode(sim: &mut Sim<'static>, host: Name, machine: OpenCode, launcher: Launcher) {
    let name = Name::clone(&host);
    sim.host(&*host, move || opencode::run(Name::clone(&name), machine.clone(), launcher.clone()));
}

fn program(kind: Kind) -> Program {
    match kind {
        Kind::Worker | Kind::Legacy => |boot| Box::pin(ours(boot)),
    }
}

/// The worker's own entry point, as in production.
async fn ours(Boot { env, config, stop, status }: Boot) -> Exit {
    use ::worker::lifecycle::state::Exit as Ended;
    match ::worker::run(env, config, stop, status).await {
        Ended::Stopped => Exit::Stopped,
        other => Exit::Failed(format!("{other:?}")),
    }
}

fn config(scenario: &Scenario, token: String) -> Config {
    Config {
        convex_url: ConvexUrl { address: Address { host: BACKEND.into(), port: BACKEND_PORT }, tls: false },
        token: token.parse().expect("made by ourselves"),
        directory: "/srv/project".into(),
        settings: scenario.settings.clone(),
    }
}
