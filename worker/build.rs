//! Tells the binary its version, with the commit where that is known: from `WORKER_COMMIT`, or in a release build from
//! the checkout. Debug builds do not look: they would be built anew after each commit.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// As many digits as git shows.
const SHORT: usize = 9;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=WORKER_COMMIT");
    let given = env::var("WORKER_COMMIT").ok();
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = given.or_else(|| if is_release { checkout() } else { None }).unwrap_or_default();
    let commit: String = commit.chars().filter(char::is_ascii_hexdigit).take(SHORT).collect();
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = if commit.is_empty() { version } else { format!("{version} ({commit})") };
    println!("cargo:rustc-env=WORKER_COMMIT={commit}");
    println!("cargo:rustc-env=WORKER_VERSION={version}");
}

/// The commit that is checked out around the package, if it is in a checkout.
fn checkout() -> Option<String> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let dot_git = package.ancestors().map(|dir| dir.join(".git")).find(|path| path.exists())?;
    // In a second work tree, `.git` is a file that names the directory.
    let git = match fs::read_to_string(&dot_git) {
        Ok(text) => dot_git.parent()?.join(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => dot_git,
    };
    let head = read(&git.join("HEAD"))?;
    let Some(name) = head.strip_prefix("ref: ") else { return Some(head) };
    let common = read(&git.join("commondir")).map_or_else(|| git.clone(), |dir| git.join(dir));
    read(&common.join(name)).or_else(|| packed(&common, name))
}

fn packed(common: &Path, name: &str) -> Option<String> {
    let refs = read(&common.join("packed-refs"))?;
    let line = refs.lines().find_map(|line| line.strip_suffix(name))?;
    Some(line.trim().to_owned())
}

fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text.trim().to_owned())
}
