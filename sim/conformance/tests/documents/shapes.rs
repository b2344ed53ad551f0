//! What the command writes has the shape that its schemas describe, to the last field.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{ROOT, read};

/// The executables, built as people build them; without what cargo tells a test about its package, which would have
/// much of them built again.
static BUILT: LazyLock<[PathBuf; 2]> = LazyLock::new(|| {
    ["sim", "worker"].map(|name| {
        let build = escargot::CargoBuild::new().args(["--package=sim", "--package=worker"]).bin(name);
        let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST");
        let about_us = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told));
        let build = about_us.fold(build, |build, (name, _)| build.env_remove(name));
        build.current_release().run().expect("it builds").path().to_owned()
    })
});

/// A heap that no worker keeps, so that there is a violation to tell.
const SCENARIO: &str = "duration = '8s'\n[workload]\nturns = 3\n[[faults]]\nat = '4s'\nkind = 'kill'\n\
    [limits]\nworker_heap_idle = '1B'\n";

/// Runs the command in `place` and returns what it printed.
#[track_caller]
fn sim(place: &Path, arguments: &[&str], code: i32) -> String {
    let output = Command::new(&BUILT[0]).current_dir(place).args(arguments).output().expect("it starts");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    out
}

fn place() -> TempDir {
    let place = tempfile::tempdir().expect("a directory");
    fs::write(place.path().join("some.toml"), SCENARIO).expect("a scenario");
    place
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("it is JSON")
}

/// `schema`, in which no object may have a field that is not described.
fn closed(schema: Value) -> Value {
    let Value::Object(fields) = schema else {
        let Value::Array(values) = schema else { return schema };
        return values.into_iter().map(closed).collect();
    };
    let is_object = fields.contains_key("properties");
    // Cases of an object that has fields of its own describe the other ones: together they are whole.
    let part = |name: &str, value| if is_object && name == "oneOf" { value } else { closed(value) };
    let mut all: Map<_, _> =
        fields.into_iter().map(|(name, value)| (name.clone(), part(&name, value))).collect();
    if is_object {
        all.entry("unevaluatedProperties").or_insert(false.into());
    }
    Value::Object(all)
}

/// Where `document` has not the shape of `schema`.
fn errors(schema: &Value, document: &Value) -> Vec<String> {
    let validator: Validator = jsonschema::draft202012::new(schema).expect("a schema");
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Each document has the shape that is printed for it, and no field that is not described.
#[track_caller]
fn check(name: &str, documents: &[Value]) {
    let schema = parsed(&sim(Path::new(ROOT), &["schema", name], 0));
    for document in documents {
        assert_eq!(errors(&schema, document), [""; 0], "{name}");
        assert_eq!(errors(&closed(schema.clone()), document), [""; 0], "{name}, closed");
    }
}

#[test]
fn reports_of_runs_have_their_shape() {
    let place = place();
    sim(place.path(), &["some.toml", "--seed", "7", "--plant", "claim-off", "--quiet"], 10);
    let failed = fs::read_to_string(place.path().join("reports/some-0x7.json")).expect("a report");
    let failed = parsed(&failed);
    assert_ne!(failed["violations"], json!([]));
    check("report", &[failed, parsed(&read("reports/example/smoke-0x1.json"))]);
}

#[test]
fn reports_of_runs_in_real_time_have_their_shape() {
    let place = place();
    let worker = BUILT[1].to_str().expect("a path of letters");
    let against = format!("{worker} run");
    let run = ["load", "some.toml", "--seed", "7", "--time-scale", "4", "--quiet", "--worker", worker];
    sim(place.path(), &[&run[..], &["--against", &against]].concat(), 0);
    let limits = ["limits", "--steps", "1", "--hold", "1s", "--bound", "5s", "--starts", "20", "--quiet"];
    sim(place.path(), &[&limits[..], &["--worker", worker]].concat(), 0);
    let report = |file: &str| parsed(&fs::read_to_string(place.path().join(file)).expect("a report"));
    let [load, limits] = ["reports/some-load-0x7.json", "reports/limits-load-0x1.json"].map(report);
    assert_ne!((&load["load"]["against"], &limits["load"]["steps"]), (&json!([]), &json!([])));
    check("report", &[load, limits]);
}

#[test]
fn reports_of_sweeps_have_their_shape() {
    let place = place();
    sim(place.path(), &["some.toml", "--seeds", "2", "--shard", "1/2", "--quiet"], 10);
    let shard = fs::read_to_string(place.path().join("reports/sweep-some-shard-1-of-2.json"));
    check("sweep", &[parsed(&shard.expect("a report"))]);
}

#[test]
fn the_baseline_has_its_shape() {
    check("baseline", &[parsed(&read("reports/baseline.json"))]);
}

#[test]
fn scenarios_have_their_shape() {
    let schema = parsed(&sim(Path::new(ROOT), &["schema"], 0));
    for entry in fs::read_dir(Path::new(ROOT).join("scenarios")).expect("scenarios") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("a scenario");
        let scenario: Value = toml::from_str(&text).expect("TOML");
        assert_eq!(errors(&schema, &scenario), [""; 0], "{}", path.display());
    }
}

#[test]
fn another_shape_is_noticed() {
    let schema = parsed(&sim(Path::new(ROOT), &["schema", "report"], 0));
    let mut report = parsed(&read("reports/example/smoke-0x1.json"));
    report["figures"]["new"] = json!(1);
    assert_eq!((errors(&schema, &report).len(), errors(&closed(schema.clone()), &report).len()), (0, 1));
    report["schema"] = json!(0);
    report["seed"] = json!(42);
    assert_eq!(errors(&schema, &report).len(), 2);
}
