//! Many workers from one file: our own TOML, or the predecessor's JSON with comments.
//!
//! In TOML, what stands at the top holds for all workers, and each `[[workers]]` may say otherwise:
//!
//! ```toml
//! convex_url = "https://happy-animal-123.convex.cloud"
//!
//! [[workers]]
//! name = "site"
//! directory = "~/site"
//! token_file = "site.token"
//! turns.max_concurrent = 4
//! ```
//!
//! Relative paths start at the file's own directory. The predecessor's file is `{"workers": [{"token", "working_directory",
//! "convex_url"}]}`; relative paths in it start, as they did there, at the directory that the process was started in.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
};

use json_comments::StripComments;
use secrecy::SecretString;
use serde::Deserialize;
use toml::Spanned;

use super::{
    AdminAddress, Config, ConvexSettings, HeartbeatSettings, LifecycleSettings, OpencodeSettings,
    RetentionSettings, SessionSettings, Settings, SyncSettings, TurnSettings,
    error::{ConfigError, FleetError, MAX_NAME, MAX_WORKERS},
    file::{Merged, Overrides, read, refuse_exposed, validate},
    line_of,
    places::Places,
};

/// What the file is called in errors.
const WORKERS_FILE: &str = "the workers file";

/// Workers that run together, not yet validated one by one.
#[derive(Debug, Clone)]
pub struct Fleet {
    path: PathBuf,
    /// Where metrics and health of all of them are served.
    pub admin: Option<AdminAddress>,
    /// In the order of the file.
    pub members: Vec<Member>,
}

/// One worker of a file.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name in logs and metrics.
    pub name: String,
    /// The line in which its entry begins.
    line: usize,
    /// Its settings.
    pub merged: Merged,
}

/// The settings that may stand at the top and with each worker, beside keys of its own. Read for their errors, which
/// point into the file; the settings themselves are laid over each other as tables, where what is not said does not
/// count.
macro_rules! with_settings {
    (struct $name:ident { $($key:ident: $type:ty,)* }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            $($key: $type,)*
            #[serde(rename = "convex")]
            _convex: Option<ConvexSettings>,
            #[serde(rename = "turns")]
            _turns: Option<TurnSettings>,
            #[serde(rename = "sessions")]
            _sessions: Option<SessionSettings>,
            #[serde(rename = "sync")]
            _sync: Option<SyncSettings>,
            #[serde(rename = "opencode")]
            _opencode: Option<OpencodeSettings>,
            #[serde(rename = "heartbeat")]
            _heartbeat: Option<HeartbeatSettings>,
            #[serde(rename = "retention")]
            _retention: Option<RetentionSettings>,
            #[serde(rename = "lifecycle")]
            _lifecycle: Option<LifecycleSettings>,
        }
    };
}

with_settings! {
    struct TomlFile {
        convex_url: Option<String>,
        admin: Option<AdminAddress>,
        workers: Vec<Spanned<TomlWorker>>,
    }
}

with_settings! {
    struct TomlWorker {
        name: Option<String>,
        directory: PathBuf,
        token: Option<String>,
        token_file: Option<PathBuf>,
        convex_url: Option<String>,
    }
}

/// The predecessor's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonFile {
    workers: Vec<JsonWorker>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonWorker {
    token: String,
    working_directory: PathBuf,
    convex_url: String,
}

/// One entry of either kind of file.
struct Entry {
    line: usize,
    name: Option<String>,
    /// What the file says of it, for the origins of values.
    table: toml::Table,
    token: Option<String>,
    token_file: Option<PathBuf>,
    directory: PathBuf,
    convex_url: Option<String>,
    settings: Settings,
}

impl Fleet {
    /// Reads the file at `path`: JSON if it is called `.json` or `.jsonc`, otherwise TOML. What `overrides` say of the
    /// URL, OpenCode's executable and the admin address holds for all workers.
    pub fn read(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let text = read(WORKERS_FILE, path)?;
        let is_json = path.extension().is_some_and(|extension| extension == "json" || extension == "jsonc");
        let (admin, entries) =
            if is_json { (None, from_json(path, &text)?) } else { from_toml(path, &text)? };
        if !(1..=MAX_WORKERS).contains(&entries.len()) {
            return Err(FleetError::Count { path: path.to_owned(), found: entries.len() }.into());
        }
        if entries.iter().any(|entry| entry.token.is_some()) {
            refuse_exposed(WORKERS_FILE, path)?;
        }
        let admin = match &overrides.admin {
            Some(address) => Some(address.parse()?),
            None => admin,
        };
        let members =
            entries.into_iter().enumerate().map(|(number, entry)| member(path, number + 1, entry, overrides));
        let mut fleet = Self { path: path.to_owned(), admin, members: members.collect::<Result<_, _>>()? };
        fleet.tell_apart()?;
        fleet.keep_owners_apart(overrides.state_directory.as_deref())?;
        Ok(fleet)
    }

    /// Validates every worker; by their names.
    pub fn validate(&self) -> Result<BTreeMap<String, Config>, ConfigError> {
        let validate = |member: &Member| {
            let config = member.merged.clone().validate().map_err(|problem| self.blame(member, problem))?;
            Ok((member.name.clone(), config))
        };
        self.members.iter().map(validate).collect()
    }

    /// Says of which worker an error is.
    pub fn blame(&self, member: &Member, problem: ConfigError) -> ConfigError {
        blame(&self.path, &member.name, member.line, problem)
    }

    /// Two workers with one name could not be told apart by people, two with one token drive each other out.
    fn tell_apart(&self) -> Result<(), FleetError> {
        let (mut names, mut tokens) = (BTreeSet::new(), BTreeSet::new());
        for member in &self.members {
            let twice = |what| {
                let (path, name) = (self.path.clone(), member.name.clone());
                Err(FleetError::Twice { path, name, line: member.line, what })
            };
            if !names.insert(&member.name) {
                return twice("name");
            }
            // A token that cannot be read is a matter of its own.
            if let Ok(token) = member.merged.token()
                && !tokens.insert((token.machine_id, token.worker_id))
            {
                return twice("token");
            }
        }
        Ok(())
    }
}

impl Fleet {
    /// OpenCode shows all sessions of a data directory to whoever asks, and uses its logins for them. Workers of one owner
    /// share the user's own; where there are several owners, each gets one below `state`. A machine has one owner, so its
    /// id tells owners apart. What cannot be read of a token is a matter of its own.
    fn keep_owners_apart(&mut self, state: Option<&Path>) -> Result<(), ConfigError> {
        let owner = |member: &Member| member.merged.token().ok().map(|token| token.machine_id);
        let owners: BTreeSet<String> = self.members.iter().filter_map(owner).collect();
        if owners.len() < 2 {
            return Ok(());
        }
        let mut taken: BTreeMap<PathBuf, String> = BTreeMap::new();
        for member in &mut self.members {
            let Some(owner) = owner(member) else { continue };
            let data = &mut member.merged.settings.opencode.data_directory;
            let directory = match data.take() {
                Some(directory) => directory,
                None => state.ok_or(NO_STATE_DIRECTORY)?.join("opencode").join(&owner),
            };
            if taken.entry(directory.clone()).or_insert_with(|| owner.clone()) != &owner {
                let (path, name, line) = (self.path.clone(), member.name.clone(), member.line);
                return Err(FleetError::SharedData { path, name, line, directory }.into());
            }
            *data = Some(directory);
        }
        Ok(())
    }
}

const NO_STATE_DIRECTORY: ConfigError = ConfigError::Missing {
    what: "directory for the data of several owners' OpenCode",
    hint: "`HOME`, or `opencode.data_directory` with each worker",
};

fn blame(path: &Path, name: &str, line: usize, problem: ConfigError) -> ConfigError {
    let problem = match problem {
        // Flags and variables for a single worker mean nothing here.
        ConfigError::Missing { what: what @ "token", .. } => {
            ConfigError::Missing { what, hint: "`token_file` (or `token`) there" }
        }
        ConfigError::Missing { what, .. } => {
            ConfigError::Missing { what, hint: "`convex_url` there, or at the top for all" }
        }
        problem => problem,
    };
    let (path, name) = (path.to_owned(), name.to_owned());
    FleetError::Worker { path, name, line, problem: Box::new(problem) }.into()
}

fn from_toml(path: &Path, text: &str) -> Result<(Option<AdminAddress>, Vec<Entry>), FleetError> {
    let invalid = |source| FleetError::Toml { path: path.to_owned(), source: Box::new(source) };
    let file: TomlFile = toml::from_str(text).map_err(invalid)?;
    let mut top: toml::Table = toml::from_str(text).map_err(invalid)?;
    top.remove("admin");
    let tables = match top.remove("workers") {
        Some(toml::Value::Array(tables)) => tables,
        _ => unreachable!("it was read as an array a moment ago"),
    };
    let beside = |relative: PathBuf| in_full(path.parent().unwrap_or(Path::new(".")), relative);
    let entry = |(worker, table): (Spanned<TomlWorker>, toml::Value)| {
        let line = line_of(text, worker.span().start);
        let worker = worker.into_inner();
        let mut both = top.clone();
        if let toml::Value::Table(table) = table {
            overlay(&mut both, table);
        }
        let mut settings = settings(&both);
        settings.convex.ca_file = settings.convex.ca_file.map(beside);
        Entry {
            line,
            name: worker.name,
            token: worker.token,
            token_file: worker.token_file.map(beside),
            directory: beside(worker.directory),
            convex_url: worker.convex_url.or_else(|| file.convex_url.clone()),
            settings,
            table: both,
        }
    };
    Ok((file.admin, file.workers.into_iter().zip(tables).map(entry).collect()))
}

fn from_json(path: &Path, text: &str) -> Result<Vec<Entry>, FleetError> {
    let invalid = |source| FleetError::Json { path: path.to_owned(), source };
    // Comments become blanks, so that lines and columns stay what they are.
    let mut plain = String::new();
    let stripped = StripComments::new(text.as_bytes()).read_to_string(&mut plain);
    stripped.map_err(|error| invalid(serde_json::Error::io(error)))?;
    let file: JsonFile = serde_json::from_str(&plain).map_err(invalid)?;
    let lines = plain.match_indices("\"token\"").map(|(place, _)| line_of(&plain, place));
    let lines: Vec<usize> = lines.collect();
    let entry = |(number, worker): (usize, JsonWorker)| Entry {
        line: lines.get(number).copied().unwrap_or(1),
        name: None,
        table: toml::Table::from_iter([("convex_url".to_owned(), worker.convex_url.clone().into())]),
        token: Some(worker.token),
        token_file: None,
        directory: in_full(Path::new("."), worker.working_directory),
        convex_url: Some(worker.convex_url),
        settings: Settings::default(),
    };
    Ok(file.workers.into_iter().enumerate().map(entry).collect())
}

/// Lays `over` over `under`, table by table.
fn overlay(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => overlay(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

/// The settings of a table whose parts were read without an error before.
fn settings(table: &toml::Table) -> Settings {
    let keys = ["convex", "turns", "sessions", "sync", "opencode", "heartbeat", "retention", "lifecycle"];
    let ours = table.iter().filter(|(key, _)| keys.contains(&key.as_str()));
    let ours: toml::Table = ours.map(|(key, value)| (key.clone(), value.clone())).collect();
    ours.try_into().expect("tables of valid settings are valid when they are laid over each other")
}

/// A path that may begin with `~/`, or else at `base`.
fn in_full(base: &Path, path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => base.join(path),
    }
}

fn member(path: &Path, number: usize, entry: Entry, overrides: &Overrides) -> Result<Member, ConfigError> {
    let line = entry.line;
    let numbered = entry.name.clone().unwrap_or_else(|| number.to_string());
    let mut settings = entry.settings;
    if let Some(binary) = &overrides.opencode {
        settings.opencode.binary.clone_from(binary);
    }
    if let Some(data) = settings.opencode.data_directory.take() {
        let base = path.parent().unwrap_or(Path::new("."));
        settings.opencode.data_directory = Some(in_full(base, data));
    }
    validate(&settings).map_err(|problem| blame(path, &numbered, line, problem))?;
    let merged = Merged {
        file: entry.table,
        convex_url: overrides.convex_url.clone().or(entry.convex_url),
        token: entry.token.map(SecretString::from),
        token_file: entry.token_file,
        directory: entry.directory,
        settings,
        // The line of the whole entry is what its errors show.
        places: Places::default(),
    };
    let name = match entry.name {
        Some(name) => name,
        // Without a name, the worker's own id is one.
        None => merged.token().map_err(|problem| blame(path, &numbered, line, problem))?.worker_id,
    };
    check_name(&name).map_err(|problem| blame(path, &numbered, line, problem.into()))?;
    Ok(Member { name, line, merged })
}

fn check_name(name: &str) -> Result<(), FleetError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let fits = !name.is_empty() && name.chars().count() <= MAX_NAME && name.chars().all(legal);
    if fits { Ok(()) } else { Err(FleetError::Name { name: name.chars().take(40).collect() }) }
}

#[cfg(test)]
mod tests;
