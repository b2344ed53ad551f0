//! Loads the modules of a deployment: schema, functions, crons.

use std::{cell::RefCell, rc::Rc};

use convex::Value;
use rquickjs::{CatchResultExt, CaughtError, Ctx, Function, Module, Object, Persistent, Value as JsValue};

use super::{
    function::{CronDeclaration, LoadedFunction, Registry},
    marshal::from_js,
    thrown::describe,
};
use crate::{
    kind::Kind,
    schema,
    sources::{Modules, USER_PREFIX},
    store::Store,
    validator::Validator,
};

type Exports = (Persistent<Function<'static>>, Vec<CronDeclaration>);

/// Evaluates all modules: the schema first, then the functions, then the crons. The data of an old store are taken over.
pub(super) fn load_modules(
    ctx: &Ctx<'_>,
    modules: &Modules,
    (store, old): (&Rc<RefCell<Store>>, Option<&Store>),
    registry: &Rc<Registry>,
    now: u64,
) -> Result<Exports, String> {
    ctx.eval::<(), _>(include_str!("../js/globals.js")).catch(ctx).map_err(|why| describe(&why))?;
    let runtime = import(ctx, "convex/runtime")?;
    let run: Function<'_> = runtime.get("run").map_err(|why| why.to_string())?;
    if !modules.has("schema") {
        return Err("there is no schema.ts; the simulator needs one".into());
    }
    let exported: JsValue<'_> =
        default_export(ctx, "schema")?.get("exported").map_err(|why| why.to_string())?;
    let known = old.map(Store::numbers).unwrap_or_default();
    let tables = schema::parse(&from_js(&exported)?, &known).map_err(|why| format!("schema.ts: {why}"))?;
    let mut new = Store::new(&tables, now);
    old.map_or(Ok(()), |old| new.take_over(old))?;
    *store.borrow_mut() = new;
    for module in modules.entry_points() {
        load_functions(ctx, module, &store.borrow(), registry)?;
    }
    let crons = if modules.has("crons") { load_crons(ctx)? } else { Vec::new() };
    if modules.has("http") {
        return Err("http.ts: the simulator does not model HTTP actions".into());
    }
    Ok((Persistent::save(ctx, run), crons))
}

fn import<'js>(ctx: &Ctx<'js>, specifier: &str) -> Result<Object<'js>, String> {
    let failed = |why: CaughtError<'js>| format!("{specifier}: {}", describe(&why));
    let promise = Module::import(ctx, specifier).catch(ctx).map_err(failed)?;
    promise.finish::<Object<'js>>().catch(ctx).map_err(failed)
}

/// Imports a user module. Its name begins with the user's prefix, so the importing module is named so too.
fn import_user<'js>(ctx: &Ctx<'js>, module: &str) -> Result<Object<'js>, String> {
    let failed = |why: CaughtError<'js>| format!("{module}: {}", describe(&why));
    let entry = format!("{USER_PREFIX}__entry_{}", module.replace('/', "_"));
    let code = format!("export * as loaded from './{module}';");
    let declared = Module::declare(ctx.clone(), entry, code).catch(ctx).map_err(failed)?;
    let (evaluated, promise) = declared.eval().catch(ctx).map_err(failed)?;
    promise.finish::<()>().catch(ctx).map_err(failed)?;
    evaluated.get("loaded").catch(ctx).map_err(failed)
}

fn default_export<'js>(ctx: &Ctx<'js>, module: &str) -> Result<Object<'js>, String> {
    import_user(ctx, module)?.get("default").map_err(|_| format!("{module} has no default export"))
}

fn load_functions(ctx: &Ctx<'_>, module: &str, store: &Store, registry: &Registry) -> Result<(), String> {
    let exports = import_user(ctx, module)?;
    for export in exports.props::<String, JsValue<'_>>() {
        let (name, value) = export.map_err(|why| why.to_string())?;
        let Some(definition) = value.into_function() else { continue };
        if definition.get::<_, Option<bool>>("isConvexFunction").ok().flatten() != Some(true) {
            continue;
        }
        let path = format!("{module}:{name}");
        let function = load_function(ctx, &definition, store).map_err(|why| format!("{path}: {why}"))?;
        registry.0.borrow_mut().insert(path, Rc::new(function));
    }
    Ok(())
}

fn load_function<'js>(
    ctx: &Ctx<'js>,
    definition: &Function<'js>,
    store: &Store,
) -> Result<LoadedFunction, String> {
    let text = |name: &str| definition.get::<_, String>(name).map_err(|why| why.to_string());
    let validator = |name: &str| {
        let json = from_js(&definition.get::<_, JsValue<'js>>(name).map_err(|why| why.to_string())?)?;
        (json != Value::Null).then(|| Validator::parse(&json, &|table| store.number(table))).transpose()
    };
    let kind = match text("kind")?.as_str() {
        "query" => Kind::Query,
        "mutation" => Kind::Mutation,
        _ => Kind::Action,
    };
    Ok(LoadedFunction {
        kind,
        public: text("visibility")? == "public",
        args: validator("argsJson")?,
        returns: validator("returnsJson")?,
        definition: Persistent::save(ctx, definition.clone()),
    })
}

fn load_crons(ctx: &Ctx<'_>) -> Result<Vec<CronDeclaration>, String> {
    let exported: JsValue<'_> =
        default_export(ctx, "crons")?.get("exported").map_err(|why| why.to_string())?;
    let Value::Array(crons) = from_js(&exported)? else { return Err("crons.ts exports no cron jobs".into()) };
    let declared = crons.into_iter().map(|cron| match cron {
        Value::Object(mut fields) => {
            let mut part = |name: &str| fields.remove(name).unwrap_or(Value::Null);
            let (Value::String(name), Value::String(path)) = (part("name"), part("path")) else {
                return Err("a cron job has a name and a function".to_owned());
            };
            Ok(CronDeclaration { name, path, schedule: part("schedule"), args: part("args") })
        }
        _ => Err("a cron job is an object".to_owned()),
    });
    declared.collect()
}
