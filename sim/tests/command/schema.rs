//! The schemas that are printed.

use serde_json::Value;

use crate::place::Place;

fn schema(arguments: &[&str]) -> Value {
    let (printed, _) = Place::with("").check(&[&["schema"], arguments].concat(), 0);
    serde_json::from_str(&printed).unwrap()
}

#[test]
fn every_document_that_is_written_has_a_schema() {
    for (name, key) in [("report", "figures"), ("sweep", "runs"), ("baseline", "runs")] {
        let schema = schema(&[name]);
        assert!(schema["properties"][key].is_object(), "{name}: {schema}");
    }
}

#[test]
fn without_a_word_the_schema_is_that_of_scenarios() {
    assert_eq!(schema(&[]), schema(&["scenario"]));
}
