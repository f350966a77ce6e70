//! Every test is bounded in time, wherever it is.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::sources::sources;

/// Where the hand-written sources are.
const ROOMS: [&str; 3] = ["client", "server", "tests"];

/// The attributes of tests that have a bound; the second is the first, as the end-to-end suites name it.
const BOUNDED: [&str; 2] = ["bounded::test", "hangar_tests::test"];

/// Files with tests that have none, and why.
const WITHOUT: [(&str, &str); 1] = [(
    "server/worker/gemm/src/lib.rs",
    "stands below the engine in place of a crate of other people: it depends on nothing of ours, and computes",
)];

/// Names of the functions in `text` that are tests without a bound.
fn unbounded_tests(text: &str) -> Result<Vec<String>> {
    let tokens = text.parse::<TokenStream>();
    let tokens = tokens.map_err(|error| anyhow!("not Rust: {error}"))?;
    let mut found = Vec::new();
    collect_unbounded(tokens, &mut found);
    Ok(found)
}

/// Goes through bodies, modules and the arguments of macros too.
fn collect_unbounded(tokens: TokenStream, found: &mut Vec<String>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    // Those of the function that comes next.
    let mut attributes = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) if is_attribute(&tokens, at) => {
                attributes.push(path(group.stream()));
            }
            TokenTree::Group(group) => {
                collect_unbounded(group.stream(), found);
                if group.delimiter() == Delimiter::Brace {
                    attributes.clear();
                }
            }
            TokenTree::Ident(word) if word == "fn" => {
                let is_bounded = attributes.iter().any(|it| BOUNDED.contains(&&**it));
                if !is_bounded && attributes.iter().any(|it| makes_a_test(it)) {
                    found.extend(tokens.get(at + 1).map(ToString::to_string));
                }
                attributes.clear();
            }
            _ => {}
        }
    }
}

/// Whether the group at this place is an attribute of what follows.
fn is_attribute(tokens: &[TokenTree], at: usize) -> bool {
    let mark = at.checked_sub(1).map(|before| &tokens[before]);
    matches!(mark, Some(TokenTree::Punct(mark)) if mark.as_char() == '#')
        && matches!(&tokens[at], TokenTree::Group(it) if it.delimiter() == Delimiter::Bracket)
}

/// The path of an attribute, without its arguments.
fn path(attribute: TokenStream) -> String {
    let path = attribute.into_iter().take_while(|token| match token {
        TokenTree::Ident(_) => true,
        TokenTree::Punct(punct) => punct.as_char() == ':',
        _ => false,
    });
    path.map(|token| token.to_string()).collect()
}

/// `rstest` makes tests of its own where no other attribute does.
fn makes_a_test(attribute: &str) -> bool {
    matches!(attribute.rsplit(':').next(), Some("test" | "rstest"))
}

#[bounded::test]
fn every_test_has_a_bound() -> Result<()> {
    let mut tests = Vec::new();
    for (file, text) in sources(&ROOMS)? {
        if !WITHOUT.iter().any(|(without, _)| *without == file) {
            let unbounded = unbounded_tests(&text)?;
            tests.extend(unbounded.iter().map(|name| format!("{file}: {name}")));
        }
    }
    let advice =
        "they begin by #[bounded::test], or #[hangar_tests::test] in the end-to-end suites";
    assert!(tests.is_empty(), "{advice}:\n{}", tests.join("\n"));
    Ok(())
}

#[bounded::test]
fn files_that_are_left_out_have_tests_without_a_bound() -> Result<()> {
    for (file, text) in sources(&ROOMS)? {
        if WITHOUT.iter().any(|(without, _)| *without == file) {
            assert!(!unbounded_tests(&text)?.is_empty(), "{file}");
        }
    }
    Ok(())
}

#[bounded::test]
fn tests_without_a_bound_are_found_in_modules_and_macros() -> Result<()> {
    let text = r#"
        #[test] fn a() {}
        mod tests {
            /// Words.
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "slow"]
            pub(crate) async fn b() { #[cfg(test)] fn inner() {} }
            #[rstest] #[case(1)] fn c(#[case] n: u8) {}
        }
        proptest! { #[test] fn d(n in any::<u8>()) {} }
    "#;
    assert_eq!(unbounded_tests(text)?, ["a", "b", "c", "d"]);
    Ok(())
}

#[bounded::test]
fn what_has_a_bound_or_is_no_test_is_not_found() -> Result<()> {
    let text = r##"
        // #[test] fn a() {}
        const TEXT: &str = "#[test] fn b() {}";
        #[cfg(test)] mod tests {
            #[bounded::test] fn c() {}
            #[rstest] #[hangar_tests::test(flavor = "multi_thread")] pub async fn d() {}
            #[must_use] fn test() -> u8 { 1 }
        }
        proptest! { #[bounded::test] fn e(n in any::<u8>()) {} }
    "##;
    assert!(unbounded_tests(text)?.is_empty());
    Ok(())
}
