//! Both fakes and the people, each fake on a thread of its own with a runtime of its own, on loopback in real time.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    path::PathBuf,
    rc::Rc,
    sync::{Arc, mpsc as blocking},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinSet, LocalSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::RunError,
    faults::Active,
    hosts::{
        backend::{Backend, BackendSetup},
        users::{Answers, Choices, People},
    },
    load::{
        gauge::Gauge,
        opencode::{Executables, Machines, Place, RemoteDisk, SEEDS, SeedSession},
        probe::SharedProbe,
    },
    recorder::Recorder,
};
use fake_convex::{Listener, Observation};
use sim_model::{order::Order, trace::Micros, workload_plan::WorkloadPlan};
use sim_serve::unix_nanos;

/// Deep enough for parser and engine, as in simulation.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// What there is to serve.
pub(super) struct World {
    /// The scenario with its models as fast as they shall be, seed and plants.
    pub(super) order: Order,
    /// What the people of each worker do.
    pub(super) plans: Vec<WorkloadPlan>,
    /// How long a function of the backend takes.
    pub(super) execution: Duration,
    /// Whether messages say what their replies are like; otherwise the scenario does.
    pub(super) directives: bool,
    pub(super) recorder: Recorder,
    pub(super) probe: SharedProbe,
    /// Ends what people do.
    pub(super) silence: CancellationToken,
}

/// The fakes while they run. Dropping it ends them.
pub(super) struct Fakes {
    /// Where each worker finds the backend: it is known by the port it uses.
    pub(super) addresses: Vec<SocketAddr>,
    /// The OpenCode processes that each machine has now.
    executables: Vec<Executables>,
    /// How busy the backend's thread and OpenCode's are.
    pub(super) gauges: [Arc<Gauge>; 2],
    go: watch::Sender<bool>,
    silence: CancellationToken,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
    failed: blocking::Receiver<RunError>,
}

/// What every thread gets.
#[derive(Clone)]
struct Reins {
    go: watch::Receiver<bool>,
    stop: CancellationToken,
    failed: blocking::Sender<RunError>,
}

impl Fakes {
    /// Starts both; `machines` are where the executables find theirs. Time stands still until [`Fakes::go`].
    ///
    /// # Errors
    /// If the functions do not load, or the system lacks ports or threads.
    pub(super) fn start(world: World, machines: Vec<(Place, PathBuf)>) -> Result<Self, RunError> {
        let (go, started) = watch::channel(false);
        let (fail, failed) = blocking::channel();
        let reins = Reins { go: started, stop: CancellationToken::new(), failed: fail };
        let executables = machines.iter().map(|(place, _)| place.executables.clone()).collect();
        let gauges: [Arc<Gauge>; 2] = Default::default();
        let (seeds, wanted) = mpsc::channel(SEEDS);
        let silence = world.silence.clone();
        let (order, recorder, probe) = (world.order.clone(), world.recorder.clone(), world.probe.clone());
        let directives = world.directives;
        let opencode = spawn("opencode", reins.clone(), Arc::clone(&gauges[1]), move |_| {
            Ok(async move {
                let machine = Machines {
                    scenario: &order.scenario,
                    directives,
                    seed: order.seed,
                    recorder: &recorder,
                    probe: &probe,
                };
                machine.run(machines, wanted).await
            })
        })?;
        let (bound, addresses) = blocking::sync_channel(1);
        let backend = spawn("convex", reins.clone(), Arc::clone(&gauges[0]), move |go| {
            let deployed = Deployed::prepare(world, &seeds)?;
            drop(seeds);
            // Whoever waits for it gives up only with everything.
            let _ = bound.send(deployed.addresses.clone());
            Ok(deployed.run(go))
        })?;
        let threads = vec![opencode, backend];
        let Reins { stop, .. } = reins;
        let mut fakes =
            Self { addresses: Vec::new(), executables, gauges, go, silence, stop, threads, failed };
        fakes.addresses = match addresses.recv() {
            Ok(addresses) => addresses,
            Err(_) => return Err(fakes.failure().unwrap_or_else(|| host("the backend ended at once"))),
        };
        Ok(fakes)
    }

    /// Lets time begin, at `start` of the wall clock: people act, and connections are answered.
    pub(super) fn go(&self) {
        self.go.send_replace(true);
    }

    /// People do nothing any more.
    pub(super) fn silence_people(&self) {
        self.silence.cancel();
    }

    /// Why a fake ended, if one did.
    pub(super) fn failure(&self) -> Option<RunError> {
        self.failed.try_recv().ok()
    }

    /// OpenCode processes of worker `index` that are there and came until `moment`.
    pub(super) fn attached(&self, index: usize, moment: Micros) -> usize {
        self.executables[index].since(moment)
    }
}

impl Drop for Fakes {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            // A panic in it has been printed.
            let _ = thread.join();
        }
    }
}

fn host(why: &str) -> RunError {
    RunError::Host(why.to_owned())
}

/// A thread that prepares with blocking calls, and then runs what came of it until it is told to stop.
fn spawn<F, W>(name: &str, reins: Reins, gauge: Arc<Gauge>, prepare: F) -> Result<JoinHandle<()>, RunError>
where
    F: FnOnce(watch::Receiver<bool>) -> Result<W, RunError> + Send + 'static,
    W: Future<Output = io::Result<()>>,
{
    let Reins { go, stop, failed } = reins;
    let live = move || -> Result<(), RunError> {
        let system = |error: io::Error| RunError::Host(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
        let work = prepare(go)?;
        LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                ended = work => ended.map_err(system).and(Err(host("a fake ended by itself"))),
                () = gauge.watch() => unreachable!("it watches for ever"),
            }
        })
    };
    let live = move || {
        if let Err(error) = live() {
            // Nobody is there to be told any more when the run is over.
            let _ = failed.send(error);
        }
    };
    let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    builder.spawn(live).map_err(|error| host(&format!("no thread: {error}")))
}

/// The backend with its history, people and ports.
struct Deployed {
    backend: Backend,
    silence: CancellationToken,
    people: Vec<People>,
    listeners: Vec<StdListener>,
    addresses: Vec<SocketAddr>,
}

impl Deployed {
    fn prepare(world: World, seeds: &mpsc::Sender<SeedSession>) -> Result<Self, RunError> {
        let World { order, plans, execution, recorder, probe, silence, .. } = world;
        let clock = recorder.clone();
        let also = Rc::new(move |observation: &Observation<'_>| probe.convex(observation, clock.now()));
        let surroundings = BackendSetup { clock: Rc::new(unix_nanos), execution, also };
        let active = Active::new(order.seed, recorder.clone());
        let backend = Backend::load_into(surroundings, &order, &recorder, &active)?;
        let mut people = Vec::new();
        for (index, plan) in plans.into_iter().enumerate() {
            let disk = RemoteDisk { machine: index, seeds: seeds.clone() };
            let sessions = backend.seed(index, &order.scenario, &plan, &disk);
            let answers = Answers::of(&order.scenario, order.seed);
            let choices = Choices::of(&order.scenario, order.seed);
            people.push(People::new(backend.clone(), recorder.clone(), plan, sessions, answers, choices));
        }
        let listeners = (0..people.len()).map(|_| listen()).collect::<io::Result<Vec<_>>>();
        let listeners = listeners.map_err(|error| RunError::Host(format!("no port: {error}")))?;
        let addresses = listeners.iter().map(StdListener::local_addr).collect::<io::Result<_>>();
        let addresses = addresses.map_err(|error| RunError::Host(format!("no port: {error}")))?;
        Ok(Self { backend, silence, people, listeners, addresses })
    }

    async fn run(self, mut go: watch::Receiver<bool>) -> io::Result<()> {
        let mut tasks = JoinSet::new();
        if go.wait_for(|go| *go).await.is_err() {
            return Ok(());
        }
        for (index, listener) in self.listeners.into_iter().enumerate() {
            let (convex, worker) = (self.backend.convex().clone(), format!("worker-{}", index + 1));
            let listener = Port { listener: TcpListener::from_std(listener)?, worker };
            tasks.spawn_local(async move { convex.serve(listener).await });
        }
        let scheduler = self.backend.convex().clone();
        tasks.spawn_local(async move {
            scheduler.run_scheduler().await;
            Ok(())
        });
        for person in self.people {
            let silenced = self.silence.clone().cancelled_owned();
            let answering = person.clone();
            tasks.spawn_local(async move {
                answering.answer_questions().await;
                Ok(())
            });
            tasks.spawn_local(async move {
                tokio::select! {
                    () = person.live() => {}
                    () = silenced => {}
                }
                Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    }
}

fn listen() -> io::Result<StdListener> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A port of the backend that one worker uses: whoever comes there is that worker.
struct Port {
    listener: TcpListener,
    worker: String,
}

impl Listener for Port {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, String)> {
        let (stream, _) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, self.worker.clone()))
    }
}
