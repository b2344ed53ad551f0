//! The expressions of `.filter(q => …)`.

use std::cmp::Ordering;

use convex::Value;

use super::{
    encoding::encode,
    store::{Document, lookup},
};

/// An expression over a document. `None` as a result is `undefined`.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub enum Expression {
    Field(String),
    Literal(Option<Value>),
    Compare(Comparator, Box<Expression>, Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
    Arithmetic(Operator, Box<Expression>, Box<Expression>),
    Negate(Box<Expression>),
}

/// How two values are compared, by Convex's order.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub enum Comparator {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
}

/// What is done with two numbers.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
}

impl Expression {
    /// Reads the form that the query builder gives: `{$field}`, `{$literal}`, `{$eq: [a, b]}`, …
    pub fn parse(json: &Value) -> Result<Self, String> {
        let Value::Object(map) = json else { return Err(format!("a filter is an expression, not {json:?}")) };
        let Some((key, value)) = map.iter().next() else { return Ok(Self::Literal(None)) };
        Ok(match (key.as_str(), value) {
            ("$field", Value::String(path)) => Self::Field(path.clone()),
            ("$literal", value) => Self::Literal(Some(value.clone())),
            ("$undefined", _) => Self::Literal(None),
            ("$and", Value::Array(parts)) => {
                Self::And(parts.iter().map(Self::parse).collect::<Result<_, _>>()?)
            }
            ("$or", Value::Array(parts)) => {
                Self::Or(parts.iter().map(Self::parse).collect::<Result<_, _>>()?)
            }
            ("$not", part) => Self::Not(Box::new(Self::parse(part)?)),
            ("$neg", part) => Self::Negate(Box::new(Self::parse(part)?)),
            (operator, Value::Array(parts)) => Self::binary(operator, parts)?,
            _ => return Err(format!("filter operator `{key}` is not known")),
        })
    }

    fn binary(operator: &str, parts: &[Value]) -> Result<Self, String> {
        let [left, right] = parts else {
            return Err(format!("filter operator `{operator}` takes two operands"));
        };
        let (left, right) = (Box::new(Self::parse(left)?), Box::new(Self::parse(right)?));
        let compare = |comparator| Self::Compare(comparator, left.clone(), right.clone());
        let arithmetic = |operator| Self::Arithmetic(operator, left.clone(), right.clone());
        Ok(match operator {
            "$eq" => compare(Comparator::Eq),
            "$neq" => compare(Comparator::Neq),
            "$lt" => compare(Comparator::Lt),
            "$lte" => compare(Comparator::Lte),
            "$gt" => compare(Comparator::Gt),
            "$gte" => compare(Comparator::Gte),
            "$add" => arithmetic(Operator::Add),
            "$sub" => arithmetic(Operator::Sub),
            "$mul" => arithmetic(Operator::Mul),
            "$div" => arithmetic(Operator::Div),
            "$mod" => arithmetic(Operator::Mod),
            _ => return Err(format!("filter operator `{operator}` is not known")),
        })
    }

    /// Whether a document passes.
    pub fn accepts(&self, document: &Document) -> Result<bool, String> {
        Ok(truthy(self.evaluate(document)?.as_ref()))
    }

    fn evaluate(&self, document: &Document) -> Result<Option<Value>, String> {
        Ok(match self {
            Self::Field(path) => lookup(document.fields(), path).cloned(),
            Self::Literal(value) => value.clone(),
            Self::Compare(comparator, left, right) => {
                let ordering = compare(left.evaluate(document)?.as_ref(), right.evaluate(document)?.as_ref());
                Some(Value::Boolean(comparator.holds(ordering)))
            }
            Self::And(parts) => Some(Value::Boolean(!any(parts, document, false)?)),
            Self::Or(parts) => Some(Value::Boolean(any(parts, document, true)?)),
            Self::Not(part) => Some(Value::Boolean(!truthy(part.evaluate(document)?.as_ref()))),
            Self::Arithmetic(operator, left, right) => {
                Some(operator.apply(left.evaluate(document)?, right.evaluate(document)?)?)
            }
            Self::Negate(part) => match part.evaluate(document)? {
                Some(Value::Float64(n)) => Some(Value::Float64(-n)),
                Some(Value::Int64(n)) => Some(Value::Int64(n.wrapping_neg())),
                other => return Err(format!("cannot negate {other:?} in a filter")),
            },
        })
    }
}

fn any(parts: &[Expression], document: &Document, wanted: bool) -> Result<bool, String> {
    for part in parts {
        if part.accepts(document)? == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

fn truthy(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Boolean(b)) => *b,
        Some(Value::Int64(n)) => *n != 0,
        Some(Value::Float64(n)) => *n != 0.0 && !n.is_nan(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

fn compare(left: Option<&Value>, right: Option<&Value>) -> Ordering {
    let [mut a, mut b] = [Vec::new(), Vec::new()];
    encode(left, &mut a);
    encode(right, &mut b);
    a.cmp(&b)
}

impl Comparator {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::Neq => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::Lte => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::Gte => ordering.is_ge(),
        }
    }
}

impl Operator {
    fn apply(self, left: Option<Value>, right: Option<Value>) -> Result<Value, String> {
        match (left, right) {
            (Some(Value::Float64(a)), Some(Value::Float64(b))) => Ok(Value::Float64(match self {
                Self::Add => a + b,
                Self::Sub => a - b,
                Self::Mul => a * b,
                Self::Div => a / b,
                Self::Mod => a % b,
            })),
            (Some(Value::Int64(a)), Some(Value::Int64(b))) => self.integers(a, b).map(Value::Int64),
            (left, right) => Err(format!("cannot calculate with {left:?} and {right:?} in a filter")),
        }
    }

    fn integers(self, a: i64, b: i64) -> Result<i64, String> {
        let result = match self {
            Self::Add => Some(a.wrapping_add(b)),
            Self::Sub => Some(a.wrapping_sub(b)),
            Self::Mul => Some(a.wrapping_mul(b)),
            Self::Div => a.checked_div(b),
            Self::Mod => a.checked_rem(b),
        };
        result.ok_or_else(|| format!("cannot divide {a} by {b} in a filter"))
    }
}
