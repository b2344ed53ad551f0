//! The schemas that are printed, and the ones that are kept.

use std::{fs, path::Path};

use crate::place::Place;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Compares the kept schema with the one that is printed.
#[track_caller]
fn check(name: &str) {
    let (printed, _) = Place::with("").check(&["schema", name], 0);
    let file = format!("docs/schema/{name}.schema.json");
    let kept = fs::read_to_string(Path::new(ROOT).join(&file)).unwrap();
    assert!(
        kept == printed,
        "{file} is not what is written any more: read docs/reports.md, then `cargo run -p sim -- schema {name} > {file}`"
    );
}

#[test]
fn the_schemas_that_are_kept_are_those_of_what_is_written() {
    check("report");
    check("sweep");
    check("baseline");
}

#[test]
fn without_a_word_the_schema_is_that_of_scenarios() {
    let print = |arguments: &[&str]| Place::with("").check(arguments, 0).0;
    assert_eq!(print(&["schema"]), print(&["schema", "scenario"]));
}
