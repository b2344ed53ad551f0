//! Why there is no valid config, for one worker or for many.

use std::{io, path::PathBuf};

use super::{admin::AdminAddressError, authorities::AuthoritiesError, token::TokenError, url::UrlError};

/// The largest config or token file that is read (bytes).
pub(super) const MAX_FILE: u64 = 1 << 20;
/// What the token's file is called in errors.
pub(super) const TOKEN_FILE: &str = "the token file";
/// What the file with certificates of authorities is called in errors.
pub(super) const CA_FILE: &str = "the CA file";
/// The most workers of one file.
pub(super) const MAX_WORKERS: usize = 64;
/// The longest name (characters): as long as a worker's id in a token may be.
pub(super) const MAX_NAME: usize = 135;

/// Why there is no valid config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {what} `{}`: {source}", path.display())]
    Read {
        /// Which file.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is too large to be what it should be.
    #[error("{what} `{}` has {found} bytes; at most {MAX_FILE} are read", path.display())]
    TooLarge {
        /// Which file.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// How large it is.
        found: u64,
    },
    /// A file with a secret can be read by everybody.
    #[error("{what} `{path}` can be read by everybody (mode {mode:o}) and holds a secret; run `chmod o-rwx '{path}'`", path = path.display())]
    Exposed {
        /// Which file.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Who may do what with it.
        mode: u32,
    },
    /// The config file is not valid; the message shows where.
    #[error("the config file `{}` is not valid:\n{source}", path.display())]
    Parse {
        /// Where.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: Box<toml::de::Error>,
    },
    /// Something needed is not given.
    #[error("no {what} is given; set {hint}")]
    Missing {
        /// What.
        what: &'static str,
        /// How to give it.
        hint: &'static str,
    },
    /// The URL is not valid.
    #[error("the Convex URL is not valid: {0}")]
    Url(#[from] UrlError),
    /// The token is not valid.
    #[error("the token is not valid: {0}")]
    Token(#[from] TokenError),
    /// The token in a file is not valid.
    #[error("the token in `{}` is not valid: {source}", path.display())]
    TokenFile {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        source: TokenError,
    },
    /// The file of an authority's certificate is not one.
    #[error("the CA file `{}` {source}; it must have at least one `-----BEGIN CERTIFICATE-----`", path.display())]
    CaFile {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        source: AuthoritiesError,
    },
    /// Metrics and health cannot be served there.
    #[error("the address for metrics and health is not valid: {0}")]
    Admin(#[from] AdminAddressError),
    /// A number or a time is out of range.
    #[error("`{key}` is {found}; it must be {allowed}")]
    Range {
        /// The setting.
        key: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A value of the config file is not valid.
    #[error("the config file `{}` is not valid in line {line}: {problem}", path.display())]
    Place {
        /// Where.
        path: PathBuf,
        /// The line in which the value stands.
        line: usize,
        /// What is wrong with it.
        problem: Box<ConfigError>,
    },
    /// A file for many workers is not valid.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The directory is not one.
    #[error("`{}` is not a directory that can be entered; create it or set `directory`", path.display())]
    Directory {
        /// The path.
        path: PathBuf,
    },
}

impl ConfigError {
    /// The key of the value that it is about, as in the config file.
    pub(super) fn key(&self) -> Option<&'static str> {
        match self {
            Self::Url(_) => Some("convex_url"),
            Self::Read { what: TOKEN_FILE, .. }
            | Self::TooLarge { what: TOKEN_FILE, .. }
            | Self::Exposed { what: TOKEN_FILE, .. }
            | Self::TokenFile { .. } => Some("token_file"),
            Self::Read { what: CA_FILE, .. } | Self::TooLarge { what: CA_FILE, .. } | Self::CaFile { .. } => {
                Some("convex.ca_file")
            }
            Self::Range { key, .. } => Some(key),
            Self::Directory { .. } => Some("directory"),
            _ => None,
        }
    }
}

/// Why a file for many workers is not valid.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// It is not TOML of the right shape; the message shows where.
    #[error("the workers file `{}` is not valid:\n{source}", path.display())]
    Toml {
        /// Where.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: Box<toml::de::Error>,
    },
    /// It is not JSON of the right shape; the message says where.
    #[error("the workers file `{}` is not valid: {source}", path.display())]
    Json {
        /// Where.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// There is nothing to run, or too much.
    #[error("the workers file `{}` has {found} workers; 1 to {MAX_WORKERS} can run", path.display())]
    Count {
        /// Where.
        path: PathBuf,
        /// How many there are.
        found: usize,
    },
    /// One worker cannot be run.
    #[error("the workers file `{}` is not valid: worker `{name}` in line {line}: {problem}", path.display())]
    Worker {
        /// Where.
        path: PathBuf,
        /// The worker's name, or its number.
        name: String,
        /// The line in which its entry begins.
        line: usize,
        /// What is wrong with it.
        problem: Box<ConfigError>,
    },
    /// Two workers cannot be told apart.
    #[error(
        "the workers file `{}` is not valid: worker `{name}` in line {line} has the {what} of an earlier one; each needs its own",
        path.display()
    )]
    Twice {
        /// Where.
        path: PathBuf,
        /// The later worker's name.
        name: String,
        /// The line in which its entry begins.
        line: usize,
        /// What they share.
        what: &'static str,
    },
    /// Workers of two owners would share what OpenCode keeps.
    #[error(
        "the workers file `{}` is not valid: worker `{name}` in line {line} is of another machine than an earlier one with \
         the OpenCode data directory `{}`, and would see its sessions and logins; set another `opencode.data_directory`",
        path.display(), directory.display()
    )]
    SharedData {
        /// Where.
        path: PathBuf,
        /// The later worker's name.
        name: String,
        /// The line in which its entry begins.
        line: usize,
        /// What they would share.
        directory: PathBuf,
    },
    /// A name that does not suit logs and metrics.
    #[error("`{name}` is no name for a worker; it must be 1 to {MAX_NAME} letters, digits, `_`, `-` or `.`")]
    Name {
        /// The name, cut.
        name: String,
    },
}
