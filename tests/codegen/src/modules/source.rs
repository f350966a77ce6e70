//! What one module's text names: read as tokens, so that neither comments nor texts count and macros' arguments do.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Segments of a path, such as `crate`, `model`, `Spec`.
pub(super) type Segments = Vec<String>;

/// What a module's own text says; its children's is not in it.
#[derive(Debug, Default)]
pub(super) struct SourceFile {
    /// Children in files of their own.
    pub(super) files: BTreeSet<String>,
    /// Children in the same text.
    pub(super) inline: BTreeMap<String, SourceFile>,
    /// Names that `use` brings, with the paths that they stand for.
    pub(super) imports: BTreeMap<String, Segments>,
    /// Modules all of whose names `use` brings.
    pub(super) globs: Vec<Segments>,
    /// Paths that are used, imports of its own included.
    pub(super) paths: BTreeSet<Segments>,
    /// Types that methods are added to, those of traits apart.
    pub(super) types_with_methods: BTreeSet<Segments>,
    /// Names of items.
    pub(super) items: BTreeSet<String>,
}

/// Words before the name of an item.
const ITEMS: [&str; 9] = [
    "fn",
    "struct",
    "enum",
    "trait",
    "type",
    "const",
    "static",
    "union",
    "macro_rules",
];

impl SourceFile {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let tokens = text.parse::<TokenStream>();
        let tokens = tokens.map_err(|error| anyhow!("not Rust: {error}"))?;
        let mut source = Self::default();
        source.read(tokens);
        Ok(source)
    }

    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = match (word(&tokens, at).as_deref(), &tokens[at]) {
                _ if is_test_only(&tokens[at..]) => after_item(&tokens, at + 2),
                // A lifetime, which may be called static.
                (Some(_), _) if at > 0 && is(&tokens[at - 1], '\'') => at + 1,
                (Some("impl"), _) => self.methods(&tokens, at),
                (Some("mod"), _) if at + 2 < tokens.len() => self.module(&tokens, at),
                (Some("use"), _) => self.import(&tokens, at),
                (Some(_), _) => self.path(&tokens, at),
                (None, TokenTree::Group(group)) => {
                    self.read(group.stream());
                    at + 1
                }
                _ => at + 1,
            };
        }
    }

    fn module(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let name = word(tokens, at + 1).unwrap_or_default();
        match &tokens[at + 2] {
            TokenTree::Group(group) => {
                let mut source = Self::default();
                source.read(group.stream());
                self.inline.insert(name, source);
            }
            _ => {
                self.files.insert(name);
            }
        }
        at + 3
    }

    /// A `use`: what is public is not used by the module itself.
    fn import(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let before = at.checked_sub(1).map(|before| &tokens[before]);
        let is_public = before.is_some_and(|before| match before {
            TokenTree::Ident(word) => word == "pub",
            TokenTree::Group(group) => group.delimiter() == Delimiter::Parenthesis,
            _ => false,
        });
        let end = tokens[at..].iter().position(|token| is(token, ';'));
        let end = at + end.unwrap_or(tokens.len() - at);
        let mut leaves = Vec::new();
        tree(&tokens[at + 1..end], Vec::new(), &mut leaves);
        for (path, name) in leaves {
            if path.last().is_some_and(|last| last == "*") {
                let module = path[..path.len() - 1].to_vec();
                self.globs.push(module);
                continue;
            }
            if !is_public {
                self.paths.insert(path.clone());
            }
            self.imports.insert(name, path);
        }
        end + 1
    }

    /// The head of an `impl`, whose paths are read after it as all others are.
    fn methods(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let head = tokens[at + 1..].split(|token| matches!(token, TokenTree::Group(_)));
        let head = head.into_iter().next().unwrap_or_default();
        let is_word = |token: &TokenTree, word: &str| token.to_string() == word;
        if head.iter().any(|token| is_word(token, "for")) {
            return at + 1;
        }
        // Behind the parameters, if there are any.
        let mut depth = 0_i32;
        let subject = head.iter().position(|token| {
            depth += i32::from(is(token, '<')) - i32::from(is(token, '>'));
            depth == 0 && matches!(token, TokenTree::Ident(_))
        });
        if let Some(subject) = subject {
            let mut subject = Self::path_at(head, subject).0;
            subject.retain(|segment| segment != "dyn");
            self.types_with_methods.insert(subject);
        }
        at + 1
    }

    fn path(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let first = word(tokens, at).unwrap_or_default();
        if ITEMS.contains(&&*first) {
            let bang = usize::from(first == "macro_rules");
            self.items.extend(word(tokens, at + 1 + bang));
        }
        let (path, end) = Self::path_at(tokens, at);
        let is_member = at > 0 && is(&tokens[at - 1], '.') && !(at > 1 && is(&tokens[at - 2], '.'));
        let goes_on = at > 1 && separates(tokens, at - 2);
        if !is_member && !goes_on {
            self.paths.insert(path);
        }
        end
    }

    /// The path that begins here, and where it ends.
    fn path_at(tokens: &[TokenTree], at: usize) -> (Segments, usize) {
        let mut path: Segments = word(tokens, at).into_iter().collect();
        let mut end = at + 1;
        while separates(tokens, end)
            && let Some(next) = word(tokens, end + 2)
        {
            path.push(next);
            end += 3;
        }
        (path, end)
    }
}

/// The leaves of a tree of `use`: paths, and the names that they get.
fn tree(tokens: &[TokenTree], prefix: Segments, leaves: &mut Vec<(Segments, String)>) {
    for branch in tokens.split(|token| is(token, ',')) {
        let mut path = prefix.clone();
        let mut name = None;
        let mut is_leaf = false;
        for (at, token) in branch.iter().enumerate() {
            match token {
                TokenTree::Ident(word) if word == "as" => {
                    name = self::word(branch, at + 1);
                    break;
                }
                TokenTree::Ident(word) if word == "self" && at == 0 && !prefix.is_empty() => {
                    is_leaf = true;
                }
                TokenTree::Ident(word) => {
                    path.push(word.to_string());
                    is_leaf = true;
                }
                TokenTree::Group(group) => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    tree(&inner, path.clone(), leaves);
                    is_leaf = false;
                }
                token if is(token, '*') => {
                    path.push("*".to_owned());
                    is_leaf = true;
                }
                _ => {}
            }
        }
        if is_leaf {
            let last = path.last().cloned().unwrap_or_default();
            leaves.push((path, name.unwrap_or(last)));
        }
    }
}

/// Whether an attribute begins here that leaves an item to tests.
fn is_test_only(tokens: &[TokenTree]) -> bool {
    let [mark, TokenTree::Group(group), ..] = tokens else {
        return false;
    };
    let mut inside = group.stream().into_iter();
    is(mark, '#')
        && matches!(inside.next(), Some(TokenTree::Ident(word)) if word == "cfg")
        && matches!(inside.next(), Some(TokenTree::Group(of)) if of.stream().to_string() == "test")
}

/// Where the item ends whose attributes go on here.
fn after_item(tokens: &[TokenTree], at: usize) -> usize {
    let is_import = |at: usize| word(tokens, at).as_deref() == Some("use");
    let mut import = false;
    for (at, token) in tokens.iter().enumerate().skip(at) {
        import |= is_import(at);
        let is_body =
            matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
        if is(token, ';') || (is_body && !import) {
            return at + 1;
        }
    }
    tokens.len()
}

fn separates(tokens: &[TokenTree], at: usize) -> bool {
    at + 1 < tokens.len() && is(&tokens[at], ':') && is(&tokens[at + 1], ':')
}

fn is(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

fn word(tokens: &[TokenTree], at: usize) -> Option<String> {
    match tokens.get(at) {
        Some(TokenTree::Ident(word)) => Some(word.to_string()),
        _ => None,
    }
}
