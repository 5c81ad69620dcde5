//! Words: variable expansion and splitting, by the rules of BuildKit's `shell/lex.go`.
//!
//! A text goes through a `Lexer` once, from left to right; it yields the expanded text and, beside it,
//! the words that the text falls into. Values of unquoted variables are split, quoted text is not. Quotes
//! and escapes are removed on the way. Nothing is known here about instructions: which of their words are
//! expanded, and with which variables, is up to the caller.
//!
//! Differences from BuildKit: `$1` in the replacement of `${x//a/b}` is plain text (there it is a
//! reference to a group of the pattern), substitutions nest at most [`MAX_DEPTH`] deep, after `:` only `-`,
//! `+` and `?` are accepted, and blanks may stand between `<<-` and a heredoc's name.

use std::iter::Peekable;
use std::str::Chars;

use thiserror::Error;

use crate::base::diag::Diagnostic;

use super::ast::Word;
use super::pattern::Pattern;

/// How a variable's value is found; `None` means that it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How deep `${a:-${b:-…}}` may nest.
pub const MAX_DEPTH: usize = 64;

/// How many bytes the values that go into one word may have together, those inside substitutions
/// included. Without a limit a line can ask for any amount: `${x//?/${x//?/…}}`.
pub const MAX_VALUES: usize = 4 << 20;

/// Matching costs a byte for so many pairs of a letter of the value and one of the pattern.
const MATCHES_A_BYTE: usize = 32;

/// A letter of the value costs what so many letters of a pattern cost, whatever the pattern is.
const LEAST_PATTERN: usize = 4;

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WordError {
    /// A quote that is never closed.
    #[error("a {0} quote is not closed")]
    UnclosedQuote(&'static str),
    /// `${` without `}`.
    #[error("`${{` is not closed by `}}`")]
    MissingBrace,
    /// `${x/p}`: no replacement.
    #[error("`${{NAME/PATTERN/REPLACEMENT}}` needs its second `/`")]
    MissingSlash,
    /// `${}`, `${{x}`, `${:x}`.
    #[error("the name of a variable must follow `${{`")]
    BadSubstitution,
    /// `${x:=y}` and the like.
    #[error(
        "`{0}` is no modifier of a variable\nhelp: there are `:-`, `:+`, `:?`, `-`, `+`, `?`, `#`, `##`, `%`, `%%`, `/` and `//`"
    )]
    UnsupportedModifier(String),
    /// `${x?message}` or `${x:?message}` without a value.
    #[error(
        "the variable `{name}` must have a value: {message}\nhelp: set it with `ARG {name}=…`, `ENV {name}=…` or --build-arg"
    )]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says about it, else that it is unset or empty.
        message: String,
    },
    /// A backslash before a character that needs none, in the pattern of `${x#p}` or `${x/p/r}`.
    #[error("the pattern `{pattern}` is malformed: `\\{escaped}` escapes nothing")]
    InvalidPattern {
        /// The pattern.
        pattern: String,
        /// The character after the backslash; empty at the end.
        escaped: String,
    },
    /// Substitutions inside substitutions inside …
    #[error("substitutions are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Values of values of …
    #[error("the values in it are larger than {} MiB together", MAX_VALUES >> 20)]
    TooLarge,
}

impl WordError {
    /// The error as a mistake in the file.
    pub fn diagnostic(&self, word: &Word) -> Diagnostic {
        Diagnostic::error(format!("cannot expand `{}`: {self}", word.text)).at(word.span.clone(), "")
    }
}

/// The value of a word: variables replaced, quotes and escapes removed. Unset variables are empty.
pub fn expand(word: &str, lookup: Lookup<'_>, escape: char) -> Result<String, WordError> {
    Lexer::new(word, lookup, escape, Style::PLAIN).run().map(|expanded| expanded.text)
}

/// The words that a text falls into after expansion (`EXPOSE $PORTS` may give several ports, or none).
pub fn expand_to_list(text: &str, lookup: Lookup<'_>, escape: char) -> Result<Vec<String>, WordError> {
    Lexer::new(text, lookup, escape, Style::PLAIN).run().map(|expanded| expanded.words)
}

/// The body of a heredoc of `COPY` or `ADD` with its variables replaced. Quotes stay; the escape character
/// is always a backslash here.
pub fn expand_heredoc(body: &str, lookup: Lookup<'_>) -> Result<String, WordError> {
    let style = Style { keep_quoting: true, ..Style::PLAIN };
    Lexer::new(body, lookup, '\\', style).run().map(|expanded| expanded.text)
}

/// Whether expansion with any variables could change the text: it holds a `$` that is not escaped or
/// inside single quotes, or cannot be expanded at all.
pub fn has_variable(word: &str, escape: char) -> bool {
    let seen = std::cell::Cell::new(false);
    let note = |_: &str| {
        seen.set(true);
        None
    };
    expand(word, &note, escape).is_err() || seen.get()
}

/// What the lexer leaves in the text.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Quotes that act as quotes stay in the text.
    pub(super) raw_quotes: bool,
    /// Escape characters stay in the text.
    pub(super) raw_escapes: bool,
    /// Quotes are ordinary characters.
    pub(super) keep_quoting: bool,
    /// References to unset variables stay in the text.
    pub(super) keep_unset: bool,
}

impl Style {
    pub(super) const PLAIN: Self =
        Self { raw_quotes: false, raw_escapes: false, keep_quoting: false, keep_unset: false };
}

/// An expanded text, whole and as words.
#[derive(Default)]
pub(super) struct Expanded {
    pub(super) text: String,
    pub(super) words: Vec<String>,
    word: String,
    in_word: bool,
}

impl Expanded {
    fn add(&mut self, letter: char) {
        self.text.push(letter);
        self.split_at(letter);
    }

    fn add_raw(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
        self.in_word = true;
    }

    fn add_value(&mut self, value: &str) {
        self.text.push_str(value);
        value.chars().for_each(|letter| self.split_at(letter));
    }

    fn split_at(&mut self, letter: char) {
        if !letter.is_whitespace() {
            self.word.push(letter);
            self.in_word = true;
        } else if self.in_word && !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
            self.in_word = false;
        }
    }

    fn finish(mut self) -> Self {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
        self
    }
}

/// One pass over one text.
pub(super) struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    lookup: Lookup<'a>,
    escape: char,
    style: Style,
    depth: usize,
    /// How many bytes of values may still come.
    budget: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, lookup: Lookup<'a>, escape: char, style: Style) -> Self {
        Self { rest: text.chars().peekable(), lookup, escape, style, depth: 0, budget: MAX_VALUES }
    }

    pub(super) fn run(mut self) -> Result<Expanded, WordError> {
        let raw = self.style.raw_escapes;
        self.until(None, raw)
    }

    /// Everything up to `stop` (which is consumed), or to the end where there is none to look for.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<Expanded, WordError> {
        if self.depth >= MAX_DEPTH {
            return Err(WordError::TooDeep);
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.style.raw_escapes, raw_escapes);
        let result = self.pieces(stop);
        self.style.raw_escapes = outer;
        self.depth -= 1;
        result
    }

    fn pieces(&mut self, stop: Option<char>) -> Result<Expanded, WordError> {
        let mut out = Expanded::default();
        while let Some(&letter) = self.rest.peek() {
            if Some(letter) == stop {
                self.rest.next();
                return Ok(out.finish());
            }
            match letter {
                '$' => out.add_value(&self.dollar()?),
                '\'' if !self.style.keep_quoting => out.add_raw(&self.single_quoted()?),
                '"' if !self.style.keep_quoting => out.add_raw(&self.double_quoted()?),
                '<' => out.add_raw(&self.less_than()),
                _ if letter == self.escape => self.escaped(&mut out),
                _ => {
                    self.rest.next();
                    out.add(letter);
                }
            }
        }
        match stop {
            Some('/') => Err(WordError::MissingSlash),
            Some(_) => Err(WordError::MissingBrace),
            None => Ok(out.finish()),
        }
    }

    /// The escape character and the one after it; at the end it vanishes.
    fn escaped(&mut self, out: &mut Expanded) {
        self.rest.next();
        let mut buffer = [0; 4];
        if self.style.raw_escapes {
            out.add_raw(self.escape.encode_utf8(&mut buffer));
        }
        if let Some(letter) = self.rest.next() {
            out.add_raw(letter.encode_utf8(&mut buffer));
        }
    }

    /// `<`, or `<<` or `<<-` with the blanks that may stand before a heredoc's name: they do not split words.
    fn less_than(&mut self) -> String {
        self.rest.next();
        let mut text = String::from("<");
        if self.rest.next_if_eq(&'<').is_some() {
            text.push('<');
            text.extend(self.rest.next_if_eq(&'-'));
            while let Some(blank) = self.rest.next_if(|letter| matches!(letter, ' ' | '\t')) {
                text.push(blank);
            }
        }
        text
    }

    fn single_quoted(&mut self) -> Result<String, WordError> {
        let mut text = String::new();
        self.quote(&mut text);
        while let Some(&letter) = self.rest.peek() {
            if letter == '\'' {
                self.quote(&mut text);
                return Ok(text);
            }
            self.rest.next();
            text.push(letter);
        }
        Err(WordError::UnclosedQuote("single"))
    }

    fn double_quoted(&mut self) -> Result<String, WordError> {
        let mut text = String::new();
        self.quote(&mut text);
        while let Some(&letter) = self.rest.peek() {
            match letter {
                '"' => {
                    self.quote(&mut text);
                    return Ok(text);
                }
                '$' => text.push_str(&self.dollar()?),
                _ if letter == self.escape => self.escaped_in_quotes(&mut text),
                _ => {
                    self.rest.next();
                    text.push(letter);
                }
            }
        }
        Err(WordError::UnclosedQuote("double"))
    }

    /// Between double quotes only the quote, `$` and the escape character itself can be escaped.
    fn escaped_in_quotes(&mut self, text: &mut String) {
        self.rest.next();
        if self.style.raw_escapes {
            text.push(self.escape);
        }
        match self.rest.peek() {
            None => {}
            Some(&letter) if letter == '"' || letter == '$' || letter == self.escape => {
                self.rest.next();
                text.push(letter);
            }
            Some(_) => text.push(self.escape),
        }
    }

    /// The quote that comes next, kept where quotes are kept.
    fn quote(&mut self, text: &mut String) {
        let quote = self.rest.next();
        if self.style.raw_quotes {
            text.extend(quote);
        }
    }

    fn dollar(&mut self) -> Result<String, WordError> {
        self.rest.next();
        let value = match self.rest.next_if_eq(&'{') {
            Some(_) => self.braced()?,
            None => self.plain_variable(),
        };
        self.spend(value.len())?;
        Ok(value)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), WordError> {
        self.budget = self.budget.checked_sub(bytes).ok_or(WordError::TooLarge)?;
        Ok(())
    }

    fn plain_variable(&mut self) -> String {
        let name = self.name();
        if name.is_empty() {
            return "$".into();
        }
        match (self.lookup)(&name) {
            None if self.style.keep_unset => format!("${name}"),
            value => value.unwrap_or_default(),
        }
    }

    fn braced(&mut self) -> Result<String, WordError> {
        match self.rest.peek() {
            None => return Err(WordError::MissingBrace),
            Some('{' | '}' | ':') => return Err(WordError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let Some(letter) = self.rest.next() else { return Err(WordError::MissingBrace) };
        match letter {
            '}' => match (self.lookup)(&name) {
                None if self.style.keep_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            ':' => match self.rest.next() {
                None => Err(WordError::MissingBrace),
                Some(modifier @ ('-' | '+' | '?')) => self.with_word(&name, modifier, true),
                Some(other) => Err(WordError::UnsupportedModifier(format!(":{other}"))),
            },
            '-' | '+' | '?' => self.with_word(&name, letter, false),
            '#' | '%' => self.trimmed(&name, letter),
            '/' => self.replaced(&name),
            other => Err(WordError::UnsupportedModifier(other.to_string())),
        }
    }

    /// `${x-w}`, `${x+w}`, `${x?w}`; with a colon an empty value counts as unset.
    fn with_word(&mut self, name: &str, modifier: char, colon: bool) -> Result<String, WordError> {
        let word = self.until(Some('}'), false)?.text;
        let value = (self.lookup)(name);
        if value.is_none() && self.style.keep_unset {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let unset = value.is_none();
        let value = value.filter(|value| !(colon && value.is_empty()));
        match (modifier, value) {
            ('+', value) => Ok(value.map(|_| word).unwrap_or_default()),
            (_, Some(value)) => Ok(value),
            ('-', None) => Ok(word),
            (_, None) if !word.is_empty() => {
                Err(WordError::Required { name: name.to_owned(), message: word })
            }
            (_, None) => {
                let state = if unset { "unset" } else { "empty" };
                let message = format!("it is {state}");
                Err(WordError::Required { name: name.to_owned(), message })
            }
        }
    }

    /// `${x#p}`, `${x##p}`, `${x%p}`, `${x%%p}`
    fn trimmed(&mut self, name: &str, side: char) -> Result<String, WordError> {
        let word = self.until(Some('}'), true)?.text;
        let value = (self.lookup)(name);
        if value.is_none() && self.style.keep_unset {
            return Ok(format!("${{{name}{side}{word}}}"));
        }
        let value = value.unwrap_or_default();
        let (longest, text) = match word.strip_prefix(side) {
            Some(rest) => (true, rest),
            None => (false, word.as_str()),
        };
        let pattern = self.pattern(text, &value)?;
        Ok(match side {
            '#' => pattern.without_prefix(&value, longest),
            _ => pattern.without_suffix(&value, longest),
        })
    }

    /// `${x/p/r}`, `${x//p/r}`
    fn replaced(&mut self, name: &str) -> Result<String, WordError> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let text = self.until(Some('/'), true)?.text;
        let replacement = self.until(Some('}'), true)?.text;
        let value = (self.lookup)(name);
        if value.is_none() && self.style.keep_unset {
            return Ok(format!("${{{name}/{text}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        let pattern = self.pattern(&text, &value)?;
        pattern.replace(&value, &replacement, all, self.budget).ok_or(WordError::TooLarge)
    }

    /// The pattern, where matching it with a value is no endless work.
    fn pattern(&mut self, text: &str, value: &str) -> Result<Pattern, WordError> {
        let pairs = value.len().saturating_mul(text.len().saturating_add(LEAST_PATTERN));
        self.spend(pairs / MATCHES_A_BYTE)?;
        Pattern::parse(text)
    }

    /// Letters, digits and `_`; a number alone where it begins with a digit; one special parameter.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek() {
            Some(letter) if letter.is_ascii_digit() => {
                name.extend(std::iter::from_fn(|| self.rest.next_if(char::is_ascii_digit)));
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.rest.next()),
            _ => {
                let part = |letter: &char| letter.is_alphanumeric() || *letter == '_';
                name.extend(std::iter::from_fn(|| self.rest.next_if(part)));
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::testing::samples;

    samples! { WordError:
        UnclosedQuote("double"),
        MissingBrace,
        MissingSlash,
        BadSubstitution,
        UnsupportedModifier(":=".into()),
        Required { name: "VERSION".into(), message: "say which".into() },
        InvalidPattern { pattern: "a\\b".into(), escaped: "b".into() },
        TooDeep,
        TooLarge,
    }
    use proptest::prelude::*;

    fn corpus(name: &str) -> String {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/dockerfile/words/");
        std::fs::read_to_string(format!("{folder}{name}")).unwrap()
    }

    #[test]
    fn every_row_of_buildkits_expansion_table() {
        let set = [("PWD", "/home"), ("SHELL", "bash"), ("KOREAN", "한국어"), ("NULL", "")];
        let find = |name: &str, same: &dyn Fn(&str, &str) -> bool| {
            set.iter().find(|(key, _)| same(key, name)).map(|(_, value)| (*value).to_owned())
        };
        let mut rows = 0;
        for line in corpus("envVarTest").lines().filter(|line| !line.starts_with('#')) {
            let [platform, input, expected] = line.splitn(3, '|').collect::<Vec<_>>()[..] else { continue };
            // Windows compares names of variables without regard to case: the look-up's business.
            let windows = platform == "W";
            let lookup = |name: &str| match windows {
                true => find(name, &|left, right| left.eq_ignore_ascii_case(right)),
                false => find(name, &|left, right| left == right),
            };
            let got = expand(input.trim(), &lookup, '\\').unwrap_or_else(|_| "error".into());
            assert_eq!(got, expected.trim(), "{line}");
            rows += 1;
        }
        assert_eq!(rows, 230);
    }

    #[test]
    fn every_row_of_buildkits_splitting_table() {
        let mut set = Vec::new();
        let mut rows = 0;
        for line in corpus("wordsTest").lines().filter(|line| !line.starts_with('#')) {
            if let Some(setting) = line.strip_prefix("ENV ") {
                let (name, value) = setting.split_once('=').unwrap();
                set.push((name.to_owned(), value.to_owned()));
                continue;
            }
            let Some((input, expected)) = line.split_once('|') else { continue };
            let find = |name: &str| set.iter().rev().find(|(key, _)| key == name).map(|(_, v)| v.clone());
            let got =
                expand_to_list(input.trim(), &find, '\\').map_or("error".into(), |words| words.join(","));
            assert_eq!(got, expected.strip_prefix(' ').unwrap(), "{line}");
            rows += 1;
        }
        assert_eq!(rows, 24);
    }

    fn with_x(word: &str) -> Result<String, WordError> {
        let lookup = |name: &str| match name {
            "x" => Some("foo.bar.tar.gz".to_owned()),
            "path" => Some("/usr/*/b?n".to_owned()),
            "lines" => Some("ab\ncb".to_owned()),
            _ => None,
        };
        expand(word, &lookup, '\\')
    }

    #[test]
    fn patterns_cut_and_replace() {
        let table = [
            ("${x#*.}", "bar.tar.gz"),
            ("${x##*.}", "gz"),
            ("${x%.*}", "foo.bar.tar"),
            ("${x%%.*}", "foo"),
            ("${x#nothing}", "foo.bar.tar.gz"),
            ("${x/./-}", "foo-bar.tar.gz"),
            ("${x//./-}", "foo-bar-tar-gz"),
            ("${x/.*./-}", "foo-gz"),
            ("${x//?a?/X}", "foo.X.X.gz"),
            ("${path#\\/usr\\/\\*}", "/b?n"),
            ("${path%b\\?n}", "/usr/*/"),
            ("${path//\\//:}", ":usr:*:b?n"),
            ("${lines#*b}", "\ncb"),
            ("${lines##*b}", "\ncb"),
            ("${unset#a}", ""),
            ("${unset/a/b}", ""),
        ];
        for (word, expected) in table {
            assert_eq!(with_x(word).as_deref(), Ok(expected), "{word}");
        }
        assert!(matches!(with_x("${x#\\a}"), Err(WordError::InvalidPattern { .. })));
        assert_eq!(with_x("${x/a}"), Err(WordError::MissingSlash));
        assert_eq!(with_x("${x/a/b"), Err(WordError::MissingBrace));
    }

    #[test]
    fn patterns_take_regular_expressions_and_values_of_variables_literally() {
        let set =
            [("odd", "()[]{}^$.*?|\\x"), ("stars", "a***yy*"), ("url", "http://a//b"), ("http", "http://")];
        let lookup = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
        let table = [
            ("${odd#()[]{\\}^$.\\*\\?|\\\\}", "x"),
            ("${stars%%\\**}", "a"),
            ("${stars%%\\**\\*}", "a"),
            ("${stars#}${stars%}", "a***yy*a***yy*"),
            ("${url#$http}", "a//b"),
            ("${url/$http/https://}", "https://a//b"),
            ("${url//\\//\\/}", "http:\\/\\/a\\/\\/b"),
            ("${url//$unset/}", "http://a//b"),
            ("${unset///}", ""),
        ];
        for (word, expected) in table {
            assert_eq!(expand(word, &lookup, '\\').as_deref(), Ok(expected), "{word}");
        }
    }

    #[test]
    fn required_variables_speak_the_users_words() {
        let message = |word| with_x(word).unwrap_err().to_string().lines().next().unwrap().to_owned();
        assert_eq!(message("${v?}"), "the variable `v` must have a value: it is unset");
        assert_eq!(message("${v:?give v}"), "the variable `v` must have a value: give v");
        assert_eq!(message("${x:=1}"), "`:=` is no modifier of a variable");
    }

    #[test]
    fn the_escape_character_can_be_a_backtick() {
        let lookup = |_: &str| Some("v".to_owned());
        assert_eq!(expand("C:\\dir\\`$x$x", &lookup, '`').unwrap(), "C:\\dir\\$xv");
    }

    #[test]
    fn heredoc_bodies_keep_their_quotes() {
        let lookup = |name: &str| (name == "x").then(|| "v".to_owned());
        assert_eq!(expand_heredoc("a '$x' \"${x}\" \\$x\n", &lookup).unwrap(), "a 'v' \"v\" $x\n");
    }

    #[test]
    fn escapes_and_single_quotes_hide_variables() {
        assert!(has_variable("a$b", '\\') && has_variable("\"${b}\"", '\\') && has_variable("${b", '\\'));
        assert!(!has_variable("a\\$b", '\\') && !has_variable("'$b'", '\\') && !has_variable("a$.", '\\'));
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let nested = format!("{}{}", "${a:-".repeat(100_000), "}".repeat(100_000));
        assert_eq!(with_x(&nested), Err(WordError::TooDeep));
        assert!(with_x(&format!("{}{}", "${a:-".repeat(50), "}".repeat(50))).is_ok());
    }

    #[test]
    fn values_that_grow_without_end_are_an_error() {
        let long = "x".repeat(1000);
        let lookup = |_: &str| Some(long.clone());
        let nested = format!("{}{}", "${a///".repeat(10), "}".repeat(10));
        assert_eq!(expand(&nested, &lookup, '\\'), Err(WordError::TooLarge));
        assert_eq!(expand(&"$a".repeat(5000), &lookup, '\\'), Err(WordError::TooLarge));
        assert_eq!(expand(&"${b+$a}".repeat(5000), &lookup, '\\'), Err(WordError::TooLarge));
        assert_eq!(expand(&"$a".repeat(4000), &lookup, '\\').map(|text| text.len()), Ok(4_000_000));
        let pattern = format!("${{a#{}}}", "x".repeat(300_000));
        assert_eq!(expand(&pattern, &lookup, '\\'), Err(WordError::TooLarge));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[$\\{\\}:a-c\"'\\\\#%/*?+=<> \n`é-]{0,40}", backtick in any::<bool>()) {
            let escape = if backtick { '`' } else { '\\' };
            let lookup = |name: &str| (name != "b").then(|| format!("{name} *x"));
            let whole = expand(&text, &lookup, escape);
            let list = expand_to_list(&text, &lookup, escape);
            prop_assert_eq!(whole.is_ok(), list.is_ok());
            let _ = expand_heredoc(&text, &lookup);
        }

        #[test]
        fn plain_text_is_itself(text in "[a-zA-Z0-9_./:@=-]{0,40}") {
            prop_assert_eq!(expand(&text, &|_| None, '\\').unwrap(), text);
        }
    }
}
