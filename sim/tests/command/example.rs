//! The example of a report that comes along.

use std::{fs, path::Path};

use serde_json::Value;

use crate::place::Place;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const AGAIN: &str = "cargo run -p sim -- scenarios/smoke.toml --seed 1 --report reports/example";

/// A report without what depends on the machine and the compiler: real time, and how large the heap was.
fn portable(json: &str) -> Value {
    let mut report: Value = serde_json::from_str(json).unwrap();
    report["engine"].as_object_mut().unwrap().remove("wall").unwrap();
    report["figures"].as_object_mut().unwrap().remove("peak_heap").unwrap();
    report
}

/// A page without the same: the machine's section, the heap's plot and its row.
fn portable_page(html: &str) -> String {
    let cuts = [
        (r#"<section id="machine">"#, "</section>"),
        ("<h3>Worker heap</h3>", "</figure>"),
        (r#"<th scope="row">peak heap</th>"#, "</tr>"),
    ];
    cuts.into_iter().fold(html.to_owned(), |html, (start, end)| {
        let (before, rest) = html.split_once(start).unwrap_or_else(|| panic!("no {start}"));
        format!("{before}{}", rest.split_once(end).unwrap().1)
    })
}

#[test]
fn the_example_is_what_a_run_writes() {
    let place = Place::with("");
    let into = place.path().join("new");
    let mut command = place.sim(&["scenarios/smoke.toml", "--seed", "1", "--quiet", "--report"]);
    command.arg(&into).current_dir(ROOT).assert().success();
    let kept = Path::new(ROOT).join("reports/example");
    let both = |file: &str| [&into, &kept].map(|place| fs::read_to_string(place.join(file)).unwrap());
    let [new, old] = both("smoke-0x1.json").map(|json| portable(&json));
    assert!(new == old, "reports/example is out of date; make it anew: {AGAIN}");
    let [new, old] = both("smoke-0x1.html").map(|html| portable_page(&html));
    assert!(new == old, "the page of reports/example is out of date; make it anew: {AGAIN}");
}
