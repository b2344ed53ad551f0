//! What documents, scripts and the workflow call is there.

use std::{ffi::OsString, fs, path::Path};

use serde_json::Value;
use sim::cli::Cli;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A file of the repository.
fn read(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// How the command is called.
const CALLS: [&str; 5] = [
    "cargo sim ",
    "cargo run -p sim -- ",
    "cargo run --release -p sim -- ",
    "target/debug/sim ",
    "target/release/sim ",
];

/// The arguments of each call in a text, as far as they are written out.
fn calls(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ").replace("cargo run --locked ", "cargo run ");
    let arguments = |line: &str| {
        let (_, rest) = CALLS.iter().find_map(|call| line.split_once(call))?;
        let ends = [" #", " ||", " &&", " >", "`", "  ", ";"];
        let end = ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
        let mut rest = rest[..end].to_owned();
        // What the shell or the workflow fills in.
        while let Some((before, (inside, after))) =
            rest.split_once("${").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            let value = inside.split_once(":+").map_or("1", |(_, value)| value);
            rest = format!("{before}{value}{}", after.trim_start_matches('}'));
        }
        (!rest.contains('…')).then(|| shlex::split(&rest).unwrap_or_else(|| panic!("{line}")))
    };
    text.lines().filter_map(arguments).collect()
}

/// Each call in a text is understood, and the scenarios that it names are there. Returns how many calls there are.
#[track_caller]
fn check(place: &str, text: &str) -> usize {
    let calls = calls(text);
    for arguments in &calls {
        let line = [&["sim".to_owned()], &arguments[..]].concat();
        if let Err(error) = Cli::read(line.into_iter().map(OsString::from)) {
            panic!("{place} calls `sim {}`:\n{error}", arguments.join(" "));
        }
        for file in arguments.iter().filter(|file| file.starts_with("scenarios/") && !file.contains('*')) {
            assert!(Path::new(ROOT).join(file).exists(), "{place} names {file}");
        }
    }
    calls.len()
}

#[test]
fn the_workflow_calls_what_there_is() {
    let workflow: Value = serde_saphyr::from_str(&read(".github/workflows/ci.yml")).unwrap();
    let jobs = workflow["jobs"].as_object().unwrap();
    let steps = jobs.values().flat_map(|job| job["steps"].as_array().unwrap());
    let scripts: Vec<_> = steps.filter_map(|step| step["run"].as_str()).collect();
    let calls: usize = scripts.iter().map(|script| check("ci.yml", script)).sum();
    assert_eq!(calls, 3, "{scripts:#?}");
    for script in scripts.iter().flat_map(|script| script.lines()).filter(|line| line.starts_with(".ci/")) {
        assert!(Path::new(ROOT).join(script).is_file(), "{script}");
    }
}

#[test]
fn documents_and_scripts_call_what_there_is() {
    let mut calls = 0;
    for file in ["README.md", "ARCHITECTURE.md", ".ci/test", "reports/example/README.md"] {
        calls += check(file, &read(file));
    }
    for entry in fs::read_dir(Path::new(ROOT).join("docs")).unwrap() {
        let file = format!("docs/{}", entry.unwrap().file_name().to_string_lossy());
        calls += if file.ends_with(".md") { check(&file, &read(&file)) } else { 0 };
    }
    assert!(calls > 30, "only {calls} were found");
}
