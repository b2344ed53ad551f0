//! Who lives in the simulated world: the backend with the people, and for each worker its machine.

pub mod backend;
mod convex;
pub mod direct;
pub mod env;
pub mod freeze;
pub mod hostile;
pub mod launcher;
pub mod legacy;
pub mod opencode;
pub mod replies;
pub mod users;
pub mod worker;

use std::rc::Rc;

use ::worker::config::{Config, ConvexUrl};
use ::worker::env::Address;
use turmoil::Sim;

use crate::{
    error::RunError,
    faults::{
        Active,
        hooks::{OnOpencode, disturbed},
    },
    hosts::{
        backend::Backend,
        direct::Direct,
        env::unix_millis,
        hostile::Tenant,
        launcher::Launcher,
        users::{Answers, Choices, People},
        worker::{Boot, ProcessSpec, Program, WorkerHost},
    },
    observe,
    recorder::Recorder,
};
use fake_convex::Convex;
use fake_opencode::{OpenCode, Options};
use sim_model::{
    order::Order,
    plant::{EnvPlants, Plant},
    scenario::WorkerKind,
    trace::{Exit, Name},
    workload_plan::WorkloadPlan,
};

/// Where every worker works, on a machine of its own.
const DIRECTORY: &str = "/project";

/// Who lives in a world.
pub struct Hosts {
    /// The backend.
    pub convex: Convex,
    /// The workers, by number.
    pub workers: Vec<Rc<WorkerHost>>,
    /// The OpenCode of each worker's machine.
    pub opencodes: Vec<OpenCode>,
}

/// Settles all hosts in the network and returns the workers'.
///
/// # Errors
/// If the backend's functions cannot be loaded.
pub fn populate(
    sim: &mut Sim<'static>,
    order: &Order,
    recorder: &Recorder,
    active: &Active,
) -> Result<Hosts, RunError> {
    let Order { scenario, seed, .. } = order;
    let program = program(scenario.kind);
    let backend = Backend::load(order, recorder, active)?;
    let (mut people, mut direct) = (Vec::new(), Vec::new());
    let (mut machines, mut opencodes) = (Vec::new(), Vec::new());
    for index in 0..scenario.workers {
        let host = recorder.name(&format!("opencode-{}", index + 1));
        let machine = machine(order, index, recorder, &host, active);
        let plan = WorkloadPlan::draw(scenario, *seed, index);
        let sessions = backend.seed(index, scenario, &plan, &machine);
        direct.push(Direct::new(plan.direct.clone(), machine.clone()));
        let answers = Answers::of(scenario, *seed);
        let choices = Choices::of(scenario, *seed);
        people.push(People::new(backend.clone(), recorder.clone(), plan, sessions, answers, choices));
        machines.push((host, machine.clone()));
        opencodes.push(machine);
    }
    let convex = backend.convex().clone();
    let stranger = Tenant::new(backend.clone(), scenario.hostile.clone());
    spawn_backend(sim, backend, Rc::new(people), Rc::new(direct), stranger);
    let settle = |(index, machine)| spawn_worker(sim, order, recorder, program, index, machine);
    let workers = machines.into_iter().enumerate().map(settle).collect();
    Ok(Hosts { convex, workers, opencodes })
}

fn spawn_backend(
    sim: &mut Sim<'static>,
    backend: Backend,
    people: Rc<Vec<People>>,
    direct: Rc<Vec<Direct>>,
    stranger: Tenant,
) {
    sim.host(backend::HOST, move || {
        convex::run(backend.clone(), Rc::clone(&people), Rc::clone(&direct), stranger.clone())
    });
}

/// A worker's machine is two hosts: its own and its OpenCode's.
fn spawn_worker(
    sim: &mut Sim<'static>,
    order: &Order,
    recorder: &Recorder,
    program: Program,
    index: usize,
    (host, machine): (Name, OpenCode),
) -> Rc<WorkerHost> {
    let launcher = Launcher::default();
    let env_plants = EnvPlants::of(&order.plants);
    spawn_opencode(sim, host, machine, launcher.clone(), env_plants);
    let identity = if order.plants.contains(&Plant::SharedToken) { 0 } else { index };
    let config = config(order, &backend::token(identity));
    let spec = ProcessSpec { config, launcher, env_plants };
    let numbers = [index, order.scenario.workers];
    let worker = WorkerHost::new(numbers, program, spec, order.seed, recorder);
    let worker = Rc::new(worker);
    let running = Rc::clone(&worker);
    sim.host(&*worker.name, move || Rc::clone(&running).run());
    worker
}

fn machine(order: &Order, index: usize, recorder: &Recorder, host: &Name, active: &Active) -> OpenCode {
    let Order { scenario, seed, .. } = order;
    let options = Options::new(seed.derive(&format!("opencode/{index}")), Rc::new(unix_millis));
    OpenCode::new(Options {
        script: disturbed(replies::script(scenario.replies.clone(), *seed), active.clone(), index),
        faults: OnOpencode::new(active.clone(), index),
        observer: observe::opencode_observer(recorder.clone(), Name::clone(host)),
        directory: DIRECTORY.into(),
        blurs_directories: order.plants.contains(&Plant::DirectoryOff),
        ..options
    })
}

fn spawn_opencode(
    sim: &mut Sim<'static>,
    host: Name,
    machine: OpenCode,
    launcher: Launcher,
    env_plants: EnvPlants,
) {
    let name = Name::clone(&host);
    sim.host(&*host, move || {
        opencode::run(Name::clone(&name), machine.clone(), launcher.clone(), env_plants)
    });
}

fn program(kind: WorkerKind) -> Program {
    match kind {
        WorkerKind::Worker => |boot| Box::pin(ours(boot)),
        WorkerKind::Legacy => legacy::program,
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

fn config(order: &Order, token: &str) -> Config {
    let mut settings = order.scenario.settings.clone();
    order.plants.iter().for_each(|plant| plant.plant_in_settings(&mut settings));
    Config {
        convex_url: ConvexUrl::plain(Address { host: backend::HOST.into(), port: backend::PORT }),
        token: token.parse().expect("made by ourselves"),
        directory: DIRECTORY.into(),
        settings,
    }
}
