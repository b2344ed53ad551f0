//! Values between JavaScript and Convex, without JSON text.

use std::collections::BTreeMap;

use convex::Value;
use rquickjs::{
    Array, ArrayBuffer, Atom, BigInt, Ctx, Object, Result, String as JsString, Type, Value as JsValue,
};

use crate::limits;

/// Makes a JavaScript value.
pub(super) fn to_js<'js>(ctx: &Ctx<'js>, value: &Value) -> Result<JsValue<'js>> {
    Ok(match value {
        Value::Null => JsValue::new_null(ctx.clone()),
        Value::Int64(n) => BigInt::from_i64(ctx.clone(), *n)?.into_value(),
        Value::Float64(n) => JsValue::new_number(ctx.clone(), *n),
        Value::Boolean(b) => JsValue::new_bool(ctx.clone(), *b),
        Value::String(text) => JsString::from_str(ctx.clone(), text)?.into_value(),
        Value::Bytes(bytes) => ArrayBuffer::new_copy(ctx.clone(), bytes)?.into_value(),
        Value::Array(items) => {
            let array = Array::new(ctx.clone())?;
            for (at, item) in items.iter().enumerate() {
                array.set(at, to_js(ctx, item)?)?;
            }
            array.into_value()
        }
        Value::Object(fields) => {
            let object = Object::new(ctx.clone())?;
            for (name, field) in fields {
                object.set(name.as_str(), to_js(ctx, field)?)?;
            }
            object.into_value()
        }
    })
}

/// Reads a JavaScript value. The error is the message that Convex shows for what is no Convex value.
pub(super) fn from_js(value: &JsValue<'_>) -> std::result::Result<Value, String> {
    match Reader::new(value.ctx())?.read(value, 0)? {
        Some(value) => Ok(value),
        None => Err("undefined is not a valid Convex value. See https://docs.convex.dev/functions/types for the supported types.".into()),
    }
}

/// Reads a JavaScript value or `undefined`.
pub(super) fn from_js_or_undefined(value: &JsValue<'_>) -> std::result::Result<Option<Value>, String> {
    Reader::new(value.ctx())?.read(value, 0)
}

/// Reads the fields of an object. A field that is `undefined` is kept as `None`.
pub(super) fn fields_from_js(
    value: &JsValue<'_>,
) -> std::result::Result<BTreeMap<String, Option<Value>>, String> {
    let reader = Reader::new(value.ctx())?;
    let object = value.as_object().filter(|object| reader.is_plain(object));
    let object = object.ok_or_else(|| format!("expected an object, not {}", describe(value)))?;
    let mut fields = BTreeMap::new();
    for property in object.own_props::<Atom<'_>, JsValue<'_>>(rquickjs::object::Filter::default()) {
        let (name, field) = property.map_err(|why| why.to_string())?;
        fields.insert(name.to_string().map_err(|why| why.to_string())?, reader.read(&field, 1)?);
    }
    Ok(fields)
}

/// Copies what a buffer holds; nothing if it is detached.
#[allow(unsafe_code, reason = "the engine offers no safe copy")]
pub(super) fn bytes_of(buffer: &ArrayBuffer<'_>) -> Vec<u8> {
    // SAFETY: no JavaScript runs between taking the slice and copying it.
    unsafe { buffer.as_bytes() }.map(<[u8]>::to_vec).unwrap_or_default()
}

struct Reader<'js> {
    object_prototype: Option<Object<'js>>,
}

impl<'js> Reader<'js> {
    fn new(ctx: &Ctx<'js>) -> std::result::Result<Self, String> {
        let sample = Object::new(ctx.clone()).map_err(|why| why.to_string())?;
        Ok(Self { object_prototype: sample.get_prototype() })
    }

    fn is_plain(&self, object: &Object<'js>) -> bool {
        let prototype = object.get_prototype();
        prototype.is_none() || prototype == self.object_prototype
    }

    fn read(&self, value: &JsValue<'js>, depth: usize) -> std::result::Result<Option<Value>, String> {
        if depth > limits::VALUE_NESTING {
            return Err(format!("Value is too nested (maximum nesting {})", limits::VALUE_NESTING));
        }
        Ok(Some(match value.type_of() {
            Type::Undefined => return Ok(None),
            Type::Null => Value::Null,
            Type::Bool => Value::Boolean(value.as_bool().unwrap_or_default()),
            Type::Int | Type::Float => Value::Float64(value.as_number().unwrap_or_default()),
            Type::String => Value::String(read_string(value)?),
            Type::BigInt => Value::Int64(read_integer(value)?),
            Type::Array => self.read_array(value, depth)?,
            Type::Object => self.read_object(value, depth)?,
            _ => return Err(unsupported(value)),
        }))
    }

    fn read_array(&self, value: &JsValue<'js>, depth: usize) -> std::result::Result<Value, String> {
        let array = value.as_array().ok_or_else(|| unsupported(value))?;
        let items = array.iter::<JsValue<'js>>().map(|item| {
            let item = item.map_err(|why| why.to_string())?;
            self.read(&item, depth + 1)?
                .ok_or_else(|| "undefined is not a valid Convex value (in an array).".to_owned())
        });
        items.collect::<std::result::Result<_, _>>().map(Value::Array)
    }

    fn read_object(&self, value: &JsValue<'js>, depth: usize) -> std::result::Result<Value, String> {
        let object = value.as_object().ok_or_else(|| unsupported(value))?;
        if !self.is_plain(object) {
            let buffer = ArrayBuffer::from_object(object.clone()).ok_or_else(|| unsupported(value))?;
            return Ok(Value::Bytes(bytes_of(&buffer)));
        }
        let mut fields = BTreeMap::new();
        for property in object.own_props::<Atom<'js>, JsValue<'js>>(rquickjs::object::Filter::default()) {
            let (name, field) = property.map_err(|why| why.to_string())?;
            if let Some(field) = self.read(&field, depth + 1)? {
                fields.insert(name.to_string().map_err(|why| why.to_string())?, field);
            }
        }
        Ok(Value::Object(fields))
    }
}

fn read_string(value: &JsValue<'_>) -> std::result::Result<String, String> {
    let text = value.as_string().map(JsString::to_string);
    text.and_then(Result::ok)
        .ok_or_else(|| "a string holds an unpaired surrogate, which Convex cannot store".into())
}

fn read_integer(value: &JsValue<'_>) -> std::result::Result<i64, String> {
    let text = value.get::<rquickjs::Coerced<String>>().map_err(|why| why.to_string())?.0;
    text.parse().map_err(|_| format!("BigInt {text} does not fit into a 64-bit signed integer."))
}

fn unsupported(value: &JsValue<'_>) -> String {
    format!(
        "{} is not a supported Convex type. See https://docs.convex.dev/functions/types for the supported types.",
        describe(value)
    )
}

fn describe(value: &JsValue<'_>) -> String {
    value.get::<rquickjs::Coerced<String>>().map_or_else(|_| value.type_name().to_owned(), |text| text.0)
}
