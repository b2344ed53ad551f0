//! A home and a project of their own for one OpenCode, gone when it is dropped, with everything that runs in them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// What OpenCode is told about its provider: the model `m1` is the default, `m2` the other one.
fn config(model_server: &str, asks: bool) -> serde_json::Value {
    let permission = if asks { "ask" } else { "allow" };
    json!({
        "$schema": "https://opencode.ai/config.json",
        "provider": { "fake": {
            "npm": "@ai-sdk/openai-compatible",
            "name": "Fake",
            "options": { "baseURL": model_server, "apiKey": fake_opencode::PROVIDER_KEY },
            "models": { "m1": { "name": "M1" }, "m2": { "name": "M2" } },
        } },
        "model": "fake/m1",
        "permission": { "bash": permission },
    })
}

/// Where one OpenCode lives.
#[derive(Debug)]
pub struct Place {
    root: TempDir,
    /// The project that it works in: a repository of its own.
    pub project: PathBuf,
}

impl Place {
    /// Makes the directories and the project's config. `asks`: whether each command of the `bash` tool needs permission.
    ///
    /// # Errors
    /// If the directory for temporary files does not let it, or git does not run.
    pub fn new(model_server: &str, asks: bool) -> io::Result<Self> {
        let root = tempfile::Builder::new().prefix("conformance-").tempdir()?;
        let project = root.path().canonicalize()?.join("project");
        fs::create_dir(&project)?;
        fs::write(project.join("opencode.json"), config(model_server, asks).to_string())?;
        let place = Self { root, project };
        for arguments in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "--message=begin"]]
        {
            place.git(arguments)?;
        }
        Ok(place)
    }

    fn git(&self, arguments: &[&str]) -> io::Result<()> {
        let author = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.com"];
        let mut git = Command::new("git");
        let status =
            git.args(author).args(arguments).current_dir(&self.project).envs(self.variables()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("git {arguments:?}: {status}"))) }
    }

    /// The directory that goes with it.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The environment that makes a process live here and ask nobody outside for anything.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let below = |name: &str| self.root.path().join(name).to_string_lossy().into_owned();
        vec![
            ("HOME", below("home")),
            ("XDG_CONFIG_HOME", below("config")),
            ("XDG_DATA_HOME", below("data")),
            ("XDG_CACHE_HOME", below("cache")),
            ("XDG_STATE_HOME", below("state")),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1".into()),
            ("OPENCODE_DISABLE_AUTOUPDATE", "1".into()),
            // OpenCode would install a package of its own; nobody listens there.
            ("npm_config_registry", "http://127.0.0.1:9".into()),
        ]
    }

    /// The processes that live here, by number.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let home = format!("HOME={}", self.root.path().join("home").display());
        let lives_here = |process: &Path| {
            // Other people's processes cannot be read, and are not ours.
            let environ = fs::read(process.join("environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|variable| variable == home.as_bytes())
        };
        let all = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
        let here = all.filter(|process| lives_here(process));
        here.filter_map(|process| process.file_name()?.to_str()?.parse().ok()).collect()
    }

    /// Waits until nothing lives here any more.
    ///
    /// # Errors
    /// The command lines of what is still there when `patience` is over.
    pub async fn is_left(&self, patience: Duration) -> Result<(), Vec<String>> {
        let end = Instant::now() + patience;
        loop {
            let left: Vec<_> = self.processes().into_iter().filter_map(command_line).collect();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(left);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for process in self.processes() {
            // It may have ended meanwhile.
            let _ = Command::new("kill").args(["-KILL", &process.to_string()]).status();
        }
    }
}

/// What a process was started with; nothing if it is gone or only waits to be reaped.
#[must_use]
pub fn command_line(process: u32) -> Option<String> {
    let words = fs::read(format!("/proc/{process}/cmdline")).ok().filter(|words| !words.is_empty())?;
    Some(format!("{process}: {}", String::from_utf8_lossy(&words).replace('\0', " ")))
}
