//! The machines' OpenCode, on a thread of its own: a server for each executable that asks for one ([`crate::load::stand_in`]).

use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    hosts::{backend::Disk, replies},
    load::{probe::SharedProbe, stand_in::Wish},
    observe,
    recorder::Recorder,
};
use fake_opencode::{OpenCode, Options, Script, by_directives};
use sim_model::{
    scenario::Scenario,
    seed::Seed,
    trace::{Micros, Name},
};
use sim_serve::{opencode::answer, unix_nanos};

/// The longest wish (bytes): a password and some words.
const MAX_WISH: u64 = 4096;
/// Requests to write a session from before the run that may wait.
pub(super) const SEEDS: usize = 16;

/// One machine, before it runs.
pub(super) struct Place {
    pub(super) listener: std::os::unix::net::UnixListener,
    pub(super) executables: Executables,
}

impl Place {
    /// A machine whose executables find it at `socket`.
    pub(super) fn new(socket: &Path) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, executables: Executables::default() })
    }
}

/// A session from before the run, for machine number `machine`.
pub(super) struct SeedSession {
    machine: usize,
    title: String,
    created_ms: u64,
    id: oneshot::Sender<String>,
}

/// The disk of a machine that lives on another thread. To be used outside any runtime.
pub(super) struct RemoteDisk {
    pub(super) machine: usize,
    pub(super) seeds: mpsc::Sender<SeedSession>,
}

impl Disk for RemoteDisk {
    fn seed_session(&self, title: &str, created_ms: u64) -> String {
        let (id, written) = oneshot::channel();
        let seed = SeedSession { machine: self.machine, title: title.to_owned(), created_ms, id };
        let sent = self.seeds.blocking_send(seed).is_ok();
        written.blocking_recv().ok().filter(|_| sent).expect("the machines outlive the preparations")
    }
}

/// What decides how the machines answer.
pub(super) struct Machines<'a> {
    pub(super) scenario: &'a Scenario,
    /// Whether messages say what their replies are like; otherwise the scenario does.
    pub(super) directives: bool,
    pub(super) seed: Seed,
    pub(super) recorder: &'a Recorder,
    pub(super) probe: &'a SharedProbe,
}

impl Machines<'_> {
    fn script(&self) -> Script {
        if self.directives {
            return Rc::new(by_directives);
        }
        replies::script(self.scenario.replies.clone(), self.seed)
    }

    fn machine(&self, index: usize, directory: PathBuf) -> OpenCode {
        let clock = Rc::new(|| unix_nanos() / 1_000_000);
        let options = Options::new(self.seed.derive(&format!("opencode/{index}")), clock);
        let host = self.recorder.name(&format!("opencode-{}", index + 1));
        let facts = observe::opencode_observer(self.recorder.clone(), Name::clone(&host));
        let (probe, recorder) = (self.probe.clone(), self.recorder.clone());
        OpenCode::new(Options {
            script: self.script(),
            observer: Rc::new(move |observation| {
                facts(observation);
                probe.opencode(&host, observation, recorder.now());
            }),
            directory: directory.to_string_lossy().into_owned(),
            ..options
        })
    }

    /// Runs all machines for ever. Call it inside a `LocalSet`.
    pub(super) async fn run(
        &self,
        places: Vec<(Place, PathBuf)>,
        mut seeds: mpsc::Receiver<SeedSession>,
    ) -> io::Result<()> {
        let mut tasks = JoinSet::new();
        let mut machines = Vec::new();
        for (index, (place, directory)) in places.into_iter().enumerate() {
            let machine = self.machine(index, directory);
            machines.push(machine.clone());
            let listener = UnixListener::from_std(place.listener)?;
            let recorder = self.recorder.clone();
            tasks.spawn_local(async move {
                serve_executables(&machine, &listener, &place.executables, &recorder).await
            });
        }
        loop {
            tokio::select! {
                Some(SeedSession { machine, title, created_ms, id }) = seeds.recv() => {
                    // Whoever asked may be gone when the run is given up.
                    let _ = id.send(machines[machine].seed_session(&title, created_ms));
                }
                Some(ended) = tasks.join_next() => ended.map_err(io::Error::other)??,
                else => return Ok(()),
            }
        }
    }
}

/// Answers the executables of one machine for ever.
async fn serve_executables(
    machine: &OpenCode,
    listener: &UnixListener,
    executables: &Executables,
    recorder: &Recorder,
) -> io::Result<()> {
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                serving.spawn_local(fulfil(machine.clone(), stream, executables.enter(recorder.now())));
            }
            Some(_) = serving.join_next() => {}
        }
    }
}

/// The executables that are there now: when each came.
#[derive(Debug, Clone, Default)]
pub(super) struct Executables(Arc<Mutex<Vec<Micros>>>);

impl Executables {
    fn enter(&self, since: Micros) -> Attached {
        self.lock(|all| all.push(since));
        Attached { executables: self.clone(), since }
    }

    /// How many there are that came until `moment`.
    pub(super) fn since(&self, moment: Micros) -> usize {
        self.lock(|all| all.iter().filter(|since| **since <= moment).count())
    }

    fn lock<T>(&self, look: impl FnOnce(&mut Vec<Micros>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An executable while it is there.
struct Attached {
    executables: Executables,
    since: Micros,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.executables.lock(|all| {
            let place = all.iter().position(|since| *since == self.since);
            if let Some(place) = place {
                all.swap_remove(place);
            }
        });
    }
}

/// Does what one executable asks, until it is gone. One that dies in the middle ends it early, which is as it should be.
async fn fulfil(machine: OpenCode, stream: UnixStream, _attached: Attached) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    (&mut reader).take(MAX_WISH).read_line(&mut line).await?;
    match serde_json::from_str(&line)? {
        Wish::Models => writer.write_all((machine.models().join("\n") + "\n").as_bytes()).await,
        Wish::Serve { password } => {
            let server = machine.start(password);
            let gone = async move { reader.read_u8().await.map(|_| ()) };
            tokio::select! {
                result = gone => result,
                result = async {
                    server.ready().await;
                    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                    let ready = format!("opencode server listening on http://{}\n", listener.local_addr()?);
                    writer.write_all(ready.as_bytes()).await?;
                    answer(&server, &listener).await
                } => result,
            }
        }
    }
}
