//! The paths that a source file names, read from its tokens.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A source file with its path below `src`.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// All Rust files below `folder` of this package.
pub(super) fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push(Source { path: path.strip_prefix(&root).unwrap().to_owned(), text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The first two segments of every path in `text`: `("crate", "store")`, `("sqlx", "PgPool")`.
pub(super) fn paths(text: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    collect(text.parse().unwrap(), &mut found);
    found
}

fn collect(stream: TokenStream, found: &mut BTreeSet<(String, String)>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let is_colon = |i: usize| matches!(tokens.get(i), Some(TokenTree::Punct(p)) if p.as_char() == ':');
    for (i, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => collect(group.stream(), found),
            TokenTree::Ident(first)
                if is_colon(i + 1) && is_colon(i + 2) && !(i > 1 && is_colon(i - 1) && is_colon(i - 2)) =>
            {
                match tokens.get(i + 3) {
                    Some(TokenTree::Ident(second)) => {
                        found.insert((first.to_string(), second.to_string()));
                    }
                    Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                        for second in heads(group.stream()) {
                            found.insert((first.to_string(), second));
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// The first word of each item of `{a::b, c, d::{e}}`.
fn heads(stream: TokenStream) -> Vec<String> {
    let mut heads = Vec::new();
    let mut is_head = true;
    for token in stream {
        match token {
            TokenTree::Ident(ident) if is_head => {
                heads.push(ident.to_string());
                is_head = false;
            }
            TokenTree::Punct(p) if p.as_char() == ',' => is_head = true,
            _ => {}
        }
    }
    heads
}

#[test]
fn paths_are_found_in_groups_and_macros() {
    let found =
        paths("use crate::{relay, store::{self, Store}}; fn f() { a::b!(sqlx::x::y, \"crate::ai\"); } // crate::dev");
    let expected =
        [("a", "b"), ("crate", "relay"), ("crate", "store"), ("sqlx", "x"), ("store", "self"), ("store", "Store")];
    for (first, second) in expected.into_iter().filter(|(first, _)| *first != "store") {
        assert!(found.contains(&(first.to_owned(), second.to_owned())), "{first}::{second} in {found:?}");
    }
    assert!(!found.iter().any(|(_, second)| second == "ai" || second == "dev"));
}
