//! Flags and environment of the binary, and its smaller commands.

pub(crate) mod doctor;
pub(crate) mod fleet;
pub(crate) mod health;
pub(crate) mod init;
pub(crate) mod models;
pub(crate) mod notify;
pub(crate) mod opencode;

use std::{
    ffi::{CStr, OsString},
    path::{Path, PathBuf},
};

use clap::{
    ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind,
    parser::ValueSource,
};
use secrecy::SecretString;
use worker::{
    config::{
        ConfigError,
        file::{Merged, Overrides},
        fleet::Fleet,
        show::Origins,
    },
    env::system,
};

/// Exit codes, by sysexits.
pub(crate) mod code {
    /// Something failed that is nobody's mistake.
    pub(crate) const FAILURE: u8 = 1;
    /// The command line makes no sense; clap's own.
    pub(crate) const USAGE: u8 = 2;
    /// Something that is needed cannot be used: a port, OpenCode, the backend (`EX_UNAVAILABLE`).
    pub(crate) const UNAVAILABLE: u8 = 69;
    /// A file cannot be written (`EX_CANTCREAT`).
    pub(crate) const CANNOT_CREATE: u8 = 73;
    /// Standard output cannot be written to (`EX_IOERR`).
    pub(crate) const CANNOT_PRINT: u8 = 74;
    /// A newer process of the same worker took over (`EX_TEMPFAIL`).
    pub(crate) const SUPERSEDED: u8 = 75;
    /// The backend refused the worker (`EX_NOPERM`).
    pub(crate) const REFUSED: u8 = 77;
    /// The config is not valid (`EX_CONFIG`).
    pub(crate) const CONFIG: u8 = 78;
}

/// Connects a Convex backend, where people chat, with a local OpenCode server, which does the work.
///
/// Settings come from flags, the environment, the config file and defaults, in this order; `check --print` shows what
/// they come to. `RUST_LOG` selects what is logged.
#[derive(Parser)]
#[command(
    version = env!("WORKER_VERSION"),
    after_help = "Exit codes: 0 stopped, 1 failure, 2 wrong usage, 69 a port, OpenCode or the backend cannot be used, 73 a file cannot be written, 74 nor standard output, 75 superseded by a newer process of the same worker, 77 refused by the backend, 78 invalid config."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the worker until SIGTERM or SIGINT; a second signal does not wait for running turns.
    Run(Options),
    /// Read and validate the config, connect to nothing.
    Check {
        #[command(flatten)]
        options: Options,
        /// Show the merged config, and where each value comes from; secrets are redacted.
        #[arg(long)]
        print: bool,
    },
    /// Look whether everything that a worker needs is there, and say what to do about what is not.
    Doctor(Options),
    /// Write a commented config file, and a new token if a machine is named.
    Init(init::Options),
    /// Ask a worker that runs here, and serves `/healthz` on its admin address, whether it is well; the exit code says so.
    Health(Options),
    /// List the models of the local OpenCode: starts it, asks, stops it.
    Models(Options),
    /// Run a command of OpenCode's own where a worker runs it, as in `worker opencode -- auth login`.
    Opencode(Opencode),
    /// Write a completion script for a shell to standard output.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(clap::Args)]
pub(crate) struct Opencode {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Which worker of the workers file, by its name.
    #[arg(long, value_name = "NAME", requires = "workers")]
    pub(crate) worker: Option<String>,
    /// What OpenCode is told, as in `worker opencode -- auth login`.
    #[arg(last = true, required = true)]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Config file (TOML); flags and environment win over it.
    #[arg(long, env = "WORKER_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Many workers from one file, instead of one: TOML with `[[workers]]`, or the predecessor's workers.json. SIGHUP
    /// reads it again while they run. The file alone says where each works and what its token is.
    #[arg(long, env = "WORKER_WORKERS", value_name = "FILE")]
    pub(crate) workers: Option<PathBuf>,
    /// URL of the Convex deployment.
    #[arg(long, env = "CONVEX_URL", value_name = "URL")]
    convex_url: Option<String>,
    /// File that holds the token; or set WORKER_TOKEN, which wins over WORKER_TOKEN_FILE. The token itself is never an
    /// argument.
    #[arg(long, env = "WORKER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Directory that OpenCode works in.
    #[arg(long, env = "WORKER_DIRECTORY", value_name = "DIR")]
    directory: Option<PathBuf>,
    /// OpenCode executable.
    #[arg(long, env = "WORKER_OPENCODE", value_name = "FILE")]
    opencode: Option<PathBuf>,
    /// Serve /metrics, /healthz and /readyz on this loopback address, as on 127.0.0.1:9464.
    #[arg(long, env = "WORKER_ADMIN", value_name = "ADDRESS")]
    admin: Option<String>,
    /// How logs look; `auto` is text on a terminal and JSON elsewhere.
    #[arg(long, env = "WORKER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
    /// The token, if the environment had it.
    #[arg(skip)]
    token: Option<SecretString>,
    /// Which flag or variable each value comes from, if from one.
    #[arg(skip)]
    pub(crate) origins: Origins,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    Auto,
    Text,
    Json,
}

/// The config's key that an option sets, by the option's name.
const KEYS: [(&str, &str); 5] = [
    ("convex_url", "convex_url"),
    ("token_file", "token_file"),
    ("directory", "directory"),
    ("opencode", "opencode.binary"),
    ("admin", "admin"),
];
const TOKEN_VARIABLE: &CStr = c"WORKER_TOKEN";

impl Cli {
    /// Reads arguments and environment; ends the process where they make no sense.
    pub(crate) fn read() -> Self {
        let token = system::take_variable(TOKEN_VARIABLE);
        let matches = Self::command().get_matches();
        let read = Self::from_arg_matches(&matches).and_then(|mut cli| {
            if let Some(options) = cli.command.options() {
                options.token = token;
                options.resolve_conflicts(&matches)?;
            }
            Ok(cli)
        });
        read.unwrap_or_else(|error| error.exit())
    }
}

impl Command {
    fn options(&mut self) -> Option<&mut Options> {
        match self {
            Self::Run(options)
            | Self::Check { options, .. }
            | Self::Doctor(options)
            | Self::Health(options)
            | Self::Models(options) => Some(options),
            Self::Opencode(arguments) => Some(&mut arguments.options),
            Self::Init(_) | Self::Completions { .. } => None,
        }
    }
}

impl Options {
    /// Decides between what cannot be said together: a flag wins over the environment, and two of a kind are a mistake.
    fn resolve_conflicts(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let Some((_, matches)) = matches.subcommand() else { return Ok(()) };
        let is_flag = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        self.origins = origins(matches, self.token.is_some());
        if self.workers.is_none() {
            return Ok(());
        }
        for id in ["config", "token_file", "directory"] {
            let is_given = if id == "config" { self.config.is_some() } else { is_flag(id) };
            if is_given && is_flag(id) == is_flag("workers") {
                let option = id.replace('_', "-");
                let message =
                    format!("`--workers` cannot be used with `--{option}`; say that in the workers file");
                return Err(Cli::command().error(ErrorKind::ArgumentConflict, message));
            }
        }
        // What is left of the two is the flag's; variables for a single worker mean nothing to many.
        let is_single = ["config", "token_file", "directory"].into_iter().any(is_flag);
        if is_single {
            self.workers = None;
        } else {
            self.config = None;
        }
        Ok(())
    }

    /// Merges them with the file.
    pub(crate) fn merge(self) -> Result<Merged, ConfigError> {
        Merged::read(self.config.as_deref(), self.overrides())
    }

    /// Merges them with a file for many workers.
    pub(crate) fn fleet(&self, file: &Path) -> Result<Fleet, ConfigError> {
        Fleet::read(file, &self.overrides())
    }

    fn overrides(&self) -> Overrides {
        // A flag wins over a variable that means the same.
        let is_token_used = self.origins.contains_key("token");
        Overrides {
            convex_url: self.convex_url.clone(),
            token: self.token.clone().filter(|_| is_token_used),
            token_file: self.token_file.clone(),
            directory: self.directory.clone(),
            opencode: self.opencode.clone(),
            admin: self.admin.clone(),
            state_directory: state_directory(),
        }
    }
}

/// Where the worker may keep what outlives it: systemd's `StateDirectory`, or the user's state directory.
fn state_directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd separates several by colons; the unit has one.
    let user = || variable("XDG_STATE_HOME").or_else(|| Some(std::env::home_dir()?.join(".local/state")));
    variable("STATE_DIRECTORY").or_else(|| Some(user()?.join("worker")))
}

/// Returns which flag or variable each value comes from, if from one.
fn origins(matches: &ArgMatches, has_token: bool) -> Origins {
    let mut origins = Origins::new();
    let command = Cli::command();
    let options = command.find_subcommand("run").into_iter().flat_map(clap::Command::get_arguments);
    for option in options {
        let Some((id, key)) = KEYS.into_iter().find(|(id, _)| option.get_id() == *id) else { continue };
        let origin = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => option.get_long().map(|long| format!("--{long}")),
            Some(ValueSource::EnvVariable) => {
                option.get_env().map(|name| name.to_string_lossy().into_owned())
            }
            _ => None,
        };
        origins.extend(origin.map(|origin| (key, origin)));
    }
    let is_flag = matches.value_source("token_file") == Some(ValueSource::CommandLine);
    if has_token && !is_flag {
        origins.insert("token", TOKEN_VARIABLE.to_string_lossy().into_owned());
    }
    origins
}
