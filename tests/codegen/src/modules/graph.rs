//! The modules of a crate, what each names of others, and the circles of that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

use anyhow::{Context, Result};

use super::source::{Segments, SourceFile};

/// The modules of a crate, by path.
pub(super) struct Crate(BTreeMap<Segments, SourceFile>);

/// A module names what another defines. Paths are from the crate's root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrow {
    pub(super) from: String,
    pub(super) to: String,
    /// By this path.
    name: String,
}

/// Modules that can all be reached from each other.
#[derive(Debug)]
pub(super) struct Circle {
    pub(super) members: Vec<String>,
    /// An arrow, or a few, for each that leads from one of them to another.
    arrows: Vec<Arrow>,
}

/// Arrows that are shown from one member to another.
const SHOWN: usize = 3;

/// Re-exports that one name goes through.
const MAX_DEPTH: usize = 20;

impl Crate {
    /// Reads the crate whose root is this file.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut modules = Self(BTreeMap::new());
        let folder = root.parent().context("a folder")?;
        modules.add(Vec::new(), SourceFile::parse(&read(root)?)?, folder)?;
        Ok(modules)
    }

    /// How many there are.
    pub(super) fn modules(&self) -> usize {
        self.0.len()
    }

    /// The circles of its arrows.
    pub(super) fn circles(&self) -> Vec<Circle> {
        let arrows = self.arrows();
        let mut circles = Vec::new();
        for parent in self.0.keys() {
            let mut between: BTreeMap<_, BTreeMap<_, Vec<_>>> = BTreeMap::new();
            for (from, to, arrow) in &arrows {
                let ends = member(parent, from).zip(member(parent, to));
                if let Some((from, to)) = ends.filter(|(from, to)| from != to) {
                    let to = between.entry(from).or_default().entry(to).or_default();
                    to.push(arrow.clone());
                }
            }
            circles.extend(components(&between));
        }
        circles
    }

    /// Arrows from one module directly below `parent` to another, each with all that is below it as one.
    pub(super) fn arrows_below(&self, parent: &Segments) -> Vec<(String, String, Arrow)> {
        let name = |path: &[String]| member(parent, path)?.get(parent.len()).cloned();
        let mut below = Vec::new();
        for (from, to, arrow) in self.arrows() {
            let ends = name(from).zip(name(&to)).filter(|(from, to)| from != to);
            below.extend(ends.map(|(from, to)| (from, to, arrow)));
        }
        below
    }

    /// The modules directly below `parent`.
    pub(super) fn children(&self, parent: &Segments) -> BTreeSet<String> {
        let below = self.0.keys().filter(|path| path.starts_with(parent));
        below
            .filter_map(|path| path.get(parent.len()).cloned())
            .collect()
    }

    /// Modules that add methods to a type which is neither their own nor that of a module above or below them.
    pub(super) fn strange_methods(&self) -> Vec<Arrow> {
        let mut strange = Vec::new();
        for (from, source) in &self.0 {
            for path in &source.types_with_methods {
                let home = self.resolve(from, path, MAX_DEPTH);
                let is_far = |to: &Segments| !from.starts_with(to) && !to.starts_with(from);
                if let Some((to, true)) = home.filter(|(to, _)| is_far(to)) {
                    strange.push(Arrow::new(from, &to, path));
                }
            }
        }
        strange
    }

    fn add(&mut self, path: Segments, mut source: SourceFile, folder: &Path) -> Result<()> {
        for (name, inline) in std::mem::take(&mut source.inline) {
            source.files.insert(name.clone());
            self.add(child(&path, &name), inline, &folder.join(&name))?;
        }
        for name in &source.files {
            let path = child(&path, name);
            if self.0.contains_key(&path) {
                continue;
            }
            let below = folder.join(name);
            let beside = below.with_extension("rs");
            let file = [beside, below.join("mod.rs")];
            let file = file.into_iter().find(|file| file.exists());
            let file = file.with_context(|| format!("no file of {}", path.join("::")))?;
            let text = read(&file)?;
            let source = SourceFile::parse(&text).with_context(|| file.display().to_string())?;
            self.add(path, source, &below)?;
        }
        self.0.insert(path, source);
        Ok(())
    }

    fn arrows(&self) -> Vec<(&Segments, Segments, Arrow)> {
        let mut arrows = Vec::new();
        for (from, source) in &self.0 {
            for path in &source.paths {
                let Some((to, true)) = self.resolve(from, path, MAX_DEPTH) else {
                    continue;
                };
                if to != *from {
                    let arrow = Arrow::new(from, &to, path);
                    arrows.push((from, to, arrow));
                }
            }
        }
        arrows
    }

    /// The module that defines what `path` stands for in the module `at`, and whether it is an item of it and not the
    /// module itself. `None` for what is of other crates.
    fn resolve(&self, at: &Segments, path: &[String], depth: usize) -> Option<(Segments, bool)> {
        let depth = depth.checked_sub(1)?;
        let (first, rest) = path.split_first()?;
        let start = match &**first {
            "crate" => Some(Vec::new()),
            "self" => Some(at.clone()),
            "super" => Some(at[..at.len().checked_sub(1)?].to_vec()),
            _ => None,
        };
        match start {
            Some(module) if rest.is_empty() => Some((module, false)),
            Some(module) => self.resolve_in(&module, rest, depth),
            None => self.resolve_in(at, path, depth),
        }
    }

    fn resolve_in(&self, at: &Segments, path: &[String], depth: usize) -> Option<(Segments, bool)> {
        let (first, rest) = path.split_first()?;
        if first == "super" {
            return self.resolve(at, path, depth);
        }
        let source = self.0.get(at)?;
        let below = child(at, first);
        let found = if self.0.contains_key(&below) {
            (below, false)
        } else if source.items.contains(first) {
            return Some((at.clone(), true));
        } else if let Some(import) = source.imports.get(first) {
            // A name that stands for itself is that of another crate.
            let is_own = import.first() == Some(first) && !self.0.contains_key(&below);
            (!is_own)
                .then(|| self.resolve(at, import, depth.checked_sub(1)?))
                .flatten()?
        } else {
            let mut globs = source.globs.iter();
            globs.find_map(|glob| {
                let (module, false) = self.resolve(at, glob, depth.checked_sub(1)?)? else {
                    return None;
                };
                self.resolve_in(&module, std::slice::from_ref(first), depth - 1)
            })?
        };
        match found {
            (module, false) if !rest.is_empty() => self.resolve_in(&module, rest, depth),
            found => Some(found),
        }
    }
}

impl Arrow {
    fn new(from: &[String], to: &[String], name: &[String]) -> Self {
        Self {
            from: from.join("::"),
            to: to.join("::"),
            name: name.join("::"),
        }
    }
}

/// The part of the picture around `parent` that the module `path` belongs to.
fn member<'a>(parent: &Segments, path: &'a [String]) -> Option<&'a [String]> {
    let is_inside = path.starts_with(parent);
    is_inside.then(|| &path[..path.len().min(parent.len() + 1)])
}

/// What can be reached from each other in `between`.
fn components(between: &BTreeMap<&[String], BTreeMap<&[String], Vec<Arrow>>>) -> Vec<Circle> {
    let reached = |from| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(at) = next.pop() {
            let to = between.get(at).into_iter().flat_map(BTreeMap::keys);
            next.extend(to.filter(|to| seen.insert(**to)));
        }
        seen
    };
    let reach: BTreeMap<_, _> = between.keys().map(|from| (*from, reached(*from))).collect();
    let mut done = BTreeSet::new();
    let mut circles = Vec::new();
    for (from, seen) in &reach {
        let returns = |to: &&&[String]| reach.get(**to).is_some_and(|back| back.contains(from));
        let members: Vec<_> = seen.iter().filter(returns).copied().collect();
        if members.len() < 2 || !done.insert(members.clone()) {
            continue;
        }
        let shortest = members.iter().map(|path| path.len()).min();
        let longest = members.iter().map(|path| path.len()).max();
        let name = |path: &&[String]| match Some(path.len()) == shortest && shortest != longest {
            true => format!("{} (itself)", path.join("::")).trim().to_owned(),
            false => path.join("::"),
        };
        let arrows = members.iter().flat_map(|from| {
            let to = between.get(from).into_iter().flatten();
            let to = to.filter(|(to, _)| members.contains(to));
            to.flat_map(|(_, arrows)| arrows.iter().take(SHOWN).cloned())
        });
        circles.push(Circle {
            members: members.iter().map(name).collect(),
            arrows: arrows.collect(),
        });
    }
    circles
}

fn child(path: &[String], name: &str) -> Segments {
    let mut path = path.to_vec();
    path.push(name.to_owned());
    path
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.members.join(", "))?;
        self.arrows
            .iter()
            .try_for_each(|arrow| writeln!(f, "    {arrow}"))
    }
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, name } = self;
        write!(f, "{from} -> {to}: {name}")
    }
}
