//! The tables and indexes that `schema.ts` declares.

use std::{collections::BTreeMap, rc::Rc};

use convex::Value;

use super::{
    id::TableNumber,
    limits,
    validator::{TableNumbers, Validator},
};

/// The table of scheduled functions, which every deployment has.
pub const SCHEDULED_FUNCTIONS: &str = "_scheduled_functions";
/// Numbers below this one belong to system tables.
const FIRST_USER_TABLE: TableNumber = 16;

/// A declared table.
#[derive(Debug, Clone)]
pub struct TableSchema {
    /// Its name.
    pub name: Rc<str>,
    /// The number inside its documents' ids.
    pub number: TableNumber,
    /// What its documents must look like, without system fields; `None` if the schema asks for no validation.
    pub validator: Option<Rc<Validator>>,
    /// Its declared indexes.
    pub indexes: Vec<IndexSchema>,
}

/// A declared index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSchema {
    /// Its name.
    pub name: String,
    /// Its declared fields, as paths; `_creationTime` and `_id` follow implicitly.
    pub fields: Vec<String>,
}

/// Reads the exported schema: `{tables: {name: {indexes: [{name, fields}], documentType}}, schemaValidation}`. Tables that
/// are `known` keep their numbers: they stand in the ids of their documents.
pub fn parse(exported: &Value, known: &BTreeMap<String, TableNumber>) -> Result<Vec<TableSchema>, String> {
    let tables = object(exported, "schema")?.get("tables").ok_or("the schema has no tables")?;
    let tables = object(tables, "tables")?;
    let validate =
        !matches!(object(exported, "schema")?.get("schemaValidation"), Some(Value::Boolean(false)));
    let numbers = numbers(tables.keys(), known);
    let lookup: TableNumbers<'_> = &|name| numbers.get(name).copied();
    let mut parsed = vec![scheduled_functions()];
    for (name, table) in tables {
        parsed.push(
            parse_table(name, table, validate, lookup).map_err(|why| format!("table `{name}`: {why}"))?,
        );
    }
    Ok(parsed)
}

fn numbers<'a>(
    names: impl Iterator<Item = &'a String>,
    known: &BTreeMap<String, TableNumber>,
) -> BTreeMap<String, TableNumber> {
    let mut numbers = known.clone();
    numbers.insert(SCHEDULED_FUNCTIONS.into(), 0);
    let mut next = numbers.values().max().map_or(0, |last| last + 1).max(FIRST_USER_TABLE);
    for name in names {
        numbers.entry(name.clone()).or_insert_with(|| {
            next += 1;
            next - 1
        });
    }
    numbers
}

fn scheduled_functions() -> TableSchema {
    TableSchema { name: SCHEDULED_FUNCTIONS.into(), number: 0, validator: None, indexes: Vec::new() }
}

fn parse_table(
    name: &str,
    json: &Value,
    validate: bool,
    tables: TableNumbers<'_>,
) -> Result<TableSchema, String> {
    if name.starts_with('_') {
        return Err("names that begin with `_` belong to the system".into());
    }
    let json = object(json, "table")?;
    let document = Validator::parse(json.get("documentType").ok_or("no document type")?, tables)?;
    let declared =
        if let Some(Value::Array(declared)) = json.get("indexes") { declared.as_slice() } else { &[] };
    let indexes: Vec<_> = declared.iter().map(parse_index).collect::<Result<_, _>>()?;
    if indexes.len() > limits::INDEXES_PER_TABLE {
        return Err(format!("{} indexes; the limit is {}", indexes.len(), limits::INDEXES_PER_TABLE));
    }
    let number = tables(name).expect("every declared table was numbered");
    let validator = validate.then(|| Rc::new(document));
    Ok(TableSchema { name: name.into(), number, validator, indexes })
}

fn parse_index(json: &Value) -> Result<IndexSchema, String> {
    let json = object(json, "index")?;
    let (Some(Value::String(name)), Some(Value::Array(fields))) = (json.get("name"), json.get("fields"))
    else {
        return Err("an index has a name and fields".into());
    };
    let fields: Vec<_> =
        fields.iter().filter_map(|f| if let Value::String(f) = f { Some(f.clone()) } else { None }).collect();
    if ["by_id", "by_creation_time"].contains(&name.as_str()) || name.starts_with('_') {
        return Err(format!("index name `{name}` is reserved"));
    }
    if fields.is_empty() || fields.len() > limits::FIELDS_PER_INDEX {
        return Err(format!(
            "index `{name}` has {} fields; 1 to {} are allowed",
            fields.len(),
            limits::FIELDS_PER_INDEX
        ));
    }
    if fields.iter().any(|field| field == "_id" || field == "_creationTime") {
        return Err(format!(
            "index `{name}` names a system field; `_creationTime` is added to every index by itself"
        ));
    }
    Ok(IndexSchema { name: name.clone(), fields })
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a BTreeMap<String, Value>, String> {
    if let Value::Object(fields) = value { Ok(fields) } else { Err(format!("the {what} is not an object")) }
}
