//! How a simulated worker starts an OpenCode server: it asks the host that plays the machine's OpenCode.
//!
//! A process is started, watched and killed by its parent without a network. So this goes by channels between the two
//! hosts, not by messages.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use secrecy::ExposeSecret as _;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use worker::env::{Address, Launch, LaunchError, ServerProcess};

/// Launches that may wait at once; a worker runs one server at a time.
const QUEUE: usize = 4;

/// The worker's end. Clones share it.
#[derive(Clone, Default)]
pub struct Launcher {
    requests: Arc<Mutex<Option<mpsc::Sender<LaunchRequest>>>>,
    crashes: watch::Sender<u64>,
}

/// Someone wants a server.
pub struct LaunchRequest {
    /// What clients must present.
    pub password: String,
    /// Where the ready server goes. It is closed when nobody wants it any more.
    pub answer: oneshot::Sender<SimServer>,
}

impl Launcher {
    /// The machine's end. The one before is closed.
    #[must_use]
    pub fn open(&self) -> mpsc::Receiver<LaunchRequest> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Lets every server of the machine die.
    pub fn crash(&self) {
        self.crashes.send_modify(|count| *count += 1);
    }

    /// Changes whenever every server of the machine dies.
    #[must_use]
    pub fn crashes(&self) -> watch::Receiver<u64> {
        self.crashes.subscribe()
    }

    /// Starts a server, as `Env::launch` says.
    pub(super) async fn launch(&self, launch: Launch) -> Result<SimServer, LaunchError> {
        let exited = |status: &str| LaunchError::Exited {
            binary: launch.binary.display().to_string(),
            status: status.into(),
            output: String::new(),
        };
        let sender = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sender) = sender else { return Err(exited("the machine is down")) };
        let (answer, ready) = oneshot::channel();
        let password = launch.password.expose_secret().to_owned();
        let request = LaunchRequest { password, answer };
        sender.send(request).await.map_err(|_| exited("the machine is down"))?;
        match timeout(launch.startup_timeout, ready).await {
            Ok(Ok(server)) => Ok(server),
            Ok(Err(_)) => Err(exited("exit status: 1")),
            Err(_) => Err(LaunchError::Timeout {
                binary: launch.binary.display().to_string(),
                waited: launch.startup_timeout,
            }),
        }
    }
}

/// A running server, as its parent sees it. Dropping it kills the process.
pub struct SimServer {
    address: Address,
    exited: watch::Receiver<Option<String>>,
    /// Sent to ask it to end; closed without, it is killed.
    stop: Option<oneshot::Sender<()>>,
}

/// The same, as the machine sees it.
pub struct Leash {
    /// Says how the process ended. Dropping it says that it was killed.
    pub exited: watch::Sender<Option<String>>,
    /// Resolves with a message when the process is asked to end, with an error when it is killed.
    pub stop: oneshot::Receiver<()>,
}

impl SimServer {
    /// A server that listens at `address`, and the machine's end of it.
    #[must_use]
    pub fn new(address: Address) -> (Self, Leash) {
        let (says, exited) = watch::channel(None);
        let (asks, stop) = oneshot::channel();
        (Self { address, exited, stop: Some(asks) }, Leash { exited: says, stop })
    }
}

impl ServerProcess for SimServer {
    fn address(&self) -> Address {
        self.address.clone()
    }

    async fn exited(&mut self) -> String {
        let status = self.exited.wait_for(Option::is_some).await;
        status.ok().and_then(|status| status.clone()).unwrap_or_else(|| "killed by signal 9".into())
    }

    async fn stop(mut self, grace: Duration) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = timeout(grace, self.exited()).await;
    }
}
