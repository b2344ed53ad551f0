//! Which file of a crate uses which, from its `use` lines and the paths in its code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Item, UseTree, visit::Visit};

/// The files of a crate: each with the files whose items it names.
pub(crate) type Uses = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// Reads the crate whose sources are in `root`. Tests do not count.
pub(crate) fn of_crate(root: &Path) -> Uses {
    let mut modules = BTreeMap::new();
    collect(root, root, &mut modules);
    let uses = modules.iter().map(|(module, file)| {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let code = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut reader = Reader { module: module.clone(), modules: &modules, found: BTreeSet::new() };
        reader.visit_file(&code);
        reader.found.remove(file);
        (file.clone(), reader.found)
    });
    uses.collect()
}

/// Module paths and their files; `lib.rs` and `main.rs` are the roots.
fn collect(root: &Path, directory: &Path, modules: &mut BTreeMap<Vec<String>, PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            collect(root, &entry, modules);
            continue;
        }
        let file = entry.strip_prefix(root).unwrap();
        let module: Vec<_> =
            file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let is_test = module.iter().any(|part| part == "tests" || part == "testing");
        let is_program = module == ["main"];
        if file.extension().is_some_and(|extension| extension == "rs") && !is_test && !is_program {
            let module = if module == ["lib"] { Vec::new() } else { module };
            modules.insert(module, file.to_owned());
        }
    }
}

struct Reader<'a> {
    module: Vec<String>,
    modules: &'a BTreeMap<Vec<String>, PathBuf>,
    found: BTreeSet<PathBuf>,
}

impl Reader<'_> {
    /// Follows `path`, as it stands in the present module, to the file that defines what it names.
    fn follow(&mut self, path: &[String]) {
        let Some(first) = path.first() else { return };
        let mut place = match first.as_str() {
            "crate" => Vec::new(),
            "super" | "self" => self.module.clone(),
            // A child of the present module, or something from elsewhere.
            child => {
                let mut place = self.module.clone();
                place.push(child.to_owned());
                if !self.modules.contains_key(&place) {
                    return;
                }
                self.module.clone()
            }
        };
        let supers = path.iter().take_while(|part| *part == "super").count();
        place.truncate(place.len().saturating_sub(supers));
        place
            .extend(path.iter().filter(|part| !["crate", "super", "self"].contains(&part.as_str())).cloned());
        while !self.modules.contains_key(&place) && place.pop().is_some() {}
        if let Some(file) = self.modules.get(&place) {
            self.found.insert(file.clone());
        }
    }

    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &dyn ToString| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) => self.follow(&with(&name.ident)),
            UseTree::Rename(name) => self.follow(&with(&name.ident)),
            UseTree::Glob(_) => self.follow(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
        }
    }
}

impl<'a> Visit<'a> for Reader<'_> {
    fn visit_item(&mut self, item: &'a Item) {
        if attributes(item).iter().any(is_for_tests) {
            return;
        }
        match item {
            Item::Use(import) => self.tree(&[], &import.tree),
            Item::Mod(module) if module.content.is_some() => {
                self.module.push(module.ident.to_string());
                syn::visit::visit_item(self, item);
                self.module.pop();
            }
            _ => syn::visit::visit_item(self, item),
        }
    }

    /// Where something may be seen from is no use.
    fn visit_vis_restricted(&mut self, _: &'a syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'a syn::Path) {
        let parts: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if parts.len() > 1 && path.leading_colon.is_none() {
            self.follow(&parts);
        }
        syn::visit::visit_path(self, path);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string().contains("test"))
}
