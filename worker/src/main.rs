//! The `worker` binary: logs, signals, exit codes.

mod cli;

use std::{
    convert::Infallible,
    io::{self, IsTerminal, Write},
    panic::{self, PanicHookInfo},
    process::ExitCode,
    sync::Arc,
};

use clap::CommandFactory;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};
use worker::{
    Stop,
    admin::{Admin, BindError, View, Workers, metrics::Build},
    config::{Config, ConfigError, file::Merged, redact, show::show},
    env::{
        Env,
        system::{SystemEnv, end_orphans, hide_process},
    },
    lifecycle::state::Exit,
    telemetry::Status,
};

use self::cli::{Cli, Command, LogFormat, code, init::InitError};

const BUILD: Build = Build { version: env!("CARGO_PKG_VERSION"), commit: env!("WORKER_COMMIT") };

fn main() -> ExitCode {
    // Before there is a secret that somebody could see.
    let hidden = hide_process();
    let command = Cli::read().command;
    let format = match &command {
        Command::Run(options) => options.log_format,
        _ => LogFormat::Auto,
    };
    match command {
        Command::Run(options) => {
            start_logging(format, "info,convex=warn");
            if let Err(error) = hidden {
                tracing::warn!(%error, "other processes of this user, OpenCode's tools among them, can read the token");
            }
            if let Some(file) = options.workers.clone() {
                return block_on(cli::fleet::run(options, file));
            }
            options.merge().and_then(Merged::validate).map_or_else(invalid, run)
        }
        Command::Check { options, print } => {
            if let Some(file) = options.workers.clone() {
                let checked = cli::fleet::check(&options, &file, print, &options.origins);
                return checked.map_or_else(invalid, |text| finish(text.trim_end()));
            }
            let origins = options.origins.clone();
            let checked = options.merge().and_then(|merged| show(&merged, &origins));
            let done = |text: String| if print { text } else { "the config is valid".to_owned() };
            checked.map_or_else(invalid, |text| finish(done(text).trim_end()))
        }
        Command::Init(options) => {
            cli::init::init(&options).map_or_else(|error| not_written(&error), |told| finish(&told))
        }
        Command::Models(options) => {
            start_logging(format, "error");
            block_on(cli::models::show(options))
        }
        Command::Health(options) => block_on(cli::health::ask(options)),
        Command::Doctor(options) => {
            start_logging(format, "error");
            block_on(async {
                ExitCode::from(cli::doctor::examine(options, |finding| drop(say(&finding.to_string()))).await)
            })
        }
        Command::Opencode(arguments) => cli::opencode::run(arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "worker", &mut script);
            finish(String::from_utf8_lossy(&script).trim_end())
        }
    }
}

/// One thread is enough, and the OpenCode server is tied to the life of the thread that starts it.
fn block_on(future: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => fail(code::FAILURE, &format!("cannot start the runtime: {error}")),
    }
}

fn run(config: Config) -> ExitCode {
    block_on(async {
        match serve(config).await {
            Ok(exit) => exit_code(&exit),
            Err(error) => fail(code::UNAVAILABLE, &error.to_string()),
        }
    })
}

async fn serve(config: Config) -> Result<Exit, BindError> {
    let stop = Stop::default();
    let status = Arc::new(Status::default());
    let workers = Workers::One(status.clone());
    let view = View { workers, build: BUILD, started: SystemEnv.now() };
    // Before anything else starts: a port that is taken is found now or never.
    let admin = match config.settings.admin {
        Some(address) => Some(Admin::bind(address).await?),
        None => None,
    };
    end_orphans();
    let signals = watch_signals(stop.clone());
    let systemd = cli::notify::keep_informed(status.clone());
    let worker = Box::pin(worker::run(SystemEnv, config, stop, status));
    tokio::select! {
        exit = worker => {
            cli::notify::notify_stopped();
            Ok(exit)
        }
        () = signals => unreachable!("signals are watched for ever"),
        () = systemd => unreachable!("systemd is told for ever"),
        never = serve_admin(admin, view) => match never {},
    }
}

async fn serve_admin(admin: Option<Admin>, view: View) -> Infallible {
    match admin {
        Some(admin) => admin.serve(view).await,
        None => std::future::pending().await,
    }
}

/// The first SIGTERM or SIGINT asks the worker to stop, the second not to wait for turns.
async fn watch_signals(stop: Stop) {
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "signals cannot be watched; the worker cannot be asked to stop");
                return std::future::pending().await;
            }
        };
    for token in [&stop.gracefully, &stop.now] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    }
    std::future::pending().await
}

fn exit_code(exit: &Exit) -> ExitCode {
    match exit {
        Exit::Stopped => ExitCode::SUCCESS,
        Exit::Superseded => fail(code::SUPERSEDED, "a newer process of this worker has taken over"),
        Exit::Refused(error) => {
            fail(code::REFUSED, &format!("the backend does not let this worker work: {error}"))
        }
    }
}

fn invalid(error: ConfigError) -> ExitCode {
    fail(code::CONFIG, &error.to_string())
}

fn not_written(error: &InitError) -> ExitCode {
    let code = match error {
        InitError::Url(_) | InitError::Machine(_) => code::CONFIG,
        InitError::Exists { .. } | InitError::Write { .. } => code::CANNOT_CREATE,
    };
    fail(code, &error.to_string())
}

/// Logs to standard error what `RUST_LOG` selects, or else `default`.
fn start_logging(format: LogFormat, default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let json = match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let layer = fmt::layer().with_writer(io::stderr);
    let layer = if json {
        layer.json().boxed()
    } else {
        layer.with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).boxed()
    };
    let harmless = filter_fn(|event| !shows_the_wire(event.target(), *event.level()));
    tracing_subscriber::registry().with(layer.with_filter(harmless)).with(filter).init();
    panic::set_hook(Box::new(|info| tracing::error!(panic = describe(info), "a bug of the worker's")));
}

/// A panic may quote whatever the code had in its hands.
fn describe(info: &PanicHookInfo<'_>) -> String {
    redact(&info.to_string())
}

/// Libraries that log what they send and receive, and so the secret, whoever asks them to be talkative.
fn shows_the_wire(target: &str, level: tracing::Level) -> bool {
    let library = target.split("::").next().unwrap_or_default();
    let talks = ["convex", "hyper", "hyper_util", "rustls", "tokio_tungstenite", "tungstenite"];
    talks.contains(&library) && level > tracing::Level::INFO
}

/// Whoever stops reading early, as `head` does, has read enough.
fn finish(text: &str) -> ExitCode {
    match say(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(code::CANNOT_PRINT, &format!("cannot write to standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    complain(&format!("error: {text}"));
    ExitCode::from(code)
}

/// The one place where the binary writes to standard output. `println` would panic where the disk is full.
fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{}", redact(text))
}

/// The one place where the binary complains in plain text. If that is impossible, its exit code has to do.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{}", redact(text));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_panic_shows_where_and_why_but_no_secret() {
        const SECRET: &str = "s3cr3t-that-nobody-may-ever-see-0123456789";
        let (said, heard) = sync_channel(1);
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| drop(said.try_send(describe(info)))));
        let token = format!("machine_m1:worker_w1:{SECRET}");
        let _ = panic::catch_unwind(|| panic!("cannot read {token}"));
        panic::set_hook(before);
        let text = heard.recv().unwrap();
        assert!(text.contains("main.rs") && text.contains("cannot read machine_m1:worker_w1:"), "{text}");
        assert!(!text.contains(SECRET), "{text}");
    }
}
