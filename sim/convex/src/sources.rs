//! From the TypeScript files of a `convex/` directory to modules that the engine can load.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use rquickjs::{
    Ctx, Error, Module, Result,
    loader::{ImportAttributes, Loader, Resolver},
    module::Declared,
};
use tsv_ts::{Goal, StripError, strip_with_goal};

/// Where user modules live, as stack traces show it.
pub const USER_PREFIX: &str = "../convex/";

const SHIMS: [(&str, &str); 4] = [
    ("convex/host", include_str!("js/host.js")),
    ("convex/values", include_str!("js/values.js")),
    ("convex/server", include_str!("js/server.js")),
    ("convex/runtime", include_str!("js/runtime.js")),
];
/// Stands for the generated modules where the sources have none.
const GENERATED: &str = "export * from 'convex/server';";

/// The modules of a deployment, types blanked, by path without extension (`chat`, `lib/auth`).
#[derive(Debug, Clone, Default)]
pub struct Modules(Rc<BTreeMap<String, String>>);

impl Modules {
    /// Blanks the types of all files; keys are paths relative to the `convex/` directory, such as `lib/auth.ts`.
    /// Declaration files, tests and the configuration of auth providers are left out: they do not run.
    pub fn compile(sources: &BTreeMap<String, String>) -> std::result::Result<Self, String> {
        let mut modules = BTreeMap::new();
        for (path, text) in sources {
            if let Some(name) = module_name(path) {
                let code = if path.ends_with(".ts") { blank_types(text) } else { Ok(text.clone()) };
                modules.insert(name.to_owned(), code.map_err(|why| format!("{path}:{why}"))?);
            }
        }
        Ok(Self(Rc::new(modules)))
    }

    /// The modules whose exports are functions, in order.
    pub fn entry_points(&self) -> impl Iterator<Item = &str> {
        let names = self.0.keys().map(String::as_str);
        names.filter(|name| !name.starts_with("_generated/") && !["schema", "crons", "http"].contains(name))
    }

    /// Whether there is a module of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

fn module_name(path: &str) -> Option<&str> {
    let name = path.strip_suffix(".ts").or_else(|| path.strip_suffix(".js"))?;
    let skipped = [".d", ".test", ".config"].iter().any(|kind| name.ends_with(kind));
    (!skipped && !path.starts_with("node_modules/")).then_some(name)
}

/// Replaces the types of a TypeScript module by white space. What is left keeps its line and column, so that the stack
/// of an error points into the file as it was written.
///
/// # Errors
/// `line:column: what is wrong`, if the text does not parse, or if it has syntax that does more than declare types
/// (an `enum`, a parameter property): that would have to be rewritten.
pub fn blank_types(text: &str) -> std::result::Result<String, String> {
    let blanked = strip_with_goal(text, Goal::Module).map(|stripped| stripped.code);
    blanked.map_err(|why| {
        let place = why.to_report().map_or_else(String::new, |report| {
            format!("{}:{}: ", report.start.line, report.start.column + 1)
        });
        let advice = match why {
            StripError::Unsupported { .. } => {
                "; types are only blanked out, so use erasable syntax (TypeScript's `erasableSyntaxOnly`)"
            }
            _ => "",
        };
        format!("{place}{}{advice}", why.message())
    })
}

/// Reads the sources of a directory such as `worker/convex`, without `node_modules`.
pub fn read_directory(root: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut sources = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            let name = path.to_string_lossy().replace('\\', "/");
            if entry.file_type()?.is_dir() {
                pending.extend((!name.ends_with("node_modules")).then_some(path));
            } else if name.ends_with(".ts") || name.ends_with(".js") {
                sources.insert(name, std::fs::read_to_string(entry.path())?);
            }
        }
    }
    Ok(sources)
}

impl Resolver for Modules {
    fn resolve<'js>(
        &mut self,
        _ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        let internal = ["convex/host", "convex/runtime"].contains(&name);
        if SHIMS.iter().any(|(shim, _)| *shim == name) && !(internal && base.starts_with(USER_PREFIX)) {
            return Ok(name.to_owned());
        }
        let found = base.strip_prefix(USER_PREFIX).filter(|_| name.starts_with('.')).and_then(|base| {
            let path = join(base, name)?;
            let bare =
                path.strip_suffix(".js").or_else(|| path.strip_suffix(".ts")).unwrap_or(&path).to_owned();
            let candidates = [format!("{path}/index"), bare];
            candidates.into_iter().rev().find(|name| self.has(name) || is_generated(name))
        });
        let missing = "the simulator loads relative modules, `convex/server` and `convex/values` only";
        found
            .map(|name| format!("{USER_PREFIX}{name}"))
            .ok_or_else(|| Error::new_resolving_message(base, name, missing))
    }
}

fn is_generated(name: &str) -> bool {
    ["_generated/server", "_generated/api", "_generated/dataModel"].contains(&name)
}

/// Resolves `./x` and `../x` against the module that imports it.
fn join(base: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in name.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        let shim = SHIMS.iter().find(|(shim, _)| *shim == name).map(|(_, code)| *code);
        let user = name.strip_prefix(USER_PREFIX);
        let code = shim
            .or_else(|| self.0.get(user?).map(String::as_str))
            .or_else(|| user.filter(|name| is_generated(name)).map(|_| GENERATED))
            .ok_or_else(|| Error::new_loading(name))?;
        Module::declare(ctx.clone(), name, code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_names_resolve_against_the_importing_module() {
        assert_eq!(join("chat", "./lib/auth.js").as_deref(), Some("lib/auth.js"));
        assert_eq!(join("lib/auth", "../_generated/server").as_deref(), Some("_generated/server"));
        assert_eq!(join("chat", "../outside"), None);
    }

    #[test]
    fn what_is_no_type_stays_where_it_is() {
        let text = "import type { Doc } from './x';\nexport const f = (d: Doc): number => (d as any).n!;";
        assert_eq!(
            blank_types(text).unwrap(),
            "                               \nexport const f = (d     )         => (d       ).n ;"
        );
        for (path, text) in crate::tests::real_sources() {
            let blanked = blank_types(&text).unwrap();
            let (before, after): (Vec<_>, Vec<_>) =
                (text.encode_utf16().collect(), blanked.encode_utf16().collect());
            assert_eq!(before.len(), after.len(), "{path}");
            let replacing = b" ;()".map(u16::from);
            let moved = before.iter().zip(&after).position(|(b, a)| a != b && !replacing.contains(a));
            assert_eq!(moved, None, "{path}: only blanks, and what ends a statement, replace anything");
        }
    }

    fn refusal(text: &str) -> String {
        let sources = BTreeMap::from([("lib/bad.ts".to_owned(), text.to_owned())]);
        Modules::compile(&sources).unwrap_err()
    }

    #[test]
    fn a_syntax_error_names_the_place() {
        insta::assert_snapshot!(refusal("let a;\nexport const = 1"), @"lib/bad.ts:2:14: Expected identifier or destructuring pattern, found '='");
    }

    #[test]
    fn what_is_more_than_a_type_is_refused_with_its_place() {
        insta::assert_snapshot!(refusal("let a;\n  enum E { A }"), @"lib/bad.ts:2:3: cannot strip an enum; types are only blanked out, so use erasable syntax (TypeScript's `erasableSyntaxOnly`)");
        insta::assert_snapshot!(refusal("class C { constructor(private a: number) {} }"), @"lib/bad.ts:1:23: cannot strip a parameter property; types are only blanked out, so use erasable syntax (TypeScript's `erasableSyntaxOnly`)");
        insta::assert_snapshot!(refusal("namespace N { export const a = 1; }"), @"lib/bad.ts:1:1: cannot strip a namespace with a value member; types are only blanked out, so use erasable syntax (TypeScript's `erasableSyntaxOnly`)");
    }
}
