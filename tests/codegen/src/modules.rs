//! No circle of modules, anywhere in the server, the worker and the client.
//!
//! For each module, draw itself and its children, each child with all that is below it as one. An arrow goes from who
//! names something to where that is defined, through however many re-exports. `mod`, public `use` and what only tests
//! name are no arrows. No arrows may run in a circle. So a child may use what its parent defines only if the parent's own
//! code does not name that child. Methods that a module adds to a type of a module above or below it are a part of the
//! type.

mod graph;
mod pictures;
mod source;

use anyhow::{Context, Result};
use graph::Crate;
use tempfile::TempDir;

use crate::workspace;

/// The roots of the crates that have no circles, from the workspace's root.
const ROOTS: [&str; 6] = [
    "client/src/lib.rs",
    "client/src/bin/hangarctl/main.rs",
    "server/src/lib.rs",
    "server/src/main.rs",
    "server/worker-protocol/src/lib.rs",
    "server/worker/src/main.rs",
];

#[bounded::test]
fn no_modules_depend_on_each_other_in_a_circle() -> Result<()> {
    let mut modules = 0;
    let mut found = Vec::new();
    for root in ROOTS {
        let krate = Crate::read(&workspace().join(root))?;
        modules += krate.modules();
        for circle in krate.circles() {
            found.push(format!("{root}: {circle}"));
        }
    }
    assert!(modules > 400, "{modules}");
    assert!(
        found.is_empty(),
        "{} circles of modules:\n\n{}",
        found.len(),
        found.join("\n")
    );
    Ok(())
}

#[bounded::test]
fn methods_are_in_one_module_with_their_type() -> Result<()> {
    let mut found = Vec::new();
    // The client is left out: it is meant to be read call by call.
    for root in ROOTS.iter().filter(|root| root.starts_with("server")) {
        let strange = Crate::read(&workspace().join(root))?.strange_methods();
        found.extend(strange.iter().map(|arrow| format!("{root}: {arrow}")));
    }
    assert!(found.is_empty(), "methods of others:\n{}", found.join("\n"));
    Ok(())
}

/// A crate of these files.
fn crate_of(files: &[(&str, &str)]) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(path, text)?;
    }
    Ok(folder)
}

/// The members of the circles in a crate of these files.
fn circles_of(files: &[(&str, &str)]) -> Result<Vec<String>> {
    let folder = crate_of(files)?;
    let krate = Crate::read(&folder.path().join("lib.rs"))?;
    let circles = krate.circles();
    Ok(circles
        .iter()
        .map(|circle| circle.members.join(" "))
        .collect())
}

#[bounded::test]
fn siblings_that_use_each_other_are_a_circle() -> Result<()> {
    let circles = circles_of(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::{B, self}; pub struct A(B);"),
        (
            "b.rs",
            "pub struct B; fn f() { let x = vec![super::c::C::new(1)]; }",
        ),
        (
            "c.rs",
            "pub struct C; impl C { fn new(x: u8) -> crate::a::A { todo() } }",
        ),
    ])?;
    assert_eq!(circles, ["a b c"]);
    Ok(())
}

#[bounded::test]
fn modules_are_a_circle_through_different_files_of_theirs() -> Result<()> {
    let circles = circles_of(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "mod x; mod y; pub use x::X; pub use y::Y;"),
        ("a/x.rs", "pub struct X;"),
        ("a/y.rs", "use crate::b::B; pub struct Y(B);"),
        ("b.rs", "pub struct B; mod z;"),
        ("b/z.rs", "use crate::a::X;"),
    ])?;
    assert_eq!(circles, ["a b"]);
    Ok(())
}

#[bounded::test]
fn a_parent_may_be_used_by_children_that_it_only_re_exports() -> Result<()> {
    let below = [
        ("a/x.rs", "use super::Limits; pub struct X(Limits);"),
        ("b.rs", "use crate::a::X; struct B(X);"),
    ];
    let mut files = vec![
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "mod x; pub use x::X; pub struct Limits;"),
    ];
    files.extend(below);
    assert!(circles_of(&files)?.is_empty());
    files[1].1 = "mod x; pub use x::X; pub struct Limits; fn f(x: &X) {}";
    assert_eq!(circles_of(&files)?, ["a (itself) a::x"]);
    Ok(())
}

#[bounded::test]
fn what_tests_comments_and_texts_name_is_no_arrow() -> Result<()> {
    let circles = circles_of(&[
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            "use crate::b::B; pub struct A(B); #[cfg(test)] mod tests { use super::*; }",
        ),
        (
            "b.rs",
            "//! [`crate::a::A`]\n pub struct B; const T: &str = \"crate::a\"; \
             #[cfg(test)] use crate::a::A; #[cfg(test)] mod tests { use crate::a::A; }",
        ),
    ])?;
    assert!(circles.is_empty(), "{circles:?}");
    Ok(())
}

#[bounded::test]
fn methods_are_added_from_above_and_below_and_not_from_beside() -> Result<()> {
    let folder = crate_of(&[
        ("lib.rs", "mod a; mod b; mod c; pub use a::A;"),
        (
            "a.rs",
            "mod x; pub struct A; pub struct B<T>(T); impl<T: Fn(u8)> B<T> {}",
        ),
        ("a/x.rs", "use super::A; impl A {}"),
        ("b.rs", "use crate::A; impl Default for A {}"),
        ("c.rs", "impl<T> super::a::B<T> where T: Copy {}"),
    ])?;
    let strange = Crate::read(&folder.path().join("lib.rs"))?.strange_methods();
    let strange: Vec<_> = strange.iter().map(ToString::to_string).collect();
    assert_eq!(strange, ["c -> a: super::a::B"]);
    Ok(())
}
