//! The validators of `convex/values` (`v.string()`, …): parsed from their JSON form, checked against values, and
//! printed in mismatches as Convex prints them.

use std::{collections::BTreeMap, fmt};

use convex::Value;

use super::id::{Id, TableNumber};

/// What a value must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Validator {
    /// `v.any()`.
    Any,
    /// `v.null()`.
    Null,
    /// `v.number()`.
    Float64,
    /// `v.int64()`.
    Int64,
    /// `v.boolean()`.
    Boolean,
    /// `v.string()`.
    String,
    /// `v.bytes()`.
    Bytes,
    /// `v.literal(…)`.
    Literal(Value),
    /// `v.id(table)`.
    Id(String, TableNumber),
    /// `v.array(…)`.
    Array(Box<Validator>),
    /// `v.object({…})`.
    Object(BTreeMap<String, Field>),
    /// `v.record(keys, values)`.
    Record(Box<Validator>, Box<Validator>),
    /// `v.union(…)`.
    Union(Vec<Validator>),
}

/// A field of an object validator.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What the field's value must look like.
    pub validator: Validator,
    /// Whether the field may be absent.
    pub optional: bool,
}

/// Finds the number of a table by its name.
pub type TableNumbers<'a> = &'a dyn Fn(&str) -> Option<TableNumber>;

impl Validator {
    /// Reads the JSON form that `convex/values` gives to validators.
    pub fn parse(json: &Value, tables: TableNumbers<'_>) -> Result<Self, String> {
        let Value::Object(map) = json else {
            return Err(format!("a validator is an object, not {}", Show(json)));
        };
        let part = |key: &str| map.get(key).ok_or_else(|| format!("validator {} has no `{key}`", Show(json)));
        let parse = |value: &Value| Self::parse(value, tables);
        Ok(match text(part("type")?) {
            "any" => Self::Any,
            "null" => Self::Null,
            "number" => Self::Float64,
            "bigint" => Self::Int64,
            "boolean" => Self::Boolean,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "literal" => Self::Literal(part("value")?.clone()),
            "id" => parse_id(text(part("tableName")?), tables)?,
            "array" => Self::Array(Box::new(parse(part("value")?)?)),
            "object" => Self::Object(parse_fields(part("value")?, tables)?),
            "record" => {
                let values = parse_field(part("values")?, tables)?.validator;
                Self::Record(Box::new(parse(part("keys")?)?), Box::new(values))
            }
            "union" => Self::Union(items(part("value")?).iter().map(parse).collect::<Result<_, _>>()?),
            other => return Err(format!("validator type `{other}` is not modelled")),
        })
    }

    /// Checks a value. The error is the text that Convex shows, without the prefix that says who checked.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.check_at(value, &mut String::new())
    }

    fn check_at(&self, value: &Value, path: &mut String) -> Result<(), String> {
        match (self, value) {
            (Self::Object(fields), Value::Object(object)) => self.check_object(fields, object, path),
            (Self::Array(element), Value::Array(items)) => {
                items.iter().enumerate().try_for_each(|(at, item)| {
                    nested(path, ["[", &at.to_string(), "]"], |path| element.check_at(item, path))
                })
            }
            (Self::Record(keys, values), Value::Object(object)) => {
                object.iter().try_for_each(|(key, field)| {
                    keys.check_at(&Value::String(key.clone()), path)?;
                    nested(path, [".", key], |path| values.check_at(field, path))
                })
            }
            (Self::Union(members), _) if members.iter().any(|member| member.accepts(value)) => Ok(()),
            _ if self.accepts_plain(value) => Ok(()),
            _ => Err(self.mismatch(value, path)),
        }
    }

    /// Like [`Self::check`], but without the text that explains a mismatch, where there is nothing inside to check.
    fn accepts(&self, value: &Value) -> bool {
        match self {
            Self::Object(_) | Self::Array(_) | Self::Record(..) => self.check(value).is_ok(),
            Self::Union(members) => members.iter().any(|member| member.accepts(value)),
            _ => self.accepts_plain(value),
        }
    }

    fn accepts_plain(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Any, _)
            | (Self::Null, Value::Null)
            | (Self::Float64, Value::Float64(_))
            | (Self::Int64, Value::Int64(_))
            | (Self::Boolean, Value::Boolean(_))
            | (Self::String, Value::String(_))
            | (Self::Bytes, Value::Bytes(_)) => true,
            (Self::Literal(literal), _) => literal == value,
            (Self::Id(_, table), Value::String(text)) => {
                Id::parse(text).is_some_and(|id| id.table_number() == *table)
            }
            _ => false,
        }
    }

    fn check_object(
        &self,
        fields: &BTreeMap<String, Field>,
        object: &BTreeMap<String, Value>,
        path: &mut String,
    ) -> Result<(), String> {
        for (name, field) in fields {
            match object.get(name) {
                Some(value) => nested(path, [".", name], |path| field.validator.check_at(value, path))?,
                None if field.optional => {}
                None => return Err(self.missing(name, object, path)),
            }
        }
        match object.keys().find(|name| !fields.contains_key(*name)) {
            None => Ok(()),
            Some(extra) => Err(format!(
                "Object contains extra field `{extra}` that is not in the validator.\n\n{}Object: {}\nValidator: {self}",
                path_line(path),
                ShowObject(object)
            )),
        }
    }

    fn missing(&self, name: &str, object: &BTreeMap<String, Value>, path: &str) -> String {
        format!(
            "Object is missing the required field `{name}`. Consider wrapping the field validator in `v.optional(...)` \
             if this is expected.\n\n{}Object: {}\nValidator: {self}",
            path_line(path),
            ShowObject(object)
        )
    }

    fn mismatch(&self, value: &Value, path: &str) -> String {
        format!(
            "Value does not match validator.\n{}Value: {}\nValidator: {self}",
            path_line(path),
            Show(value)
        )
    }
}

fn nested<R, const N: usize>(path: &mut String, step: [&str; N], f: impl FnOnce(&mut String) -> R) -> R {
    let kept = path.len();
    path.extend(step);
    let result = f(path);
    path.truncate(kept);
    result
}

fn path_line(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("Path: {path}\n") }
}

fn text(value: &Value) -> &str {
    if let Value::String(text) = value { text } else { "" }
}

fn items(value: &Value) -> &[Value] {
    if let Value::Array(items) = value { items } else { &[] }
}

fn parse_id(table: &str, tables: TableNumbers<'_>) -> Result<Validator, String> {
    let number =
        tables(table).ok_or_else(|| format!("v.id(\"{table}\") names a table that the schema lacks"))?;
    Ok(Validator::Id(table.to_owned(), number))
}

fn parse_fields(json: &Value, tables: TableNumbers<'_>) -> Result<BTreeMap<String, Field>, String> {
    let Value::Object(fields) = json else { return Err(format!("fields are an object, not {}", Show(json))) };
    fields.iter().map(|(name, field)| Ok((name.clone(), parse_field(field, tables)?))).collect()
}

fn parse_field(json: &Value, tables: TableNumbers<'_>) -> Result<Field, String> {
    let Value::Object(field) = json else { return Err(format!("a field is an object, not {}", Show(json))) };
    let optional = matches!(field.get("optional"), Some(Value::Boolean(true)));
    let validator = field.get("fieldType").ok_or("a field has no `fieldType`")?;
    Ok(Field { validator: Validator::parse(validator, tables)?, optional })
}

impl fmt::Display for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("v.any()"),
            Self::Null => f.write_str("v.null()"),
            Self::Float64 => f.write_str("v.float64()"),
            Self::Int64 => f.write_str("v.int64()"),
            Self::Boolean => f.write_str("v.boolean()"),
            Self::String => f.write_str("v.string()"),
            Self::Bytes => f.write_str("v.bytes()"),
            Self::Literal(value) => write!(f, "v.literal({})", Show(value)),
            Self::Id(table, _) => write!(f, "v.id({table:?})"),
            Self::Array(element) => write!(f, "v.array({element})"),
            Self::Record(keys, values) => write!(f, "v.record({keys}, {values})"),
            Self::Union(members) => {
                let members: Vec<_> = members.iter().map(ToString::to_string).collect();
                write!(f, "v.union({})", members.join(", "))
            }
            Self::Object(fields) => {
                let fields: Vec<_> = fields.iter().map(|(name, field)| format!("{name}: {field}")).collect();
                write!(f, "v.object({{{}}})", fields.join(", "))
            }
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { validator, optional } = self;
        if *optional { write!(f, "v.optional({validator})") } else { write!(f, "{validator}") }
    }
}

/// Prints a value as Convex prints it in messages.
pub struct Show<'a>(pub &'a Value);

impl fmt::Display for Show<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("null"),
            Value::Int64(n) => write!(f, "{n}n"),
            Value::Float64(n) => write!(f, "{n:?}"),
            Value::Boolean(b) => write!(f, "{b}"),
            Value::String(text) => write!(f, "{text:?}"),
            Value::Bytes(bytes) => write!(f, "<{} bytes>", bytes.len()),
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| Show(item).to_string()).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Value::Object(fields) => write!(f, "{}", ShowObject(fields)),
        }
    }
}

/// Prints the fields of an object as Convex prints them in messages.
pub struct ShowObject<'a>(pub &'a BTreeMap<String, Value>);

impl fmt::Display for ShowObject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<_> = self.0.iter().map(|(name, field)| format!("{name}: {}", Show(field))).collect();
        write!(f, "{{{}}}", fields.join(", "))
    }
}
