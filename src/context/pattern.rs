//! Patterns over paths: Go's `filepath.Match`, and moby/patternmatcher's extension of it by `**`.
//!
//! A pattern is compiled into tokens once; a path runs through them as through an automaton, in time
//! linear in the path. Literal ends are compared first, because almost every path fails there. The same
//! automaton answers whether a pattern could match something *below* a folder, so that ignored folders
//! need not be entered. Paths are bytes, separated by `/`; invalid UTF-8 counts as U+FFFD, as in Go.

/// What `**` means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    /// `filepath.Match`: nothing special, it stays within a component.
    Match,
    /// moby/patternmatcher: any number of components, or any text at the end.
    Deep,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    /// Bytes that every match starts with.
    prefix: Vec<u8>,
    /// Bytes that every match ends with.
    suffix: Vec<u8>,
    /// Whether the prefix is all there is.
    exact: bool,
    /// How many slashes a match has, where that is fixed.
    slashes: Option<usize>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Char(char),
    /// `?`
    Any,
    /// `*`
    Star,
    /// `[…]`; in the deep dialect it may match a slash (as the regular expression there does).
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// The start of `**/`: nothing, or what [`Token::DeepInner`] takes.
    DeepEntry,
    /// Any text up to and including a slash.
    DeepInner,
    /// `**` at the end, or before a literal end: any text.
    All,
}

/// Why a text is no pattern.
pub(super) type Malformed = &'static str;

impl Pattern {
    /// Compiles `text`; malformed is what Go's `filepath.Match` calls `ErrBadPattern`.
    pub(super) fn compile(text: &str, dialect: Dialect) -> Result<Self, Malformed> {
        let tokens = tokens(text, dialect)?;
        let literal = |token: &Token| match token {
            Token::Char(letter) => Some(*letter),
            _ => None,
        };
        let prefix: String = tokens.iter().map_while(literal).collect();
        let suffix: String = tokens.iter().rev().map_while(literal).collect();
        let suffix: String = suffix.chars().rev().collect();
        let exact = tokens.iter().all(|token| literal(token).is_some());
        let within = |token: &Token| matches!(token, Token::Char(_) | Token::Any | Token::Star);
        let slashes = tokens
            .iter()
            .all(within)
            .then(|| tokens.iter().filter(|token| **token == Token::Char('/')).count());
        let (prefix, suffix) = (prefix.into_bytes(), suffix.into_bytes());
        Ok(Self { tokens, prefix, suffix, exact, slashes })
    }

    /// Whether the whole `path` matches.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        if self.exact {
            return path == self.prefix;
        }
        // The last letter tells most of them, without a comparison of memory.
        let ends_alike = self.suffix.last().is_none_or(|last| path.last() == Some(last));
        if !ends_alike || !path.starts_with(&self.prefix) || !path.ends_with(&self.suffix) {
            return false;
        }
        let count = || path.iter().filter(|byte| **byte == b'/').count();
        if self.slashes.is_some_and(|slashes| slashes != count()) {
            return false;
        }
        let mut states = self.start();
        self.feed(&mut states, path);
        states[self.tokens.len()]
    }

    /// Whether some path below the folder `path` may match. The empty path is the root.
    pub(super) fn may_match_below(&self, path: &[u8]) -> bool {
        let mut states = self.start();
        if !path.is_empty() {
            self.feed(&mut states, path);
            self.feed(&mut states, b"/");
        }
        states[..self.tokens.len()].contains(&true)
    }

    /// One flag a token, and one for the end.
    fn start(&self) -> Vec<bool> {
        let mut states = vec![false; self.tokens.len() + 1];
        self.enter(&mut states, 0);
        states
    }

    /// Adds state `at` and those that it reaches without a letter.
    fn enter(&self, states: &mut [bool], at: usize) {
        if states[at] {
            return;
        }
        states[at] = true;
        match self.tokens.get(at) {
            Some(Token::Star | Token::All) => self.enter(states, at + 1),
            Some(Token::DeepEntry) => {
                self.enter(states, at + 1);
                self.enter(states, at + 2);
            }
            _ => {}
        }
    }

    fn feed(&self, states: &mut Vec<bool>, text: &[u8]) {
        for chunk in text.utf8_chunks() {
            let replaced = chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER);
            for letter in chunk.valid().chars().chain(replaced) {
                let mut next = vec![false; states.len()];
                for at in (0..self.tokens.len()).filter(|at| states[*at]) {
                    self.step(&mut next, at, letter);
                }
                *states = next;
            }
        }
    }

    fn step(&self, next: &mut [bool], at: usize, letter: char) {
        let (stays, passes) = match &self.tokens[at] {
            Token::Char(expected) => (false, *expected == letter),
            Token::Any => (false, letter != '/'),
            Token::Star => (letter != '/', false),
            Token::Class { negated, ranges } => {
                let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&letter));
                (false, inside != *negated)
            }
            Token::DeepEntry => (false, false),
            Token::DeepInner => (true, letter == '/'),
            Token::All => (true, false),
        };
        if stays {
            self.enter(next, at);
        }
        if passes {
            self.enter(next, at + 1);
        }
    }
}

/// Whether `text` has a wildcard; a backslash takes the meaning from the next letter.
pub(super) fn has_wildcard(text: &str) -> bool {
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

fn tokens(text: &str, dialect: Dialect) -> Result<Vec<Token>, Malformed> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '*' if dialect == Dialect::Deep && letters.peek() == Some(&'*') => {
                letters.next();
                let slash = letters.next_if_eq(&'/').is_some();
                let rest: String = letters.clone().collect();
                let leads_literal = tokens.is_empty() && !slash && !rest.contains(['*', '?', '[', ']', '\\']);
                if rest.is_empty() || leads_literal {
                    tokens.push(Token::All);
                } else {
                    tokens.extend([Token::DeepEntry, Token::DeepInner]);
                }
            }
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::Any),
            '[' => tokens.push(class(&mut letters)?),
            '\\' => tokens.push(Token::Char(letters.next().ok_or("it ends with a backslash")?)),
            letter => tokens.push(Token::Char(letter)),
        }
    }
    Ok(tokens)
}

fn class(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, Malformed> {
    let negated = letters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && letters.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_letter(letters)?;
        let high = if letters.next_if_eq(&'-').is_some() { class_letter(letters)? } else { low };
        ranges.push((low, high));
    }
}

fn class_letter(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, Malformed> {
    const OPEN: Malformed = "a `[` is not closed";
    match letters.next().ok_or(OPEN)? {
        '-' | ']' => Err("a `[…]` is empty or has a range without an end"),
        '\\' => letters.next().ok_or(OPEN),
        letter => Ok(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, dialect: Dialect, path: &str) -> bool {
        Pattern::compile(pattern, dialect).unwrap().matches(path.as_bytes())
    }

    #[test]
    fn components_match_as_in_go() {
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("**/x", "a/x", true),
            ("**/x", "a/b/x", false),
            ("[[]", "[", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(matches(pattern, Dialect::Match, path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "a\\", "[a-b-c]", "[\\"] {
            assert!(Pattern::compile(pattern, Dialect::Match).is_err(), "{pattern}");
        }
    }

    #[test]
    fn double_stars_match_as_in_patternmatcher() {
        let cases = [
            ("**", "a/b", true),
            ("**/", "a", true),
            ("**/x", "x", true),
            ("**/x", "a/b/x", true),
            ("**/x", "ax", false),
            ("**x", "a/bx", true),
            ("**.go", "a/b.go", true),
            ("**/*.swp", "a/b/.c.swp", true),
            ("**/*.swp", "x.swp", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a**", "abc/d", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "az", false),
            ("a**z", "a/z", true),
            ("a**z", "axz", false),
            ("**/a/**", "x/a/y", true),
            ("**/a/**", "a", false),
            ("**.[ch]", "a.c", false),
            ("**.[ch]", "a/.c", true),
            ("a.b", "axb", false),
            ("a+(b)|{c}$", "a+(b)|{c}$", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(matches(pattern, Dialect::Deep, path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn a_pattern_knows_where_it_cannot_match() {
        let cases = [
            ("a/b", "a", true),
            ("a/b", "", true),
            ("a/b", "b", false),
            ("a/b", "a/b", false),
            ("*/b", "x", true),
            ("*/b", "x/y", false),
            ("**/b", "x/y", true),
            ("a/**", "b", false),
            ("a/**", "a/x", true),
            ("src/*.rs", "source", false),
        ];
        for (pattern, folder, expected) in cases {
            let pattern = Pattern::compile(pattern, Dialect::Deep).unwrap();
            assert_eq!(pattern.may_match_below(folder.as_bytes()), expected, "{pattern:?} below {folder}");
        }
    }
}
