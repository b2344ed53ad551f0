//! Which worker is measured: the one that is named, otherwise the release build of this workspace, made anew if need be.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// The name of a worker's executable.
const WORKER: &str = "worker";
/// What builds the worker as it is deployed, and nothing else beside it, which could change the features that it has.
const BUILD: [&str; 4] = ["build", "--release", "--package", WORKER];
/// The same for people.
pub const BUILD_COMMAND: &str = "cargo build --release -p worker";

/// A worker's executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// Where it is.
    pub path: PathBuf,
    /// How it was built, as far as that is known.
    pub profile: String,
}

/// There is no worker to run.
#[derive(Debug, thiserror::Error)]
pub enum NoWorker {
    /// Nothing is where it should be.
    #[error("there is no worker at `{}`; build it with `{BUILD_COMMAND}`, or name another one with --worker", .0.display())]
    Missing(PathBuf),
    /// The build failed, and has said why.
    #[error("`{BUILD_COMMAND}` failed; mend what it says, or name a worker that is built with --worker")]
    Build,
    /// It could not be begun, or understood.
    #[error("cannot run `{BUILD_COMMAND}`: {0}; build the worker yourself and name it with --worker")]
    Cargo(#[from] io::Error),
}

/// The worker at `given`. Without it, the release build of the workspace that this program was built from: cargo decides
/// whether it is fresh, and says what it does unless it is to be `quiet`. Where there is no such workspace any more, the
/// worker beside this program.
///
/// # Errors
/// If there is none, or if it cannot be built.
pub fn find(given: Option<&Path>, quiet: bool) -> Result<Binary, NoWorker> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    match given {
        Some(path) => named(path),
        None if workspace.join(WORKER).join("Cargo.toml").is_file() => build(workspace, quiet),
        None => named(&env::current_exe()?.with_file_name(WORKER)),
    }
}

fn named(path: &Path) -> Result<Binary, NoWorker> {
    match path.canonicalize() {
        Ok(path) if path.is_file() => Ok(Binary { profile: profile(&path).to_owned(), path }),
        _ => Err(NoWorker::Missing(path.to_owned())),
    }
}

/// How an executable was built, by the directory that cargo put it into.
fn profile(path: &Path) -> &'static str {
    match path.parent().and_then(Path::file_name).and_then(|name| name.to_str()) {
        Some("release") => "release profile, by its directory; whether it is fresh is not known",
        Some("debug") => "dev profile, by its directory: slower than a release",
        _ => "not known",
    }
}

fn build(workspace: &Path, quiet: bool) -> Result<Binary, NoWorker> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(BUILD).args(["--message-format", "json-render-diagnostics"]).current_dir(workspace);
    // What cargo tells a program that it runs about its package would have dependencies built again.
    for (name, _) in env::vars_os().filter(|(name, _)| is_about_a_package(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    let progress = if quiet { Stdio::null() } else { Stdio::inherit() };
    let built = command.stdin(Stdio::null()).stderr(progress).output()?;
    if !built.status.success() {
        return Err(NoWorker::Build);
    }
    let path = executable(&built.stdout).ok_or_else(|| io::Error::other("it names no executable"))?;
    Ok(Binary { path, profile: "release profile, fresh from this workspace".into() })
}

fn is_about_a_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

/// The worker's executable, as cargo tells of it in lines of JSON.
fn executable(said: &[u8]) -> Option<PathBuf> {
    let messages = said.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let path = |message: Value| {
        let is_worker = message["target"]["name"] == WORKER;
        message["executable"].as_str().filter(|_| is_worker).map(PathBuf::from)
    };
    messages.rev().find_map(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_taken_from_what_cargo_says() {
        let said = br#"{"reason":"compiler-artifact","target":{"name":"tokio"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"build-script-build"},"executable":"/t/build"}
{"reason":"compiler-artifact","target":{"name":"worker"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"worker"},"executable":"/t/release/worker"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(executable(said), Some("/t/release/worker".into()));
        assert_eq!(executable(b"what?"), None);
    }

    #[test]
    fn a_worker_that_is_named_is_taken_with_what_its_directory_says() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("debug").join(WORKER);
        std::fs::create_dir(place.path().join("debug")).unwrap();
        let missing = find(Some(&path), true).unwrap_err().to_string();
        assert!(missing.contains("build it with `cargo build --release -p worker`"), "{missing}");
        std::fs::write(&path, "").unwrap();
        let found = find(Some(&path), true).unwrap();
        assert_eq!(found.profile, "dev profile, by its directory: slower than a release");
        assert_eq!(profile(Path::new("/t/release/worker")).split(',').next(), Some("release profile"));
        assert_eq!(profile(Path::new("/usr/bin/worker")), "not known");
    }
}
