//! `sim serve`: both fakes on loopback, for a worker that somebody starts beside them.

use std::{io, io::IsTerminal as _, rc::Rc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use worker::env::{Env as _, system::SystemEnv};

use crate::cli::{exit::Exit, terminal};
use sim_serve::{
    approver::Approver,
    chat::{Chat, Tally, Wish},
    deployment::{Bells, Deployment},
    guide::{self, Guide},
    opencode::Installation,
    person::Person,
    screen::Screen,
};

/// Lines that may wait to be read.
const LINES: usize = 64;

/// What to serve, and for how long.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The port of the fake Convex, on loopback; 0 takes any.
    #[arg(long, value_name = "PORT", default_value_t = 3210)]
    convex_port: u16,
    /// Sessions of the demo person; messages go to them in turn.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    sessions: u16,
    /// Leave the worker waiting for approval, until /approve is typed.
    #[arg(long, conflicts_with = "message")]
    no_approve: bool,
    /// Send this when the worker is there, show the reply and exit: 0 if all completed, else 11 (may be given several
    /// times).
    #[arg(long, value_name = "TEXT")]
    message: Vec<String>,
    /// How long the messages may take in all, with the start of the worker.
    #[arg(long, value_name = "DURATION", default_value = "60s", requires = "message", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Serve so long, then exit.
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "message", value_parser = humantime::parse_duration)]
    lasting: Option<Duration>,
}

/// Serves until it is told to end, or until all messages are answered.
pub(super) fn serve(args: &ServeArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, live(args))
}

async fn live(args: &ServeArgs) -> anyhow::Result<Exit> {
    let deployment = Deployment::open(args.convex_port).await?;
    let simulator = std::env::current_exe().context("cannot find the simulator's own executable")?;
    let opencode = Installation::new(&simulator).context("cannot set up a place for OpenCode")?;
    let guide = Guide {
        convex: deployment.address,
        machine: &deployment.machine,
        secret: &secret(),
        opencode: &opencode.binary,
        directory: &opencode.directory,
    };
    terminal::say(&guide.text());
    if args.message.is_empty() {
        terminal::say(guide::CHAT);
    }
    let (person, bells) = (deployment.person.clone(), deployment.bells.clone());
    tokio::select! {
        ended = deployment.run() => ended.map(|()| Exit::Internal).context("the fake Convex ended"),
        exit = interact(args, person, bells) => exit,
    }
}

/// The part that people see.
async fn interact(args: &ServeArgs, person: Person, bells: Bells) -> anyhow::Result<Exit> {
    let screen = Screen::new(Rc::new(terminal::write), Rc::new(terminal::write_error));
    let approver = Approver::new(person.clone(), bells.clone(), screen.clone(), !args.no_approve);
    let chat = Chat { person, bells, screen, sessions: usize::from(args.sessions), worker: approver.first() };
    let exit = async {
        match &args.message[..] {
            [] => by_hand(&chat, args.lasting).await,
            messages => all_answered(&chat, messages, args.timeout).await,
        }
    };
    tokio::select! {
        never = approver.watch() => match never? {},
        exit = exit => exit,
        () = interrupted() => Ok(if args.message.is_empty() { Exit::Passed } else { Exit::Interrupted }),
    }
}

/// Sends the messages and waits for their ends.
async fn all_answered(chat: &Chat, messages: &[String], timeout: Duration) -> anyhow::Result<Exit> {
    let (wish, mut wishes) = mpsc::channel(messages.len());
    for message in messages {
        wish.try_send(Wish::Say(message.clone())).expect("there is room for all");
    }
    drop(wish);
    let tally = watch::Sender::new(Tally::default());
    let ended = tokio::time::timeout(timeout, chat.talk(&mut wishes, &tally)).await;
    let Tally { completed, not_completed, .. } = *tally.borrow();
    let all = messages.len();
    match ended {
        Ok(talked) => talked?,
        Err(_) => terminal::complain(&format!(
            "error: {} of {all} messages had no end within {}; is the worker running?",
            all - completed - not_completed,
            humantime::format_duration(timeout),
        )),
    }
    Ok(if completed == all { Exit::Passed } else { Exit::Liveness })
}

/// Chats as long as somebody types, and serves until the end.
async fn by_hand(chat: &Chat, lasting: Option<Duration>) -> anyhow::Result<Exit> {
    let quit = CancellationToken::new();
    let mut wishes = read_lines(quit.clone());
    let tally = watch::Sender::new(Tally::default());
    let talk = async {
        chat.talk(&mut wishes, &tally).await?;
        std::future::pending::<anyhow::Result<Exit>>().await
    };
    tokio::select! {
        ended = talk => ended,
        () = quit.cancelled() => Ok(Exit::Passed),
        () = over(lasting) => Ok(Exit::Passed),
    }
}

/// Reads standard input on a thread of its own, for a read cannot be given up. Its end is the end at a terminal only.
fn read_lines(quit: CancellationToken) -> mpsc::Receiver<Wish> {
    let (wish, wishes) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let Ok(line) = line else { break };
            match Wish::read(&line) {
                Ok(Some(Wish::Quit)) => return quit.cancel(),
                Ok(None) => {}
                Ok(Some(said)) => {
                    if wish.blocking_send(said).is_err() {
                        return;
                    }
                }
                Err(explanation) => terminal::complain(&explanation),
            }
        }
        if io::stdin().is_terminal() {
            quit.cancel();
        }
    });
    wishes
}

async fn over(lasting: Option<Duration>) {
    match lasting {
        Some(lasting) => sleep(lasting).await,
        None => std::future::pending().await,
    }
}

/// Resolves on Ctrl-C and on SIGTERM.
async fn interrupted() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn secret() -> String {
    let mut bytes = [0; 24];
    SystemEnv.random(&mut bytes);
    hex::encode(bytes)
}
