//! What the guides say, held beside what there is.

use std::{collections::BTreeSet, fs, path::Path};

const PREDECESSOR: &str = include_str!("../../../docs/predecessor.md");
const GUIDE: &str = include_str!("../../../docs/deploy.md");

/// A guide that names a scenario which is not there proves nothing.
#[test]
fn every_scenario_that_a_guide_names_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut named = 0;
    for guide in ["README.md", "ARCHITECTURE.md", "docs/predecessor.md", "docs/deploy.md", "docs/migrate.md"]
    {
        let text = fs::read_to_string(top.join(guide)).unwrap();
        for rest in text.split("scenarios/").skip(1) {
            let length =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c)).unwrap_or(rest.len());
            if let Some(name) = rest[..length].strip_suffix(".toml").filter(|name| !name.is_empty()) {
                assert!(top.join(format!("scenarios/{name}.toml")).exists(), "{guide} names {name}");
                named += 1;
            }
        }
    }
    assert!(named > 10, "{named}");
}

#[test]
fn each_fault_of_the_predecessor_has_a_scenario() {
    let rows: Vec<_> = PREDECESSOR.lines().filter(|line| line.starts_with("| P")).collect();
    assert_eq!(rows.len(), 12);
    for (number, row) in rows.iter().enumerate() {
        assert!(row.starts_with(&format!("| P{} |", number + 1)), "{row}");
        assert!(row.contains("scenarios/"), "{row}");
    }
}

/// The place of the line that begins with `command`.
#[track_caller]
fn place(command: &str) -> usize {
    let found = GUIDE.lines().position(|line| line.starts_with(command));
    found.unwrap_or_else(|| panic!("docs/deploy.md does not say `{command}`"))
}

/// Convex refuses a push while a variable that this file reads is not set.
#[test]
fn every_variable_of_the_sign_in_is_set_before_each_of_both_deployments() {
    let config = include_str!("../../convex/auth.config.ts");
    let names = config
        .split("process.env.")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap());
    let names: BTreeSet<&str> = names.collect();
    assert_eq!(names, BTreeSet::from(["AUTH_AUDIENCE", "AUTH_ISSUER"]));
    let (init, development, production) =
        (place("npx convex init"), place("npx convex dev --once"), place("npx convex deploy"));
    for name in names {
        let set = place(&format!("npx convex env set {name} "));
        assert!(init < set && set < development, "{name}");
        assert!(place(&format!("npx convex env set --prod {name} ")) < production, "{name}");
    }
}
