//! What one worker is told: read once, validated before the runtime starts, immutable afterwards.

mod admin;
mod authorities;
mod error;
pub mod file;
pub mod fleet;
mod places;
pub mod show;
mod token;
mod url;

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use admin::{AdminAddress, AdminAddressError};
pub use authorities::{Authorities, AuthoritiesError};
pub use error::{ConfigError, FleetError};
pub use token::{MIN_SECRET_LENGTH, Token, TokenError, redact};
pub(crate) use url::is_loopback;
pub use url::{ConvexUrl, UrlError};

/// The line of a text in which this place is, from 1.
fn line_of(text: &str, place: usize) -> usize {
    text[..place].matches('\n').count() + 1
}

/// Settings for tests: nobody needs to tune them, but a small value lets a test reach a state that would take long or many
/// sessions otherwise. They are read and validated like all others, and shown only where they are set; a config file
/// that `worker init` writes does not name them.
pub const FOR_TESTS: [&str; 11] = [
    // Given by what one transaction of the backend may do.
    "turns.expire_page",
    // Text comes too slowly to fill it; a test makes a reply of many chunks with it.
    "turns.coalesce_bytes",
    // A second bound beside `creates_per_second`, reached only where each creation takes longer than a second.
    "sessions.creates_in_flight",
    // Failures of the server's that pass within seconds, or not at all.
    "sessions.create_attempts",
    "opencode.start_attempts",
    // Follows from OpenCode's heartbeat, which comes every 10 s.
    "opencode.event_silence",
    // How changes are collected and compared: what that costs follows what changed, not these.
    "sync.batch",
    "sync.coalesce",
    "sync.page",
    "sync.scrub_interval",
    "sync.rescan",
];

/// One worker's settings, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The Convex deployment.
    pub convex_url: ConvexUrl,
    /// Who this worker is, and its secret.
    pub token: Token,
    /// The directory that OpenCode works in.
    pub directory: PathBuf,
    /// Everything that has a default.
    pub settings: Settings,
}

/// The settings that have defaults, as they stand in the config file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where metrics and health are served; nowhere by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<AdminAddress>,
    /// The connection to Convex.
    pub convex: ConvexSettings,
    /// How turns run.
    pub turns: TurnSettings,
    /// How OpenCode sessions are remembered and created.
    pub sessions: SessionSettings,
    /// How Convex is kept like OpenCode.
    pub sync: SyncSettings,
    /// The OpenCode server.
    pub opencode: OpencodeSettings,
    /// How often the worker says that it lives.
    pub heartbeat: HeartbeatSettings,
    /// How long what has ended is kept.
    pub retention: RetentionSettings,
    /// Recovery and stop.
    pub lifecycle: LifecycleSettings,
}

/// The connection to Convex.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvexSettings {
    /// A PEM file with the certificates of authorities that may vouch for the deployment, besides those that the system
    /// trusts and those that everybody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Whether the URL may be one of `http://` with a host other than this one: then whoever can listen on the network
    /// between has the worker's secret.
    pub allow_plain_http: bool,
}

/// How turns run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TurnSettings {
    /// Turns that run at the same time, over all sessions (at least 1).
    pub max_concurrent: usize,
    /// Ready sessions that the subscription shows at once (1 to 100).
    pub window: usize,
    /// A turn whose OpenCode session is silent for this long is failed.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Attempts at a model whose provider puts OpenCode off (overload, rate limit, quota) after which a turn is failed;
    /// OpenCode itself never stops.
    pub max_retries: usize,
    /// The same as a time, from the first refusal on.
    #[serde(with = "humantime_serde")]
    pub retry_timeout: Duration,
    /// Reply text is collected for at most this long before it is written.
    #[serde(with = "humantime_serde")]
    pub coalesce_interval: Duration,
    /// Reply text is written as soon as this many bytes are collected.
    pub coalesce_bytes: usize,
    /// A longer reply is cut here, with a marker (bytes).
    pub max_reply_bytes: usize,
    /// A turn that nobody claimed before this worker's start is still run if it is younger than this.
    #[serde(with = "humantime_serde")]
    pub accept_unclaimed_within: Duration,
    /// Stale turns that one call expires (1 to 500).
    pub expire_page: usize,
}

impl Default for TurnSettings {
    fn default() -> Self {
        Self {
            max_concurrent: 8,
            window: 16,
            idle_timeout: Duration::from_secs(5 * 60),
            max_retries: 8,
            retry_timeout: Duration::from_secs(2 * 60),
            coalesce_interval: Duration::from_millis(250),
            coalesce_bytes: 4 * 1024,
            max_reply_bytes: 8 * 1024 * 1024,
            accept_unclaimed_within: Duration::ZERO,
            expire_page: 50,
        }
    }
}

/// How OpenCode sessions are remembered and created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// Sessions remembered at once; the least recently used idle one is forgotten first.
    pub cache_capacity: usize,
    /// OpenCode sessions being created at the same time (at least 1).
    pub creates_in_flight: usize,
    /// OpenCode sessions whose creation starts within any one second (at least 1).
    pub creates_per_second: usize,
    /// Attempts to create one OpenCode session before its turn fails (at least 1).
    pub create_attempts: usize,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { cache_capacity: 64, creates_in_flight: 5, creates_per_second: 5, create_attempts: 4 }
    }
}

/// How sessions that are made, renamed or deleted in OpenCode come to Convex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncSettings {
    /// Whether they do at all.
    pub enabled: bool,
    /// Changes that one call makes (1 to 100).
    pub batch: usize,
    /// Changes are collected for this long, or until there is a batch of them.
    #[serde(with = "humantime_serde")]
    pub coalesce: Duration,
    /// Sessions that are listed or compared at once (1 to 100).
    pub page: usize,
    /// Time between two pages of the comparison of all sessions; three times that between two looks at what OpenCode
    /// used last, which ask the server alone.
    #[serde(with = "humantime_serde")]
    pub scrub_interval: Duration,
    /// All sessions are compared after each gap in the events, and while OpenCode runs again after this time.
    #[serde(with = "humantime_serde")]
    pub rescan: Duration,
    /// Whether chats lose their sessions when nearly all of a page are missing in OpenCode.
    pub accept_mass_deletions: bool,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            batch: 10,
            coalesce: Duration::from_secs(2),
            page: 50,
            scrub_interval: Duration::from_secs(10),
            rescan: Duration::from_secs(60 * 60),
            accept_mass_deletions: false,
        }
    }
}

/// The OpenCode server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpencodeSettings {
    /// The executable, or a name to look up in `PATH`.
    pub binary: PathBuf,
    /// Where OpenCode keeps sessions and logins, in place of the user's own data directory (`XDG_DATA_HOME`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_directory: Option<PathBuf>,
    /// How long a start may take until the ready line.
    #[serde(with = "humantime_serde")]
    pub startup_timeout: Duration,
    /// The server is stopped after this long without a turn.
    #[serde(with = "humantime_serde")]
    pub idle_stop: Duration,
    /// How long one request may take (the event stream excepted).
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// An event stream without a single byte for this long is taken for dead. OpenCode sends a heartbeat every 10 s.
    #[serde(with = "humantime_serde")]
    pub event_silence: Duration,
    /// Starts in a row that may fail before turns are failed instead of waiting for another start.
    pub start_attempts: usize,
    /// What is answered when a tool asks to be allowed something.
    pub permissions: PermissionPolicy,
    /// How long a person may take to answer a relayed question; then it is refused.
    #[serde(with = "humantime_serde")]
    pub permission_timeout: Duration,
}

/// What is answered when a tool asks to be allowed something. OpenCode asks only if its own config says `ask`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PermissionPolicy {
    /// No.
    #[default]
    Deny,
    /// Yes, once.
    Allow,
    /// Whatever the person says who owns the session; no, if nobody answers in time.
    Relay,
}

impl Default for OpencodeSettings {
    fn default() -> Self {
        Self {
            binary: PathBuf::from("opencode"),
            data_directory: None,
            startup_timeout: Duration::from_secs(30),
            idle_stop: Duration::from_secs(10 * 60),
            request_timeout: Duration::from_secs(30),
            event_silence: Duration::from_secs(25),
            start_attempts: 3,
            permissions: PermissionPolicy::Deny,
            permission_timeout: Duration::from_secs(2 * 60),
        }
    }
}

/// How often the worker says that it lives. The backend takes it for lost after three of these intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeartbeatSettings {
    /// Time between two heartbeats, before jitter, while turns run or somebody has asked the worker to connect lately.
    #[serde(with = "humantime_serde")]
    pub busy: Duration,
    /// The same while nobody waits for it.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
}

impl Default for HeartbeatSettings {
    fn default() -> Self {
        Self { busy: Duration::from_secs(5), idle: Duration::from_secs(30) }
    }
}

/// How long what has ended is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSettings {
    /// The backend deletes sessions that a person has ended, with their messages, when they have not been used for so
    /// many days. Without it, it keeps them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

/// Recovery and stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LifecycleSettings {
    /// How long running turns may go on after a request to stop.
    #[serde(with = "humantime_serde")]
    pub stop_grace: Duration,
    /// The longest pause between two attempts to recover.
    #[serde(with = "humantime_serde")]
    pub recovery_cap: Duration,
}

impl Default for LifecycleSettings {
    fn default() -> Self {
        Self { stop_grace: Duration::from_secs(10), recovery_cap: Duration::from_secs(30) }
    }
}
