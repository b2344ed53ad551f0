//! The fake Convex with its person, the scripted model and a home for OpenCode: everything but the worker.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
    time::Duration,
};

use conformance::{
    model::{ModelServer, reply_text},
    place::Place,
    process::{PATIENCE, Process},
    tools,
};
use sim_serve::{
    deployment::Deployment,
    person::{Person, Turn},
};
use tokio::{
    process::Command,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep},
};

/// How long a process that should end with its parent may take.
pub(crate) const END: Duration = Duration::from_secs(5);

/// The binary, built as this test is. With this crate beside it, so that both are built with the same features; and
/// without what cargo tells a test about its package, which would have `ring` and all above it built again.
static WORKER: LazyLock<PathBuf> = LazyLock::new(|| {
    let build = escargot::CargoBuild::new().package("worker").arg("--package=conformance").bin("worker");
    let about_us = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_"));
    let build = about_us.fold(build, |build, (name, _)| build.env_remove(name));
    let build = build.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    build.current_release().run().expect("the worker builds").path().to_owned()
});

pub(crate) struct World {
    pub(crate) model: ModelServer,
    pub(crate) place: Place,
    pub(crate) person: Person,
    binary: PathBuf,
    convex: String,
    token: String,
    /// Lines of the worker's config file; a section `[opencode]` stands last.
    config: &'static str,
}

/// Runs a test against the real OpenCode, if that is installed.
pub(crate) fn run(config: &'static str, asks: bool, test: impl AsyncFnOnce(&World)) {
    let Some(binary) = tools::opencode() else { return };
    LazyLock::force(&WORKER);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let world = World::new(binary, config, asks).await;
        test(&world).await;
        assert_eq!(world.place.is_left(END).await, Ok(()), "processes outlive the worker");
    });
}

/// The same with a worker that runs from the beginning to the end, and a session of it.
pub(crate) fn run_session(config: &'static str, asks: bool, test: impl AsyncFnOnce(&World, &str)) {
    run(config, asks, async |world| {
        let worker = world.worker().await;
        let session = world.session("a chat").await;
        test(world, &session).await;
        stop(worker).await;
    });
}

impl World {
    async fn new(binary: PathBuf, config: &'static str, asks: bool) -> Self {
        let model = ModelServer::start().await.unwrap();
        let place = Place::new(&model.url(), asks).unwrap();
        let deployment = Deployment::open(0).await.unwrap();
        let person = deployment.person.clone();
        let convex = format!("http://{}", deployment.address);
        let token = format!("{}:worker_real:0123456789abcdef0123456789abcdef", deployment.machine);
        spawn_local(async move { deployment.run().await.unwrap() });
        Self { model, place, person, binary, convex, token, config }
    }

    /// Starts a worker and waits until it is ready; the person approves it if it is new.
    pub(crate) async fn worker(&self) -> Process {
        let config = self.place.root().join("worker.toml");
        let patient = if self.config.contains("[opencode]") { "" } else { "[opencode]\n" };
        let patient = format!("{}\n{patient}startup_timeout = '120s'\n", self.config);
        std::fs::write(&config, patient).unwrap();
        let mut command = Command::new(&*WORKER);
        command
            .args(["run", "--log-format", "json", "--convex-url", &self.convex, "--config"])
            .arg(config)
            .arg("--opencode")
            .arg(&self.binary)
            .arg("--directory")
            .arg(&self.place.project)
            .envs(self.place.variables())
            .env("WORKER_TOKEN", &self.token)
            .env_remove("RUST_LOG");
        let worker = Process::start(&mut command).unwrap();
        let known = async {
            loop {
                if let Some(worker) = self.person.workers().await.unwrap().pop() {
                    return worker;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let record = tokio::time::timeout(PATIENCE, known).await.expect("the worker registers");
        if record.approval == "pending" {
            self.person.approve(&record.id).await.unwrap();
        }
        worker.line(r#""to":"Ready""#, 1).await;
        worker
    }

    pub(crate) async fn session(&self, title: &str) -> String {
        let worker = self.person.workers().await.unwrap().pop().unwrap();
        self.person.start_session(&worker.id, title).await.unwrap()
    }

    /// Somebody works with OpenCode by hand in `directory`: makes a session with this title.
    pub(crate) async fn by_hand(&self, directory: &Path, title: &str) {
        let mut command = Command::new(&self.binary);
        command
            .args(["run", "--model", "fake/m1", "--title", title, "by hand"])
            .current_dir(directory)
            .env("PWD", directory)
            .envs(self.place.variables());
        let output = command.stdin(Stdio::null()).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until a session with this title is there.
    pub(crate) async fn has_session(&self, title: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.person.titles().await.unwrap().iter().any(|found| found == title) {
            assert!(Instant::now() < end, "no session is called `{title}`");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a turn has ended.
    pub(crate) async fn ended(&self, session: &str, turn: &str) -> Turn {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.person.turn(session, turn).await.unwrap();
            if found.ended_at.is_some() {
                return found;
            }
            assert!(Instant::now() < end, "the turn does not end: {found:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Prompts for a reply that never ends, and waits until it has begun.
    pub(crate) async fn hang(&self, session: &str, text: &str) -> String {
        let turn = self.person.send(session, text).await.unwrap();
        self.streamed(&turn, 100).await;
        turn
    }

    /// Waits until at least `bytes` of a reply are stored.
    async fn streamed(&self, turn: &str, bytes: usize) {
        let end = Instant::now() + PATIENCE;
        while self.stored(turn).await.len() < bytes {
            assert!(Instant::now() < end, "the reply does not come");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is stored of a reply.
    pub(crate) async fn stored(&self, turn: &str) -> String {
        let (mut text, mut cursor) = (String::new(), None::<String>);
        loop {
            let page = self.person.chunks(turn, cursor.as_deref()).await.unwrap();
            text.extend(page.page.iter().map(|chunk| chunk.text.as_str()));
            if page.is_done {
                return text;
            }
            cursor = Some(page.continue_cursor);
        }
    }

    /// Sends a message, waits for its end and checks that it was answered, in full and once.
    pub(crate) async fn is_answered(&self, session: &str, text: &str) {
        let turn = self.person.send(session, text).await.unwrap();
        self.was_answered(session, &turn, text).await;
    }

    pub(crate) async fn was_answered(&self, session: &str, turn: &str, text: &str) {
        let ended = self.ended(session, turn).await;
        assert_eq!((ended.state.as_str(), &ended.error), ("completed", &None), "{text}");
        assert_eq!(self.stored(turn).await, reply_text(text));
        assert_eq!(self.model.times(text), 1, "{text} was prompted more than once");
    }

    /// Waits for the end of a turn that must not complete; returns the code that says why.
    pub(crate) async fn is_not_answered(&self, session: &str, turn: &str) -> String {
        let ended = self.ended(session, turn).await;
        let error = ended.error.expect("a turn that did not complete says why");
        assert_ne!(ended.state, "completed");
        error.code
    }

    /// Waits until a tool's command runs.
    pub(crate) async fn runs(&self, command: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.is_running(command) {
            assert!(Instant::now() < end, "`{command}` does not run");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it runs no more.
    pub(crate) async fn ran(&self, command: &str) {
        let end = Instant::now() + END;
        while self.is_running(command) {
            assert!(Instant::now() < end, "`{command}` goes on");
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn is_running(&self, command: &str) -> bool {
        let lines = self.place.processes().into_iter().filter_map(conformance::place::command_line);
        lines.into_iter().any(|line| line.contains(command))
    }

    /// The number of the OpenCode server.
    pub(crate) fn opencode(&self) -> u32 {
        let serves = |process: &u32| {
            conformance::place::command_line(*process).is_some_and(|line| line.contains(" serve --hostname"))
        };
        let servers: Vec<_> = self.place.processes().into_iter().filter(serves).collect();
        assert_eq!(servers.len(), 1, "one OpenCode runs");
        servers[0]
    }
}

/// Ends a worker as a service manager does.
pub(crate) async fn stop(mut worker: Process) {
    worker.signal("TERM").await;
    assert_eq!(worker.wait().await, Some(0));
}
