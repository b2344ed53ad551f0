//! A directory of its own, in which the command is run.

use std::{fs, path::Path, process::Stdio, time::Duration};

use assert_cmd::{Command, cargo::cargo_bin};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Place(TempDir);

impl Place {
    /// With this text as `some.toml`.
    pub(crate) fn with(scenario: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path().join("some.toml"), scenario).unwrap();
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn sim(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("sim"));
        command.current_dir(self.path()).args(arguments);
        command
    }

    /// Runs the command to its end. Returns what it said.
    #[track_caller]
    pub(crate) fn check(&self, arguments: &[&str], code: i32) -> (String, String) {
        let output = self.sim(arguments).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
        (out, err)
    }

    /// Starts the command, lets it run a moment, and interrupts it. Returns its exit code.
    pub(crate) fn interrupt(&self, arguments: &[&str]) -> Option<i32> {
        let mut command = std::process::Command::new(cargo_bin("sim"));
        command.current_dir(self.path()).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        wait_a_little();
        let interrupt = ["-INT", &child.id().to_string()];
        assert!(std::process::Command::new("kill").args(interrupt).status().unwrap().success());
        child.wait_with_output().unwrap().status.code()
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    pub(crate) fn json(&self, file: &str) -> Value {
        serde_json::from_str(&self.read(file)).unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "a real process is waited for, in real time")]
fn wait_a_little() {
    std::thread::sleep(Duration::from_secs(3));
}
