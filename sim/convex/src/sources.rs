//! From the TypeScript files of a `convex/` directory to modules that the engine can load.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use oxc::{
    allocator::Allocator,
    codegen::Codegen,
    parser::Parser,
    semantic::SemanticBuilder,
    span::SourceType,
    transformer::{TransformOptions, Transformer},
};
use rquickjs::{
    Ctx, Error, Module, Result,
    loader::{ImportAttributes, Loader, Resolver},
    module::Declared,
};

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

/// The modules of a deployment, types stripped, by path without extension (`chat`, `lib/auth`).
#[derive(Debug, Clone, Default)]
pub struct Modules(Rc<BTreeMap<String, String>>);

impl Modules {
    /// Strips the types of all files; keys are paths relative to the `convex/` directory, such as `lib/auth.ts`.
    /// Declaration files, tests and the configuration of auth providers are left out: they do not run.
    pub fn compile(sources: &BTreeMap<String, String>) -> std::result::Result<Self, String> {
        let mut modules = BTreeMap::new();
        for (path, text) in sources {
            if let Some(name) = module_name(path) {
                let code = strip_types(path, text).map_err(|why| format!("{path}: {why}"))?;
                modules.insert(name.to_owned(), code);
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

fn strip_types(path: &str, text: &str) -> std::result::Result<String, String> {
    let allocator = Allocator::default();
    let source_type = SourceType::from_path(path).map_err(|why| why.to_string())?;
    let parsed = Parser::new(&allocator, text, source_type).parse();
    if let Some(first) = parsed.diagnostics.first() {
        return Err(first.to_string());
    }
    let mut program = parsed.program;
    let scoping = SemanticBuilder::new().build(&program).semantic.into_scoping();
    let options = TransformOptions::default();
    let transformed =
        Transformer::new(&allocator, Path::new(path), &options).build_with_scoping(scoping, &mut program);
    match transformed.diagnostics.first() {
        Some(first) => Err(first.to_string()),
        None => Ok(Codegen::new().build(&program).code),
    }
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
    fn types_are_stripped_and_imports_of_types_vanish() {
        let text = "import { Doc } from './x'; export const f = (d: Doc): number => (d as any).n!;";
        insta::assert_snapshot!(strip_types("a.ts", text).unwrap(), @"export const f = (d) => d.n;");
    }

    #[test]
    fn a_syntax_error_names_the_file() {
        let sources = BTreeMap::from([("lib/bad.ts".to_owned(), "export const = 1".to_owned())]);
        insta::assert_snapshot!(Modules::compile(&sources).unwrap_err(), @"lib/bad.ts: Unexpected token");
    }
}
