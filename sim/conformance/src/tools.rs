//! What `npm ci` has installed beside this crate. The tests run without it and say what they leave out.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Where `package.json` is.
pub const DIRECTORY: &str = env!("CARGO_MANIFEST_DIR");
/// Makes what is missing a failure: for CI, which has installed everything.
const REQUIRE: &str = "CONFORMANCE_REQUIRED";

/// The real OpenCode: what `OPENCODE_BINARY` names, or the one that npm has installed.
///
/// # Panics
/// If there is none although `CONFORMANCE_REQUIRED` is set.
#[must_use]
pub fn opencode() -> Option<PathBuf> {
    let installed = || Path::new(DIRECTORY).join("node_modules/opencode-ai/bin/opencode.exe");
    let binary = std::env::var_os("OPENCODE_BINARY").map_or_else(installed, PathBuf::from);
    found(binary.is_file().then_some(binary), "the real OpenCode")
}

/// Node, with the packages of `package.json` installed.
///
/// # Panics
/// If they are missing although `CONFORMANCE_REQUIRED` is set.
#[must_use]
pub fn node() -> Option<Command> {
    let installed = Path::new(DIRECTORY).join("node_modules/convex").is_dir();
    let runs = || Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
    let mut node = Command::new("node");
    node.current_dir(DIRECTORY);
    found((installed && runs()).then_some(node), "Node with Convex's packages")
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn found<T>(tool: Option<T>, what: &str) -> Option<T> {
    if tool.is_none() {
        let skipped = format!("skipped: {what} is missing; `npm ci --prefix sim/conformance` installs it");
        assert!(std::env::var_os(REQUIRE).is_none(), "{skipped}");
        eprintln!("{skipped}");
    }
    tool
}
