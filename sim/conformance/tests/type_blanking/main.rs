//! The types that the fake Convex blanks out of the backend's files, held against what TypeScript itself erases.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use conformance::tools;
use fake_convex::sources::{blank_types, read_directory};
use serde_json::json;

/// What differs from TypeScript in the syntax trees of these files, if TypeScript is there.
fn differences<'a>(cases: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> Option<String> {
    let mut node = tools::node()?;
    let lines = cases.into_iter().map(|(path, source, blanked)| {
        format!("{}\n", json!({ "path": path, "source": source, "blanked": blanked }))
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines.collect::<String>()).unwrap();
    let output = node.arg("js/same_program.mjs").arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn what_is_blanked_is_what_typescript_erases() {
    let root = Path::new(tools::DIRECTORY);
    let mut files = read_directory(&root.join("../../worker/convex")).unwrap();
    files.retain(|path, _| path.ends_with(".ts") && !path.ends_with(".d.ts"));
    assert!(files.contains_key("chat.ts"));
    files.insert("hazards.ts".into(), include_str!("hazards.ts").into());
    let blanked: Vec<_> = files.values().map(|text| blank_types(text).unwrap()).collect();
    let cases = files.iter().zip(&blanked);
    let found =
        differences(cases.map(|((path, text), blanked)| (path.as_str(), text.as_str(), blanked.as_str())));
    assert_eq!(found.unwrap_or_default(), "");
}

#[test]
fn a_cast_that_is_blanked_without_care_is_found() {
    let source = "let a = b as c\n[1].forEach(d)";
    let found = differences([("careless.ts", source, "let a = b     \n[1].forEach(d)")]);
    assert!(found.is_none_or(|found| found.starts_with("careless.ts\n")));
}
