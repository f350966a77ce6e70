//! `#[bounded::test]`: a test that is bounded in time.
//!
//! It stands in place of `#[test]` and `#[tokio::test]`, and goes with `#[rstest]`, `#[should_panic]` and `proptest!`. The
//! harness itself would wait for a test that hangs for ever, without a word.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Makes a function a test that has a bound; an async one runs on a runtime of its own, for which the arguments are those
/// of `tokio::test`.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, function: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = function.into_iter().collect();
    let word = |token: &TokenTree, word: &str| matches!(token, TokenTree::Ident(it) if it.to_string() == word);
    let Some(at) = tokens.iter().position(|token| word(token, "fn")) else {
        return error("only a function can be a test");
    };
    let is_async = tokens[..at].iter().any(|token| word(token, "async"));
    let name = tokens.get(at + 1).map(ToString::to_string);
    let (Some(name), Some(TokenTree::Group(body))) = (name, tokens.pop()) else {
        return error("a test has a name and a body");
    };
    let attribute = if is_async {
        format!("#[::tokio::test({arguments})]")
    } else {
        "#[::core::prelude::v1::test]".to_owned()
    };
    let bound = format!("let _bounded = ::bounded::begin(concat!(module_path!(), \"::{name}\"));");
    let (Ok(attribute), Ok(bound)) = (attribute.parse::<TokenStream>(), bound.parse()) else {
        return error("no test can be made of it");
    };
    // In a block of its own the body stays as it was written.
    let bound: TokenStream = bound;
    let body = TokenTree::Group(Group::new(Delimiter::Brace, body.stream()));
    let inner = bound.into_iter().chain([body]).collect();
    tokens.push(TokenTree::Group(Group::new(Delimiter::Brace, inner)));
    attribute.into_iter().chain(tokens).collect()
}

fn error(message: &str) -> TokenStream {
    let error = format!("compile_error!({message:?});");
    error.parse().unwrap_or_default()
}
