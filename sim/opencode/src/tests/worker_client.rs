//! The worker's own client and its parser of events, against the fake.

use std::{io, path::Path, rc::Rc, time::Duration};

use tokio::{io::DuplexStream, sync::mpsc, task::JoinHandle};
use worker::{
    env::{Address, Env, Launch, LaunchError, ServerProcess, UnixMillis},
    opencode::{Client, ModelRef, OpencodeSessionId, events, prompt_id},
};

use super::world::{EPOCH, World, run};

/// Connects to the fake over pipes: the far ends go to whoever accepts them.
#[derive(Clone)]
struct Pipes(mpsc::Sender<DuplexStream>);

struct NoProcess;

impl ServerProcess for NoProcess {
    fn address(&self) -> Address {
        Address { host: "opencode".into(), port: 4096 }
    }

    async fn exited(&mut self) -> String {
        std::future::pending().await
    }

    async fn stop(self, _grace: Duration) {}
}

impl Env for Pipes {
    type Stream = DuplexStream;
    type Server = NoProcess;

    async fn connect(&self, _address: &Address) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        self.0.send(far).await.map_err(io::Error::other)?;
        Ok(near)
    }

    async fn launch(&self, _launch: Launch) -> Result<NoProcess, LaunchError> {
        Ok(NoProcess)
    }

    fn now(&self) -> UnixMillis {
        EPOCH
    }

    fn random(&self, buffer: &mut [u8]) {
        buffer.fill(7);
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) -> JoinHandle<()> {
        tokio::task::spawn_local(task)
    }
}

fn connect(world: &Rc<World>) -> (Pipes, Client) {
    let (sender, mut accepted) = mpsc::channel(16);
    let server = world.clone();
    tokio::task::spawn_local(async move {
        while let Some(stream) = accepted.recv().await {
            let connection = server.server.borrow().as_ref().expect("a server runs").serve_connection(stream);
            tokio::task::spawn_local(connection);
        }
    });
    let pipes = Pipes(sender);
    let password = String::from("unused").into();
    let directory = Path::new("/project");
    let client =
        Client::new(pipes.clone(), NoProcess.address(), directory, &password, Duration::from_secs(10));
    (pipes, client)
}

#[test]
fn the_workers_client_understands_every_answer_and_its_parser_every_event() {
    run(async |world| {
        let (pipes, client) = connect(&world);
        let stream = world.listen("/event").await;
        assert!(client.health().await.unwrap().healthy);
        let models = client.models().await.unwrap();
        let model = ModelRef { provider: "fake".into(), model: "m2".into() };
        assert!(models.contains(&model), "{models:?}");
        let session = client.create_session("by the worker", Some(&model)).await.unwrap();
        let id = OpencodeSessionId::new(session.id.as_str()).unwrap();
        assert_eq!(client.session(&id).await.unwrap().id, session.id);

        let message = prompt_id::new(&pipes);
        client.prompt_async(&id, &message, "hello [[deltas=3 tool=1]]", Some(&model)).await.unwrap();
        assert_eq!(client.statuses().await.unwrap().len(), 1);
        world.settle().await;
        let stored = world.machine.messages(id.as_str());
        assert_eq!(stored[0].id, message, "the worker chose the id");
        assert_eq!(client.messages(&id, 10).await.unwrap().len(), 3);
        client.abort(&id).await.unwrap();

        for event in stream.take() {
            events::parse(event.to_string()).unwrap_or_else(|error| panic!("{error}: {event}"));
        }
        assert!(world.heard("Refused").is_empty());
    });
}
