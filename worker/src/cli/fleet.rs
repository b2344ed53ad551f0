//! Many workers from one file: running them, reading the file again, and checking it.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use worker::{
    Stop,
    admin::{Admin, View, Workers},
    config::{
        AdminAddress, Config, ConfigError,
        fleet::Fleet,
        show::{Origins, show},
    },
    env::{
        Env,
        system::{SystemEnv, end_orphans},
    },
    lifecycle::state::Exit,
    orchestrator::{self, Roster, state::Ended, state::Wanted},
    telemetry::Status,
};

use super::{Options, code, notify};
use crate::{BUILD, fail, invalid, serve_admin, watch_signals};

/// Runs the workers of `file` until they are asked to stop, or until none of them may work.
pub(crate) async fn run(options: Options, file: PathBuf) -> ExitCode {
    let (fleet, wanted) = match read(&options, &file) {
        Ok(read) => read,
        Err(error) => return invalid(error),
    };
    let admin = match fleet.admin {
        Some(address) => match Admin::bind(address).await {
            Ok(admin) => Some(admin),
            Err(error) => return fail(code::UNAVAILABLE, &error.to_string()),
        },
        None => None,
    };
    end_orphans();
    // Before anything says that it runs: until it is watched, SIGHUP ends the process.
    let hangups = signal(SignalKind::hangup());
    let (stop, roster) = (Stop::default(), Roster::default());
    let view = View { workers: Workers::Many(roster.clone()), build: BUILD, started: SystemEnv.now() };
    let (reload, reloads) = mpsc::channel(1);
    let launch = |name: &str, config: Config, stop: Stop, status: Arc<Status>| {
        Box::pin(orchestrator::threads::launch(name, config, stop, status))
            as futures_util::future::BoxFuture<'static, Ended>
    };
    let running = orchestrator::run(&launch, wanted, reloads, stop.clone(), roster.clone());
    let given_up = tokio::select! {
        given_up = running => given_up,
        () = watch_signals(stop) => unreachable!("signals are watched for ever"),
        () = read_again(&options, &file, fleet.admin, hangups, reload) => unreachable!("the file is read again for ever"),
        () = notify::keep_informed_of_many(roster) => unreachable!("systemd is told for ever"),
        never = serve_admin(admin, view) => match never {},
    };
    notify::notify_stopped();
    exit_code(&given_up)
}

fn read(options: &Options, file: &Path) -> Result<(Fleet, Wanted), ConfigError> {
    let fleet = options.fleet(file)?;
    let wanted = fleet.validate()?;
    Ok((fleet, wanted))
}

/// Reads the file again at each SIGHUP. One that is not valid changes nothing. The listener at `admin` stays what it is.
async fn read_again(
    options: &Options,
    file: &Path,
    admin: Option<AdminAddress>,
    hangups: io::Result<Signal>,
    reload: mpsc::Sender<Wanted>,
) {
    let mut hangups = match hangups {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::error!(%error, "SIGHUP cannot be watched; the workers file is not read again");
            return std::future::pending().await;
        }
    };
    loop {
        if hangups.recv().await.is_none() {
            return std::future::pending().await;
        }
        match read(options, file) {
            Ok((fleet, wanted)) => {
                tracing::info!(workers = wanted.len(), "the workers file was read again");
                if fleet.admin != admin {
                    tracing::warn!("`admin` has changed; that takes effect when the process is started anew");
                }
                let _ = reload.send(wanted).await;
            }
            Err(error) => {
                let error = worker::config::redact(&error.to_string());
                tracing::error!(
                    error,
                    "the workers file is not valid any more; the workers go on as they are"
                );
            }
        }
    }
}

/// All ended because they were asked to, or because none may work any more: then the reason of the first counts.
fn exit_code(given_up: &[(String, Exit)]) -> ExitCode {
    match given_up.first() {
        None => ExitCode::SUCCESS,
        Some((name, exit)) => {
            let code = if *exit == Exit::Superseded { code::SUPERSEDED } else { code::REFUSED };
            let why = match exit {
                Exit::Refused(error) => error.to_string(),
                _ => "a newer process of it has taken over".to_owned(),
            };
            fail(code, &format!("no worker is left that may work; worker `{name}`: {why}"))
        }
    }
}

/// Reads and validates a file for many workers; what to print.
pub(crate) fn check(
    options: &Options,
    file: &Path,
    print: bool,
    origins: &Origins,
) -> Result<String, ConfigError> {
    let fleet = options.fleet(file)?;
    let workers = fleet.validate()?.len();
    if !print {
        return Ok(format!("the workers file is valid; it has {workers} workers"));
    }
    // The token's variable is for a single worker.
    let origins: Origins =
        origins.iter().filter(|(key, _)| **key != "token").map(|(k, o)| (*k, o.clone())).collect();
    let mut text = String::new();
    for member in &fleet.members {
        let shown = show(&member.merged, &origins).map_err(|problem| fleet.blame(member, problem))?;
        text.push_str(&format!("# worker {}\n{shown}\n", member.name));
    }
    Ok(text)
}
