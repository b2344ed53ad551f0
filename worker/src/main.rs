//! The `worker` binary: flags, signals, exit codes.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use worker::{
    Stop,
    config::{
        Config,
        file::{ConfigError, Overrides, load},
    },
    env::system::SystemEnv,
    lifecycle::state::Exit,
    telemetry::Status,
};

/// Exit codes, by sysexits.
mod code {
    /// Something failed that is nobody's mistake.
    pub(super) const FAILURE: u8 = 1;
    /// A newer process of the same worker took over (`EX_TEMPFAIL`).
    pub(super) const SUPERSEDED: u8 = 75;
    /// The backend refused the worker (`EX_NOPERM`).
    pub(super) const REFUSED: u8 = 77;
    /// The config is not valid (`EX_CONFIG`).
    pub(super) const CONFIG: u8 = 78;
}

/// Connects a Convex backend, where people chat, with a local OpenCode server, which does the work.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 stopped, 1 failure, 2 wrong usage, 75 superseded by a newer process of the same worker, 77 refused by the backend, 78 invalid config."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the worker until SIGTERM or SIGINT; a second signal does not wait for running turns.
    Run(Options),
    /// Read and validate the config, connect to nothing.
    Check(Options),
}

#[derive(clap::Args)]
struct Options {
    /// Config file (TOML); flags and environment win over it.
    #[arg(long, env = "WORKER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// URL of the Convex deployment.
    #[arg(long, env = "CONVEX_URL", value_name = "URL")]
    convex_url: Option<String>,
    /// File that holds the token; or set WORKER_TOKEN. The token itself is never an argument.
    #[arg(long, env = "WORKER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Directory that OpenCode works in.
    #[arg(long, env = "WORKER_DIRECTORY", value_name = "DIR")]
    directory: Option<PathBuf>,
    /// OpenCode executable.
    #[arg(long, env = "WORKER_OPENCODE", value_name = "FILE")]
    opencode: Option<PathBuf>,
    /// How logs look; `auto` is text on a terminal and JSON elsewhere.
    #[arg(long, env = "WORKER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Auto,
    Text,
    Json,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(options) => {
            start_logging(options.log_format);
            match config(options) {
                Ok(config) => run(config),
                Err(error) => invalid(&error),
            }
        }
        Command::Check(options) => match config(options) {
            Ok(config) => {
                say(&format!("{config:#?}"));
                ExitCode::SUCCESS
            }
            Err(error) => invalid(&error),
        },
    }
}

fn config(options: Options) -> Result<Config, ConfigError> {
    let overrides = Overrides {
        convex_url: options.convex_url,
        token: std::env::var("WORKER_TOKEN").ok().map(Into::into),
        token_file: options.token_file,
        directory: options.directory,
        opencode: options.opencode,
    };
    load(options.config.as_deref(), overrides)
}

/// One thread is enough, and the OpenCode server is tied to the life of the thread that starts it.
fn run(config: Config) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => exit_code(&runtime.block_on(serve(config))),
        Err(error) => {
            complain(&format!("error: cannot start the runtime: {error}"));
            ExitCode::from(code::FAILURE)
        }
    }
}

async fn serve(config: Config) -> Exit {
    let stop = Stop::default();
    let signals = watch_signals(stop.clone());
    tokio::select! {
        exit = worker::run(SystemEnv, config, stop, Arc::new(Status::default())) => exit,
        () = signals => unreachable!("signals are watched for ever"),
    }
}

/// The first SIGTERM or SIGINT asks the worker to stop, the second not to wait for turns.
async fn watch_signals(stop: Stop) {
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "signals cannot be watched; the worker ends without goodbye");
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
        Exit::Superseded => {
            complain("error: a newer process of this worker has taken over");
            ExitCode::from(code::SUPERSEDED)
        }
        Exit::Refused(error) => {
            complain(&format!("error: the backend does not let this worker work: {error}"));
            ExitCode::from(code::REFUSED)
        }
    }
}

fn invalid(error: &ConfigError) -> ExitCode {
    complain(&format!("error: {error}"));
    ExitCode::from(code::CONFIG)
}

fn start_logging(format: LogFormat) {
    // The protocol's state machine reports each of its mutations at `info`: some dozens for one reply.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,convex=warn"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    if json {
        logs.json().init();
    } else {
        logs.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).init();
    }
}

#[expect(clippy::print_stdout, reason = "the one place where the binary writes to standard output")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the one place where the binary complains in plain text")]
fn complain(text: &str) {
    eprintln!("{text}");
}
