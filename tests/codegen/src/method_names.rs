//! The methods' full names as constants, so that nobody writes one by hand.

use std::fmt::Write;

use anyhow::Result;
use prost_types::FileDescriptorSet;

/// A module for each service of `package`, with a constant for each of its methods.
pub(crate) fn code(set: &FileDescriptorSet, package: &str) -> Result<String> {
    let mut code = String::new();
    let files = set.file.iter().filter(|file| file.package() == package);
    for service in files.flat_map(|file| &file.service) {
        let name = service.name();
        writeln!(code, "/// Full names of the methods of {name}.")?;
        writeln!(code, "pub mod {} {{", snake_case(name))?;
        for method in &service.method {
            let method = method.name();
            let constant = snake_case(method).to_uppercase();
            writeln!(
                code,
                "    pub const {constant}: &str = \"{package}.{name}/{method}\";"
            )?;
        }
        writeln!(code, "}}")?;
    }
    Ok(code)
}

/// The name as that of a module or a function: a word begins with a capital behind a small letter, and with the last of
/// several capitals.
pub(crate) fn snake_case(name: &str) -> String {
    let mut words = String::new();
    let mut last = None;
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        let ends_capitals = letters.peek().is_some_and(char::is_ascii_lowercase);
        let begins = last.is_some_and(|last: char| last.is_ascii_lowercase() || ends_capitals);
        if letter.is_ascii_uppercase() && begins {
            words.push('_');
        }
        words.push(letter.to_ascii_lowercase());
        last = Some(letter);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn names_are_those_that_the_stubs_have() {
        for (name, snake) in [
            ("GRPCInferenceService", "grpc_inference_service"),
            ("GetInfo", "get_info"),
            ("Generate", "generate"),
        ] {
            assert_eq!(snake_case(name), snake);
        }
    }
}
