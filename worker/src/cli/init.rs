//! `worker init`: a commented config file, and a token.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use worker::{
    config::{ConvexUrl, Token, TokenError, UrlError},
    env::{Env, system::SystemEnv},
};

/// Every setting that people may want to change, commented out, with its default.
const TEMPLATE: &str = include_str!("init/template.toml");
/// Random bytes in a secret.
const SECRET_BYTES: usize = 32;
/// Random bytes in a worker's id.
const ID_BYTES: usize = 9;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The file to write.
    #[arg(long, env = "WORKER_CONFIG", value_name = "FILE", default_value = "worker.toml")]
    config: PathBuf,
    /// URL of the Convex deployment.
    #[arg(long, env = "CONVEX_URL", value_name = "URL")]
    convex_url: String,
    /// Make a token for this machine, in a file beside the config that only you can read.
    #[arg(long, value_name = "machine_ID")]
    machine: Option<String>,
    /// Replace files that are there. A replaced token cannot be had back.
    #[arg(long)]
    force: bool,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("the Convex URL is not valid: {0}")]
    Url(#[from] UrlError),
    #[error("`--machine` is not valid: {0}")]
    Machine(#[from] TokenError),
    #[error("`{}` is there already; use `--force` to replace it", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write `{}`: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Writes the files; returns what to tell the person.
pub(crate) fn init(options: &Options) -> Result<String, InitError> {
    let _: ConvexUrl = options.convex_url.parse()?;
    let token = options.machine.as_deref().map(new_token).transpose()?;
    let token_file = token.as_ref().map(|_| token_path(&options.config)).transpose()?;
    // Nothing is replaced unless everything may be.
    for path in [Some(&options.config), token_file.as_ref()].into_iter().flatten() {
        if path.exists() && !options.force {
            return Err(InitError::Exists { path: path.clone() });
        }
    }
    let mut told = String::new();
    if let (Some((token, secret)), Some(path)) = (&token, &token_file) {
        write(path, 0o600, secret.expose_secret())?;
        told.push_str(&format!("wrote the token of {} to {}\n", token.worker_id, path.display()));
    }
    write(&options.config, 0o644, &config_text(&options.convex_url, token_file.as_deref()))?;
    let config = options.config.display();
    told.push_str(&format!("wrote {config}\n"));
    if token.is_none() {
        told.push_str("no token was made: name the worker's machine (`--machine`), or set WORKER_TOKEN\n");
    }
    told.push_str(&format!(
        "next: `worker doctor --config {config}`, then `worker run --config {config}`, then approve the worker"
    ));
    Ok(told)
}

/// The token's file stands beside the config, by its whole path: a worker may be started from anywhere.
fn token_path(config: &Path) -> Result<PathBuf, InitError> {
    let path = config.with_extension("token");
    std::path::absolute(&path).map_err(|source| InitError::Write { path, source })
}

fn new_token(machine: &str) -> Result<(Token, SecretString), TokenError> {
    let text = format!("{machine}:worker_{}:{}\n", random::<ID_BYTES>(), random::<SECRET_BYTES>());
    Ok((text.parse()?, text.into()))
}

fn random<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    SystemEnv.random(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn config_text(url: &str, token_file: Option<&Path>) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let mut head = format!("# The Convex deployment.\nconvex_url = {}\n\n", quoted(url.trim()));
    head.push_str("# The file that holds the token, alone and readable by you alone; or set WORKER_TOKEN.\n");
    match token_file {
        Some(path) => head.push_str(&format!("token_file = {}\n", quoted(&path.display().to_string()))),
        None => head.push_str("#token_file = \"worker.token\"\n"),
    }
    format!("{head}\n{TEMPLATE}")
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), InitError> {
    let written = replace(path, mode).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| InitError::Write { path: path.to_owned(), source })
}

/// A new file of its own: a file that is there keeps its mode when it is truncated, and may be open elsewhere.
fn replace(path: &Path, mode: u32) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use worker::config::{
        FOR_TESTS, Settings,
        file::{Overrides, load},
    };

    use super::*;

    fn options(dir: &Path, machine: Option<&str>, force: bool) -> Options {
        Options {
            config: dir.join("worker.toml"),
            convex_url: "http://127.0.0.1:3210".into(),
            machine: machine.map(Into::into),
            force,
        }
    }

    #[test]
    fn what_is_written_is_a_valid_config_with_a_token_that_nobody_else_reads() {
        let dir = tempfile::tempdir().unwrap();
        let told = init(&options(dir.path(), Some("machine_m1"), false)).unwrap();
        let config = load(Some(&dir.path().join("worker.toml")), Overrides::default()).unwrap();
        assert_eq!((config.token.machine_id.as_str(), config.settings), ("machine_m1", Settings::default()));
        assert!(!told.contains(config.token.expose_secret()), "{told}");
        let mode = std::fs::metadata(dir.path().join("worker.token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn without_a_machine_it_says_that_there_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let told = init(&options(dir.path(), None, false)).unwrap();
        assert!(told.contains("no token was made") && !dir.path().join("worker.token").exists(), "{told}");
    }

    #[test]
    fn what_is_there_is_replaced_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("worker.token"), "precious").unwrap();
        let error = init(&options(dir.path(), Some("machine_m1"), false)).unwrap_err();
        assert!(matches!(error, InitError::Exists { .. }), "{error}");
        assert!(!dir.path().join("worker.toml").exists());
        init(&options(dir.path(), Some("machine_m1"), true)).unwrap();
        let mode = std::fs::metadata(dir.path().join("worker.token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_template_names_every_setting_but_those_for_tests_with_its_default() {
        let is_setting = |line: &&str| line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[');
        let all = TEMPLATE.lines().map(|line| line.strip_prefix('#').unwrap_or(line)).filter(is_setting);
        let all: toml::Table = toml::from_str(&all.collect::<Vec<_>>().join("\n")).unwrap();
        let mut expected = toml::Table::try_from(Settings::default()).unwrap();
        for (table, name) in FOR_TESTS.iter().map(|key| key.split_once('.').unwrap()) {
            expected[table].as_table_mut().unwrap().remove(name);
        }
        // Those that have no default show an example.
        expected.insert("admin".into(), "127.0.0.1:9464".into());
        expected.insert("directory".into(), ".".into());
        let mut example = |table: &str, key: &str, value: toml::Value| {
            expected[table].as_table_mut().unwrap().insert(key.into(), value);
        };
        example("convex", "ca_file", "ca.pem".into());
        example("opencode", "data_directory", "/var/lib/worker/opencode".into());
        example("retention", "days", 90.into());
        assert_eq!(all, expected);
    }
}
