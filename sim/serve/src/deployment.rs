//! The fake Convex on a loopback port.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    rc::Rc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch};

use crate::{
    person::{CallFailed, Person},
    unix_nanos,
};
use fake_convex::{Convex, Identity, LoadError, NoFaults, Observation, Options, SyncOptions, sources};
use sim_model::{BACKEND_SOURCES, seed::Seed};

/// How long a function takes.
const EXECUTION: Duration = Duration::from_millis(2);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The functions' files cannot be read.
    #[error("cannot read the backend's functions in `{BACKEND_SOURCES}`: {0}")]
    Sources(io::Error),
    /// The functions do not load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The port cannot be had.
    #[error("cannot listen on {address}: {source}; choose another port with --convex-port (0 takes any)")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The demo person could not add a machine.
    #[error(transparent)]
    Machine(#[from] CallFailed),
}

/// Rings when something was written.
#[derive(Debug, Clone, Default)]
pub struct Bells {
    /// In the table of workers.
    pub workers: watch::Sender<()>,
    /// In the tables of turns and chunks.
    pub replies: watch::Sender<()>,
}

impl Bells {
    fn hear(&self, observation: &Observation<'_>) {
        let Observation::Committed { writes, .. } = observation else { return };
        let touches = |tables: &[&str]| writes.iter().any(|write| tables.contains(&&*write.table));
        if touches(&["workers"]) {
            self.workers.send_replace(());
        }
        if touches(&["turns", "chunks"]) {
            self.replies.send_replace(());
        }
    }
}

/// Enrolment is opened anew so often: before it closes.
const ENROLMENT: Duration = Duration::from_secs(10 * 60);

/// A deployment that listens, with one person and one machine of theirs.
#[derive(Debug)]
pub struct Deployment {
    /// Where it listens.
    pub address: SocketAddr,
    /// The person who owns everything.
    pub person: Person,
    /// The machine that a worker may register on.
    pub machine: String,
    /// Tell of changes.
    pub bells: Bells,
    convex: Convex,
    listener: TcpListener,
}

impl Deployment {
    /// Loads the functions, listens on `port` of loopback (0: any) and lets the person add a machine.
    ///
    /// # Errors
    /// If the functions do not load or the port is taken.
    pub async fn open(port: u16) -> Result<Self, ServeError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listen = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let bells = Bells::default();
        let convex = load(bells.clone())?;
        let person = Person::new(convex.clone(), Identity::new("https://people.example", "demo"));
        let machine = person.create_machine("demo").await?;
        person.open_enrolment(&machine).await?;
        Ok(Self { address, person, machine, bells, convex, listener })
    }

    /// Answers connections and runs scheduled functions and crons, until the listener fails.
    ///
    /// # Errors
    /// If no connection can be accepted any more.
    pub async fn run(self) -> io::Result<()> {
        let enrolment = async {
            loop {
                tokio::time::sleep(ENROLMENT).await;
                if let Err(failed) = self.person.open_enrolment(&self.machine).await {
                    return io::Error::other(failed);
                }
            }
        };
        tokio::select! {
            ended = self.convex.serve(self.listener) => ended,
            failed = enrolment => Err(failed),
            () = self.convex.run_scheduler() => unreachable!("there is always something to schedule"),
        }
    }
}

fn load(bells: Bells) -> Result<Convex, ServeError> {
    let sources = sources::read_directory(Path::new(BACKEND_SOURCES)).map_err(ServeError::Sources)?;
    let options = Options {
        faults: Rc::new(NoFaults),
        seed: Seed::from_system().0,
        clock: Rc::new(unix_nanos),
        execution_latency: EXECUTION,
        sync: SyncOptions::default(),
        observer: Rc::new(move |observation| bells.hear(observation)),
    };
    Ok(Convex::load(&sources, options)?)
}
