//! The native functions that the JavaScript side calls: arguments read, [`Host`] asked, results made.

use std::rc::Rc;

use convex::Value;
use rquickjs::{
    Array, ArrayBuffer, Ctx, Error, Exception, Function, IntoJs, Object, Persistent, Result,
    Value as JsValue, function::IntoJsFunc,
};
use sha2::{Digest, Sha256};

use super::{
    function::Registry,
    host::{Asked, Host, Request, Settle},
    marshal::{bytes_of, fields_from_js, from_js, from_js_or_undefined, to_js},
};
use crate::{
    kind::Kind,
    query::{Comparison, Page, PageOptions},
    store::Document,
};

/// Makes the object that `convex/host` exports.
pub(super) fn install<'js>(ctx: &Ctx<'js>, host: &Rc<Host>, registry: &Rc<Registry>) -> Result<()> {
    let object = Object::new(ctx.clone())?;
    let natives = Natives { object: &object, ctx, host };
    natives.environment()?;
    natives.documents()?;
    natives.queries()?;
    natives.scheduling()?;
    natives.nesting(registry)?;
    ctx.globals().set("__convexHost", object)
}

struct Natives<'a, 'js> {
    object: &'a Object<'js>,
    ctx: &'a Ctx<'js>,
    host: &'a Rc<Host>,
}

/// Turns a refusal into a JavaScript exception.
fn check<'js, T>(ctx: &Ctx<'js>, result: std::result::Result<T, String>) -> Result<T> {
    result.map_err(|message| throw(ctx, &message))
}

fn throw(ctx: &Ctx<'_>, message: &str) -> Error {
    Exception::throw_message(ctx, message)
}

impl<'js> Natives<'_, 'js> {
    fn add<P, F: IntoJsFunc<'js, P> + 'js>(&self, name: &str, function: F) -> Result<()> {
        self.object.set(name, Function::new(self.ctx.clone(), function)?)
    }

    fn host(&self) -> Rc<Host> {
        self.host.clone()
    }

    fn environment(&self) -> Result<()> {
        let host = self.host();
        self.add("now", move || host.now())?;
        let host = self.host();
        self.add("isAction", move || host.is_action())?;
        let host = self.host();
        self.add("random", move |ctx: Ctx<'js>| check(&ctx, host.random()))?;
        let host = self.host();
        self.add("randomBytes", move |ctx: Ctx<'js>, count: usize| {
            ArrayBuffer::new(ctx.clone(), check(&ctx, host.random_bytes(count))?)
        })?;
        let host = self.host();
        self.add("identity", move |ctx: Ctx<'js>| to_js(&ctx, &check(&ctx, host.identity())?))?;
        let host = self.host();
        self.add("log", move |line: String| host.log(line))?;
        self.add("sha256", |ctx: Ctx<'js>, data: ArrayBuffer<'js>| {
            ArrayBuffer::new(ctx, Sha256::digest(bytes_of(&data)).to_vec())
        })?;
        self.add("utf8Encode", |ctx: Ctx<'js>, text: String| ArrayBuffer::new(ctx, text.into_bytes()))?;
        self.add("utf8Decode", |data: ArrayBuffer<'js>| {
            String::from_utf8_lossy(&bytes_of(&data)).into_owned()
        })
    }

    fn documents(&self) -> Result<()> {
        let host = self.host();
        self.add("get", move |ctx: Ctx<'js>, id: JsValue<'js>| {
            let found = id_of(&id).and_then(|id| host.get(&id));
            optional_document(&ctx, check(&ctx, found)?.as_deref())
        })?;
        let host = self.host();
        self.add("insert", move |ctx: Ctx<'js>, table: String, value: JsValue<'js>| {
            let id = fields_from_js(&value).and_then(|fields| host.insert(&table, defined(fields)));
            check(&ctx, id).map(|id| id.to_string())
        })?;
        let host = self.host();
        self.add("patch", move |ctx: Ctx<'js>, id: JsValue<'js>, value: JsValue<'js>| {
            check(&ctx, id_of(&id).and_then(|id| host.patch(&id, fields_from_js(&value)?)))
        })?;
        let host = self.host();
        self.add("replace", move |ctx: Ctx<'js>, id: JsValue<'js>, value: JsValue<'js>| {
            check(&ctx, id_of(&id).and_then(|id| host.replace(&id, defined(fields_from_js(&value)?))))
        })?;
        let host = self.host();
        self.add("remove", move |ctx: Ctx<'js>, id: JsValue<'js>| {
            check(&ctx, id_of(&id).and_then(|id| host.remove(&id)))
        })?;
        let host = self.host();
        self.add("normalizeId", move |ctx: Ctx<'js>, table: String, id: String| {
            Nullable(check(&ctx, host.normalize_id(&table, &id))).into_js(&ctx)
        })
    }

    fn queries(&self) -> Result<()> {
        let host = self.host();
        self.add("query", move |ctx: Ctx<'js>, query: Object<'js>, limit: i64| {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let found = request(&query).and_then(|request| host.query(request, limit));
            documents(&ctx, check(&ctx, found)?.iter().map(|document| &**document))
        })?;
        let host = self.host();
        self.add("open", move |ctx: Ctx<'js>, query: Object<'js>| {
            check(&ctx, request(&query).and_then(|request| host.open(request)))
        })?;
        let host = self.host();
        self.add("next", move |ctx: Ctx<'js>, stream: usize| {
            optional_document(&ctx, check(&ctx, host.next(stream))?.as_deref())
        })?;
        let host = self.host();
        self.add("paginate", move |ctx: Ctx<'js>, query: Object<'js>, options: JsValue<'js>| {
            let page = request(&query).and_then(|request| host.paginate(request, &page_options(&options)?));
            page_object(&ctx, check(&ctx, page)?)
        })
    }

    fn scheduling(&self) -> Result<()> {
        let host = self.host();
        self.add("schedule", move |ctx: Ctx<'js>, at: f64, path: String, args: JsValue<'js>| {
            let id = from_js(&args).and_then(|args| host.schedule(at, path, args));
            check(&ctx, id).map(|id| id.to_string())
        })?;
        let host = self.host();
        self.add("cancel", move |ctx: Ctx<'js>, id: JsValue<'js>| {
            check(&ctx, id_of(&id).and_then(|id| host.cancel(&id)))
        })
    }

    fn nesting(&self, registry: &Rc<Registry>) -> Result<()> {
        let functions = registry.clone();
        self.add("enter", move |ctx: Ctx<'js>, kind: String, path: String, args: JsValue<'js>| {
            let args = check(&ctx, from_js(&args))?;
            let function = check(&ctx, functions.nested(&kind, &path))?;
            check(&ctx, function.check_args(&args).map_err(|error| error.message))?;
            let entered = Array::new(ctx.clone())?;
            entered.set(0, function.definition.clone().restore(&ctx)?)?;
            entered.set(1, to_js(&ctx, &args)?)?;
            Ok::<_, Error>(entered)
        })?;
        let functions = registry.clone();
        self.add("leave", move |ctx: Ctx<'js>, path: String, result: JsValue<'js>| {
            let result = check(&ctx, from_js_or_undefined(&result))?.unwrap_or(Value::Null);
            let function =
                check(&ctx, functions.find(&path).ok_or_else(|| format!("there is no function {path}")))?;
            check(&ctx, function.check_result(&result).map_err(|error| error.message))?;
            to_js(&ctx, &result)
        })?;
        let host = self.host();
        self.add(
            "ask",
            move |ctx: Ctx<'js>, mutates: bool, path: String, args: JsValue<'js>, settle: Function<'js>| {
                let kind = if mutates { Kind::Mutation } else { Kind::Query };
                let settle = Settle(Persistent::save(&ctx, settle));
                check(&ctx, from_js(&args).and_then(|args| host.ask(Asked { kind, path, args, settle })))
            },
        )?;
        let host = self.host();
        self.add("savepoint", move |ctx: Ctx<'js>| check(&ctx, host.savepoint()))?;
        let host = self.host();
        self.add("rollBack", move |ctx: Ctx<'js>, savepoint: usize| check(&ctx, host.roll_back(savepoint)))
    }
}

/// `None` as `null`, not as `undefined`.
struct Nullable<T>(Result<Option<T>>);

impl<'js, T: IntoJs<'js>> IntoJs<'js> for Nullable<T> {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<JsValue<'js>> {
        self.0?.map_or_else(|| Ok(JsValue::new_null(ctx.clone())), |value| value.into_js(ctx))
    }
}

fn id_of(value: &JsValue<'_>) -> std::result::Result<String, String> {
    match from_js_or_undefined(value)? {
        Some(Value::String(id)) => Ok(id),
        other => Err(format!("Invalid argument `id`: expected an id, not {other:?}")),
    }
}

fn defined(
    fields: std::collections::BTreeMap<String, Option<Value>>,
) -> std::collections::BTreeMap<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn optional_document<'js>(ctx: &Ctx<'js>, document: Option<&Document>) -> Result<JsValue<'js>> {
    document.map_or_else(|| Ok(JsValue::new_null(ctx.clone())), |document| to_js(ctx, &document.value))
}

fn documents<'js, 'a>(ctx: &Ctx<'js>, found: impl Iterator<Item = &'a Document>) -> Result<Array<'js>> {
    let array = Array::new(ctx.clone())?;
    for (at, document) in found.enumerate() {
        array.set(at, to_js(ctx, &document.value)?)?;
    }
    Ok(array)
}

fn page_object<'js>(ctx: &Ctx<'js>, page: Page) -> Result<Object<'js>> {
    let result = Object::new(ctx.clone())?;
    result.set("page", documents(ctx, page.documents.iter().map(|document| &**document))?)?;
    result.set("isDone", page.done)?;
    result.set("continueCursor", page.cursor)?;
    let status = page.split.as_ref().map(|(_, is_required)| match is_required {
        true => "SplitRequired",
        false => "SplitRecommended",
    });
    result.set("splitCursor", Nullable(Ok(page.split.map(|(cursor, _)| cursor))))?;
    result.set("pageStatus", Nullable(Ok(status)))?;
    Ok(result)
}

/// Reads the `Query` of `js/runtime.js`.
fn request(query: &Object<'_>) -> std::result::Result<Request, String> {
    let (table, index, descending, steps, filter) = (|| {
        let steps: Array<'_> = query.get("steps")?;
        let filter: JsValue<'_> = query.get("condition")?;
        Ok((query.get("table")?, query.get("index")?, query.get("descending")?, steps, filter))
    })()
    .map_err(|why: Error| why.to_string())?;
    let mut parsed = Vec::with_capacity(steps.len() / 3);
    for at in (0..steps.len()).step_by(3) {
        let part = |offset| steps.get::<JsValue<'_>>(at + offset).map_err(|why| why.to_string());
        let comparison = match part(0)?.as_int() {
            Some(0) => Comparison::Eq,
            Some(1) => Comparison::Gt,
            Some(2) => Comparison::Gte,
            Some(3) => Comparison::Lt,
            _ => Comparison::Lte,
        };
        let Some(Value::String(field)) = from_js_or_undefined(&part(1)?)? else {
            return Err("the field of a range expression is a string".into());
        };
        parsed.push((comparison, field, from_js_or_undefined(&part(2)?)?));
    }
    let filter = from_js(&filter)?;
    let filter = (filter != Value::Null).then_some(filter);
    Ok(Request { table, index, steps: parsed, descending, filter })
}

fn page_options(value: &JsValue<'_>) -> std::result::Result<PageOptions, String> {
    let fields = fields_from_js(value)?;
    let text = |name: &str| match fields.get(name) {
        Some(Some(Value::String(text))) => Some(text.clone()),
        _ => None,
    };
    let number = |name: &str| match fields.get(name) {
        Some(Some(Value::Float64(n))) if *n >= 0.0 => Some(*n as usize),
        _ => None,
    };
    Ok(PageOptions {
        items: number("numItems").ok_or("`options.numItems` must be a non-negative number")?,
        cursor: text("cursor"),
        end: text("endCursor"),
        maximum_rows: number("maximumRowsRead"),
        maximum_bytes: number("maximumBytesRead"),
    })
}
