//! Parser directives: `# syntax=`, `# escape=`, `# check=` on the first lines.
//!
//! Known keys are read until the first line that is none; after that a directive is a comment. Each may
//! stand once. The text of `check` is read here too, also where it stands above one instruction.

use super::ast::Word;

/// What the first lines of the file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The external grammar that the file asks for; the built-in one is used all the same.
    pub syntax: Option<Word>,
    /// Escapes in words, joins lines: `\` or a backtick.
    pub escape: char,
    /// Which checks are skipped, and whether a failed check is an error.
    pub check: Option<Check>,
}

/// `# check=skip=A,B;error=true`
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Check {
    /// `skip=all`
    pub skip_all: bool,
    /// `skip=`: rule names without regard to case
    pub skip: Vec<String>,
    /// `error=true`: a failed check stops the build
    pub error: bool,
    /// `experimental=all`
    pub experimental_all: bool,
    /// `experimental=`: rules that are not on by default
    pub experimental: Vec<String>,
}
