//! The config file, and how flags, environment, file and defaults make one [`Config`].

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    AdminAddress, Authorities, Config, ConvexSettings, ConvexUrl, HeartbeatSettings, LifecycleSettings,
    OpencodeSettings, RetentionSettings, SessionSettings, Settings, SyncSettings, Token, TurnSettings,
    UrlError,
    error::{CA_FILE, ConfigError, MAX_FILE, TOKEN_FILE},
    places::Places,
};

/// What a config file may say. Unknown keys are errors: a misspelled limit must not be ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigFile {
    convex_url: Option<String>,
    token_file: Option<PathBuf>,
    directory: Option<PathBuf>,
    admin: Option<AdminAddress>,
    convex: ConvexSettings,
    turns: TurnSettings,
    sessions: SessionSettings,
    sync: SyncSettings,
    opencode: OpencodeSettings,
    heartbeat: HeartbeatSettings,
    retention: RetentionSettings,
    lifecycle: LifecycleSettings,
}

/// What flags and environment say; they win over the file.
#[derive(Debug, Default, Clone)]
pub struct Overrides {
    /// The deployment's URL.
    pub convex_url: Option<String>,
    /// The token itself: from the environment only, never from an argument. Wins over `token_file`.
    pub token: Option<SecretString>,
    /// The file that holds the token.
    pub token_file: Option<PathBuf>,
    /// The directory that OpenCode works in.
    pub directory: Option<PathBuf>,
    /// The OpenCode executable.
    pub opencode: Option<PathBuf>,
    /// Where metrics and health are served.
    pub admin: Option<String>,
    /// Where the worker may keep what outlives it. No key of the config file.
    pub state_directory: Option<PathBuf>,
}

impl Overrides {
    /// The config file's keys whose values they replace.
    fn keys(&self) -> impl Iterator<Item = &'static str> {
        let keys = [
            (self.convex_url.is_some(), "convex_url"),
            (self.token.is_some() || self.token_file.is_some(), "token_file"),
            (self.directory.is_some(), "directory"),
            (self.opencode.is_some(), "opencode.binary"),
            (self.admin.is_some(), "admin"),
        ];
        keys.into_iter().filter_map(|(is_given, key)| is_given.then_some(key))
    }
}

/// Reads and validates everything.
pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<Config, ConfigError> {
    Merged::read(file, overrides)?.validate()
}

/// What flags, environment and file say together. The settings are valid; the rest is validated when it is asked for,
/// so that each mistake can be shown by itself.
#[derive(Debug, Clone)]
pub struct Merged {
    /// What the file alone says.
    pub(super) file: toml::Table,
    pub(super) convex_url: Option<String>,
    pub(super) token: Option<SecretString>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) directory: PathBuf,
    /// Everything that has a default.
    pub settings: Settings,
    /// Of what counts of the file.
    pub(super) places: Places,
}

impl Merged {
    /// Reads the file and lays `overrides` over it.
    pub fn read(file: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let (raw, table, mut places) = match file {
            Some(path) => parse(path)?,
            None => Default::default(),
        };
        overrides.keys().for_each(|key| places.overridden(key));
        let directory = overrides.directory.or(raw.directory).unwrap_or_else(|| PathBuf::from("."));
        let mut settings = Settings {
            admin: raw.admin,
            convex: raw.convex,
            turns: raw.turns,
            sessions: raw.sessions,
            sync: raw.sync,
            opencode: raw.opencode,
            heartbeat: raw.heartbeat,
            retention: raw.retention,
            lifecycle: raw.lifecycle,
        };
        if let Some(address) = overrides.admin {
            settings.admin = Some(address.parse()?);
        }
        if let Some(binary) = overrides.opencode {
            settings.opencode.binary = binary;
        }
        validate(&settings).map_err(|problem| places.locate(problem))?;
        Ok(Self {
            file: table,
            convex_url: overrides.convex_url.or(raw.convex_url),
            token: overrides.token,
            token_file: overrides.token_file.or(raw.token_file),
            directory,
            settings,
            places,
        })
    }

    /// The deployment, and who may vouch for it.
    pub fn convex_url(&self) -> Result<ConvexUrl, ConfigError> {
        let url = self.convex_url.as_ref().ok_or(ConfigError::Missing {
            what: "Convex URL",
            hint: "`--convex-url`, `CONVEX_URL` or `convex_url` in the config file",
        })?;
        let settings = &self.settings.convex;
        let parsed = if settings.allow_plain_http { ConvexUrl::parse(url) } else { url.parse() };
        let parsed = parsed.map_err(|error: UrlError| self.places.locate(error.into()))?;
        let authorities = settings.ca_file.as_deref().map(read_authorities).transpose();
        let authorities = authorities.map_err(|problem| self.places.locate(problem))?.unwrap_or_default();
        Ok(ConvexUrl { authorities, ..parsed })
    }

    /// The token; reads its file if it is not given by itself.
    pub fn token(&self) -> Result<Token, ConfigError> {
        match (&self.token, &self.token_file) {
            (Some(text), _) => Ok(text.expose_secret().parse()?),
            (None, Some(path)) => read_token(path).map_err(|problem| self.places.locate(problem)),
            (None, None) => Err(ConfigError::Missing {
                what: "token",
                hint: "`WORKER_TOKEN`, `--token-file`, or `token_file` in the config file",
            }),
        }
    }

    /// The directory that OpenCode works in, in full.
    pub fn directory(&self) -> Result<PathBuf, ConfigError> {
        let found = self.directory.canonicalize().ok().filter(|path| path.is_dir());
        let missing = || ConfigError::Directory { path: self.directory.clone() };
        found.ok_or_else(|| self.places.locate(missing()))
    }

    /// Validates the rest.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let (convex_url, token, directory) = (self.convex_url()?, self.token()?, self.directory()?);
        Ok(Config { convex_url, token, directory, settings: self.settings })
    }
}

fn parse(path: &Path) -> Result<(ConfigFile, toml::Table, Places), ConfigError> {
    let text = read("the config file", path)?;
    let invalid = |source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) };
    let (file, table) = (toml::from_str(&text).map_err(invalid)?, toml::from_str(&text).map_err(invalid)?);
    Ok((file, table, Places::of(path, &text).map_err(invalid)?))
}

fn read_token(path: &Path) -> Result<Token, ConfigError> {
    let text = SecretString::from(read(TOKEN_FILE, path)?);
    refuse_exposed(TOKEN_FILE, path)?;
    let parsed = text.expose_secret().parse();
    parsed.map_err(|source| ConfigError::TokenFile { path: path.to_owned(), source })
}

/// A file with a secret is nobody's business but its owner's and, for a service, its group's.
pub(super) fn refuse_exposed(what: &'static str, path: &Path) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::Read { what, path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o007 == 0 {
        return Ok(());
    }
    Err(ConfigError::Exposed { what, path: path.to_owned(), mode })
}

fn read_authorities(path: &Path) -> Result<Authorities, ConfigError> {
    let text = read(CA_FILE, path)?;
    Authorities::parse(&text).map_err(|source| ConfigError::CaFile { path: path.to_owned(), source })
}

pub(super) fn read(what: &'static str, path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { what, path: path.to_owned(), source };
    let found = fs::metadata(path).map_err(failed)?.len();
    if found > MAX_FILE {
        return Err(ConfigError::TooLarge { what, path: path.to_owned(), found });
    }
    fs::read_to_string(path).map_err(failed)
}

/// The bounds that the types do not express.
pub(super) fn validate(settings: &Settings) -> Result<(), ConfigError> {
    let turns = &settings.turns;
    let sessions = &settings.sessions;
    let within = |key, found: usize, range: std::ops::RangeInclusive<usize>, allowed| {
        if range.contains(&found) {
            Ok(())
        } else {
            Err(ConfigError::Range { key, found: found.to_string(), allowed })
        }
    };
    within("turns.max_concurrent", turns.max_concurrent, 1..=1_000, "1 to 1,000")?;
    within("turns.window", turns.window, 1..=100, "1 to 100")?;
    within("turns.max_retries", turns.max_retries, 0..=1_000, "0 to 1,000")?;
    within("turns.expire_page", turns.expire_page, 1..=500, "1 to 500")?;
    within("turns.coalesce_bytes", turns.coalesce_bytes, 1..=65_536, "1 to 65,536")?;
    within("turns.max_reply_bytes", turns.max_reply_bytes, 1..=1 << 30, "1 to 1,073,741,824")?;
    within("sessions.cache_capacity", sessions.cache_capacity, 1..=100_000, "1 to 100,000")?;
    within("sessions.creates_in_flight", sessions.creates_in_flight, 1..=1_000, "1 to 1,000")?;
    within("sessions.creates_per_second", sessions.creates_per_second, 1..=1_000, "1 to 1,000")?;
    within("sessions.create_attempts", sessions.create_attempts, 1..=100, "1 to 100")?;
    within("opencode.start_attempts", settings.opencode.start_attempts, 1..=100, "1 to 100")?;
    within("sync.batch", settings.sync.batch, 1..=100, "1 to 100")?;
    within("sync.page", settings.sync.page, 1..=100, "1 to 100")?;
    // OpenCode's stream beats every 10 s.
    let lasts = |key, found: Duration, range: std::ops::RangeInclusive<u64>, allowed| {
        if range.contains(&found.as_secs()) {
            Ok(())
        } else {
            Err(ConfigError::Range { key, found: humantime::format_duration(found).to_string(), allowed })
        }
    };
    // As many as the backend takes.
    lasts("heartbeat.busy", settings.heartbeat.busy, 1..=60, "1s to 1m")?;
    lasts("heartbeat.idle", settings.heartbeat.idle, 1..=60, "1s to 1m")?;
    within(
        "retention.days",
        settings.retention.days.map_or(1, |days| days as usize),
        1..=3_650,
        "1 to 3,650",
    )?;
    lasts("turns.retry_timeout", turns.retry_timeout, 1..=86_400, "1s to 1day")?;
    lasts("sync.scrub_interval", settings.sync.scrub_interval, 1..=86_400, "1s to 1day")?;
    lasts("sync.rescan", settings.sync.rescan, 60..=31_536_000, "1m to 1year")?;
    lasts("opencode.event_silence", settings.opencode.event_silence, 11..=3_600, "11s to 1h")?;
    lasts("opencode.permission_timeout", settings.opencode.permission_timeout, 1..=3_600, "1s to 1h")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "machine_m:worker_w:0123456789abcdef0123456789abcdef";

    fn load_text(text: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worker.toml");
        fs::write(&path, text).unwrap();
        let overrides = Overrides { token: Some(TOKEN.to_owned().into()), ..Overrides::default() };
        let shown = path.display().to_string();
        load(Some(&path), overrides).map_err(|error| error.to_string().replace(&shown, "worker.toml"))
    }

    #[test]
    fn a_file_with_an_url_is_enough_and_the_rest_has_defaults() {
        let config = load_text("convex_url = 'http://127.0.0.1:1'\n[turns]\nidle_timeout = '90s'").unwrap();
        assert_eq!(config.settings.turns.idle_timeout.as_secs(), 90);
        assert_eq!(config.settings.sessions, SessionSettings::default());
    }

    #[test]
    fn an_unknown_key_is_shown_in_the_file() {
        let error = load_text("convex_url = 'http://127.0.0.1:1'\n[turns]\nmax_concurent = 3\n").unwrap_err();
        insta::assert_snapshot!(error, @r"
        the config file `worker.toml` is not valid:
        TOML parse error at line 3, column 1
          |
        3 | max_concurent = 3
          | ^^^^^^^^^^^^^
        unknown field `max_concurent`, expected one of `max_concurrent`, `window`, `idle_timeout`, `max_retries`, `retry_timeout`, `coalesce_interval`, `coalesce_bytes`, `max_reply_bytes`, `accept_unclaimed_within`, `expire_page`
        ");
    }

    #[test]
    fn a_number_out_of_range_is_refused_with_the_range() {
        let error =
            load_text("convex_url = 'http://127.0.0.1:1'\n[turns]\nmax_concurrent = 0\n").unwrap_err();
        assert_eq!(
            error,
            "the config file `worker.toml` is not valid in line 3: `turns.max_concurrent` is 0; it must be 1 to 1,000"
        );
    }

    #[test]
    fn a_heartbeat_without_pause_or_slower_than_the_backend_waits_is_refused() {
        let error = |time: &str| {
            let text = format!("convex_url = 'http://127.0.0.1:1'\n[heartbeat]\nidle = '{time}'\n");
            load_text(&text).unwrap_err()
        };
        let place = "the config file `worker.toml` is not valid in line 3";
        assert_eq!(error("0s"), format!("{place}: `heartbeat.idle` is 0s; it must be 1s to 1m"));
        assert_eq!(error("2m"), format!("{place}: `heartbeat.idle` is 2m; it must be 1s to 1m"));
    }

    /// The error of this file, in which `DIR` stands for its directory.
    fn error_of(text: &str, overrides: Overrides) -> String {
        let directory = tempfile::tempdir().unwrap();
        let (shown, path) = (directory.path().display().to_string(), directory.path().join("worker.toml"));
        let token = directory.path().join("short.token");
        fs::write(&token, "machine_m:worker_w:short").unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, text.replace("DIR", &shown)).unwrap();
        load(Some(&path), overrides).unwrap_err().to_string().replace(&shown, "DIR")
    }

    #[test]
    fn an_error_points_to_the_value_in_the_file() {
        let check = |text: &str, line: usize, problem: &str| {
            let error = error_of(text, Overrides::default());
            let expected =
                format!("the config file `DIR/worker.toml` is not valid in line {line}: {problem}");
            assert!(error.starts_with(&expected), "{error}");
        };
        check("\nconvex_url = 'http://a.b'", 2, "the Convex URL is not valid: `http://a.b` is not encrypted");
        let url = "convex_url = 'https://a.b'\n";
        check(&format!("{url}token_file = 'DIR/none'"), 2, "cannot read the token file `DIR/none`");
        check(
            &format!("{url}\ntoken_file = 'DIR/short.token'"),
            3,
            "the token in `DIR/short.token` is not valid",
        );
        check("turns.window = 200", 1, "`turns.window` is 200");
        check("[turns]\n# many\nwindow = 200", 3, "`turns.window` is 200");
        let error = error_of(&format!("{url}directory = 'DIR/none'"), with_token());
        assert!(error.contains("in line 2: `DIR/none` is not a directory"), "{error}");
    }

    #[test]
    fn clear_text_over_a_network_is_refused_unless_it_is_allowed() {
        let url = |text: &str| load_text(text).map(|config| config.convex_url);
        let refused = url("convex_url = 'http://backend:3210'").unwrap_err();
        assert!(refused.contains("or allow it by `convex.allow_plain_http`"), "{refused}");
        let allowed = url("convex_url = 'http://backend:3210'\n[convex]\nallow_plain_http = true").unwrap();
        assert!(allowed.is_clear_text() && allowed.address.to_string() == "backend:3210");
        let loopback = url("convex_url = 'http://127.0.0.1:3210'").unwrap();
        assert!(!loopback.is_clear_text());
    }

    #[test]
    fn the_file_of_an_authority_is_read_with_the_config_and_what_is_wrong_with_it_is_said() {
        let text = |file: &str| {
            format!("convex_url = 'https://a.b'\ndirectory = '/'\nconvex.ca_file = 'DIR/{file}'")
        };
        let error = error_of(&text("none.pem"), with_token());
        assert!(error.contains("in line 3: cannot read the CA file `DIR/none.pem`: "), "{error}");
        let error = error_of(&text("short.token"), with_token());
        assert!(
            error.contains("in line 3: the CA file `DIR/short.token` holds no certificate; it must"),
            "{error}"
        );
    }

    fn with_token() -> Overrides {
        Overrides { token: Some(TOKEN.to_owned().into()), ..Overrides::default() }
    }

    #[test]
    fn what_a_flag_says_wrong_is_not_blamed_on_the_file() {
        let file = "convex_url = 'https://a.b'\ndirectory = '/'\ntoken_file = 'DIR/short.token'";
        let overrides = Overrides { directory: Some("/nowhere".into()), ..with_token() };
        assert!(error_of(file, overrides).starts_with("`/nowhere` is not a directory"));
        let overrides = Overrides { convex_url: Some("a b".into()), ..with_token() };
        assert!(error_of(file, overrides).starts_with("the Convex URL is not valid"));
        let overrides = Overrides { token: Some("a:b".to_owned().into()), ..Overrides::default() };
        assert!(error_of(file, overrides).starts_with("the token is not valid"));
    }

    #[test]
    fn what_is_missing_is_named_with_the_ways_to_give_it() {
        let error = load(None, Overrides::default()).unwrap_err().to_string();
        assert_eq!(
            error,
            "no Convex URL is given; set `--convex-url`, `CONVEX_URL` or `convex_url` in the config file"
        );
    }
}
