//! The fake OpenCode does what the real one does, but for what is explained; and the page that says so is up to date.

use conformance::{
    opencode::{self, fidelity},
    tools,
};

#[test]
fn the_fake_does_what_was_recorded_of_the_real_server_but_for_what_is_explained() {
    let (recorded, fake) = (opencode::recorded(), opencode::fake());
    let differences = fidelity::differences(&recorded, &fake);
    let unexplained: Vec<_> = differences.iter().filter(|difference| difference.why().is_none()).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    let page = std::fs::read_to_string(fidelity::page()).expect("the page is there");
    let written = fidelity::with_table(&page, &fidelity::table(&recorded, &fake)).expect("it has a table");
    assert!(page == written, "docs/fidelity.md is not up to date; `cargo run -p conformance` writes it");
}

#[test]
fn the_real_server_does_what_was_recorded() {
    let Some(binary) = tools::opencode() else { return };
    let differences = fidelity::differences(&opencode::recorded(), &opencode::real(&binary));
    assert!(differences.is_empty(), "{differences:#?}");
}
