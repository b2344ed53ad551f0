//! No file uses a file that uses it, directly or by others: someone who reads a file needs to know only those below it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::uses::{self, Uses};

/// All crates of the workspace, from its root.
const CRATES: [&str; 10] = [
    "worker",
    "sim/model",
    "sim/oracles",
    "sim/report",
    "sim/convex",
    "sim/opencode",
    "sim/serve",
    "sim",
    "sim/conformance",
    "benches",
];

/// Circles that may stay: crate, files, and why. None has files of different directories.
const ALLOWED: [(&str, &[&str], &str); 0] = [];

/// The groups of files that use each other.
fn circles(uses: &Uses) -> Vec<BTreeSet<PathBuf>> {
    let reach: BTreeMap<_, _> = uses.keys().map(|file| (file, reachable(uses, file))).collect();
    let circle = |file: &PathBuf| {
        let both = reach[file].iter().filter(|other| reach[other].contains(file));
        both.cloned().collect::<BTreeSet<_>>()
    };
    let groups: BTreeSet<_> = uses.keys().map(circle).filter(|group| group.len() > 1).collect();
    groups.into_iter().collect()
}

fn reachable(uses: &Uses, from: &Path) -> BTreeSet<PathBuf> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(file) = next.pop() {
        next.extend(uses[&file].iter().filter(|file| found.insert(PathBuf::clone(file))).cloned());
    }
    found
}

/// The directory of a file; `scenario.rs` belongs to what is in `scenario/`.
fn directory(root: &Path, file: &Path) -> PathBuf {
    let own = file.with_extension("");
    if root.join(&own).is_dir() { own } else { file.parent().unwrap().to_owned() }
}

#[test]
fn files_use_each_other_in_one_direction() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for name in CRATES {
        let root = workspace.join(name).join("src");
        let uses = uses::of_crate(&root);
        assert!(!uses.is_empty(), "{name} has no sources");
        for group in circles(&uses) {
            let allowed = ALLOWED.iter().find(|(of, files, _)| {
                *of == name && group == files.iter().map(PathBuf::from).collect::<BTreeSet<_>>()
            });
            let directories: BTreeSet<_> = group.iter().map(|file| directory(&root, file)).collect();
            match allowed {
                Some((_, files, _)) if directories.len() == 1 => {
                    met.insert((name, *files));
                }
                _ => {
                    let edges = group.iter().flat_map(|file| {
                        let inside = uses[file].iter().filter(|other| group.contains(*other));
                        inside.map(move |other| format!("    {} → {}", file.display(), other.display()))
                    });
                    wrong.push(format!("{name}:\n{}", edges.collect::<Vec<_>>().join("\n")));
                }
            }
        }
    }
    let gone = ALLOWED.iter().filter(|(of, files, _)| !met.contains(&(*of, *files)));
    wrong.extend(gone.map(|(of, files, _)| format!("{of}: no longer a circle, remove it here: {files:?}")));
    assert!(wrong.is_empty(), "files that use each other:\n{}", wrong.join("\n"));
}

#[test]
fn a_circle_is_found_whatever_its_length() {
    let uses = |edges: &[(&str, &[&str])]| -> Uses {
        let files = |names: &[&str]| names.iter().map(PathBuf::from).collect();
        edges.iter().map(|(file, used)| (PathBuf::from(file), files(used))).collect()
    };
    let straight = uses(&[("a.rs", &["b.rs", "c.rs"]), ("b.rs", &["c.rs"]), ("c.rs", &[])]);
    assert_eq!(circles(&straight), Vec::<BTreeSet<PathBuf>>::new());
    let round = uses(&[("a.rs", &["b.rs"]), ("b.rs", &["c.rs"]), ("c.rs", &["a.rs"]), ("d.rs", &["a.rs"])]);
    assert_eq!(circles(&round), [BTreeSet::from(["a.rs", "b.rs", "c.rs"].map(PathBuf::from))]);
}
