//! Shaping: every value of one file is brought into its long form and its right type, or told as a mistake.
//!
//! A walk over the tree with the attribute table. What comes out has one form a key, so that merging meets
//! no other. Null stays null (a later file may give it a meaning), and so do texts whose interpolation
//! failed; [`super::check`] judges both once everything is merged. Mistakes are collected, never the first
//! alone.

use super::attrs::{Attr, Missing, Object, PathRule, Shape};
use super::forms::{self, Formed, Place, wrong};
use super::model::{ByteSize, Cpus, Interval};
use super::paths;
use super::scalar;
use super::tree::{Entry, Kind, Map, Mark, Node};
use super::vars::{self, Variables};
use super::words;
use crate::base::diag::Diagnostic;

/// The most items that the short forms of one file may become: one range may have every port there is.
const MOST_FORMED: usize = 100_000;

/// Shapes the values of one file.
pub(super) struct Shaper<'a> {
    place: Place<'a>,
    variables: &'a Variables,
    /// How many items short forms have become so far.
    formed: usize,
    /// What is wrong, in the order found.
    pub mistakes: Vec<Diagnostic>,
    /// What is worth saying.
    pub warnings: Vec<Diagnostic>,
}

impl<'a> Shaper<'a> {
    /// A shaper for a file that stands at `place`.
    pub(super) fn new(place: Place<'a>, variables: &'a Variables) -> Self {
        Self { place, variables, formed: 0, mistakes: Vec::new(), warnings: Vec::new() }
    }

    /// Shapes `node`; `path` is what messages call it.
    pub(super) fn shape(&mut self, node: &mut Node, shape: Shape, path: &str) {
        if node.is_null() || node.mark == Mark::Reset || node.fault.is_some() || self.is_open(node, shape) {
            return;
        }
        match shape {
            Shape::Any => {}
            Shape::Text
            | Shape::TextLike
            | Shape::TextOrNumber
            | Shape::Bool
            | Shape::Whole
            | Shape::WholeOnly
            | Shape::Number
            | Shape::Size
            | Shape::SizeText
            | Shape::Duration
            | Shape::Word(_) => self.scalar(node, shape, path),
            Shape::Command => self.command(node, path),
            Shape::OneOrMany(item) => {
                let scalar = matches!(item, Shape::TextLike) && node.scalar_text().is_some();
                if scalar || matches!(node.kind, Kind::Text(_)) {
                    let one = Node { mark: Mark::None, ..node.clone() };
                    node.kind = Kind::List(vec![one]);
                }
                self.list(node, *item, path);
            }
            Shape::List(item) => self.list(node, *item, path),
            Shape::Pairs(missing) => self.pairs(node, missing, path),
            Shape::Map(value) => match &mut node.kind {
                Kind::Map(map) => {
                    map.iter_mut()
                        .for_each(|(key, entry)| self.shape(&mut entry.node, *value, &join(path, key)));
                }
                _ => self.expected(node, "a mapping", path),
            },
            Shape::Named(object) => self.named(node, object, path),
            Shape::Object(object) => self.object(node, object, path),
            Shape::Short(form, inner) => {
                let mut nodes = self.short(take(node), form, *inner, path);
                match (nodes.pop(), nodes.is_empty()) {
                    (Some(formed), true) => *node = formed,
                    _ => self.expected(node, "one value", path),
                }
            }
        }
    }

    /// Whether a value stays as it is because of its variables: a text of any shape but a list (which may
    /// begin with one item), a short form that is more than a name, pairs whose keys are not known.
    fn is_open(&self, node: &Node, shape: Shape) -> bool {
        let open = |node: &Node| node.as_text().is_some_and(|text| self.place.is_open(text));
        match (&node.kind, shape) {
            (Kind::Text(_), Shape::OneOrMany(_)) => false,
            (Kind::Text(text), Shape::Short(form, _)) => {
                let named = |formed: &Node| formed.as_map().is_some();
                self.place.is_open(text)
                    && !matches!(form(node.clone(), &self.place), Ok(Formed::More(more)) if named(&more))
            }
            (Kind::Text(text), _) => self.place.is_open(text),
            (Kind::List(items), Shape::Short(..)) => items.iter().any(open),
            (Kind::List(items), Shape::Pairs(_)) => items.iter().any(|item| {
                let key = item.as_text().and_then(|text| text.split('=').next());
                key.is_some_and(|key| self.place.is_open(key))
            }),
            _ => false,
        }
    }

    /// Writes a short form out and shapes what it became; a mistake leaves null behind.
    fn short(&mut self, node: Node, form: forms::Form, inner: Shape, path: &str) -> Vec<Node> {
        let (span, mark) = (node.span.clone(), node.mark);
        let mut nodes = match form(node.clone(), &self.place) {
            Ok(Formed::Done(nodes)) => nodes,
            Ok(Formed::More(mut more)) => {
                self.shape(&mut more, inner, path);
                vec![more]
            }
            Err(mistake) => {
                let mistake = self.blame(*mistake, &node);
                self.mistakes.push(mistake);
                vec![Node { fault: Some(Box::new(told())), ..Node::new(Kind::Null, span) }]
            }
        };
        nodes.iter_mut().for_each(|node| node.mark = mark);
        nodes
    }

    /// Text, numbers, booleans.
    fn scalar(&mut self, node: &mut Node, shape: Shape, path: &str) {
        let result = match shape {
            Shape::Text => node.as_text().map(|text| Kind::Text(text.to_owned())).ok_or("a string"),
            Shape::TextLike => node.scalar_text().map(Kind::Text).ok_or("a string, number or boolean"),
            Shape::TextOrNumber => match node.kind {
                Kind::Bool(_) => Err("a string or a number"),
                _ => node.scalar_text().map(Kind::Text).ok_or("a string or a number"),
            },
            Shape::Bool => truth(node).map(Kind::Bool).ok_or("a boolean (true or false)"),
            Shape::Whole => whole(node).map(Kind::Int).ok_or("a whole number"),
            Shape::WholeOnly => match node.kind {
                Kind::Int(number) => Ok(Kind::Int(number)),
                _ => Err("a whole number, not in quotes and not from a variable"),
            },
            Shape::Number => number(node).ok_or("a number"),
            Shape::Size => size(node).ok_or("a number of bytes such as `64m`"),
            Shape::SizeText => match node.kind {
                Kind::Text(_) => size(node).ok_or("a number of bytes such as `64m`"),
                _ => Err("a string such as \"64m\""),
            },
            Shape::Duration => match node.as_text().map(Interval::parse) {
                Some(Some(interval)) => Ok(Kind::Text(interval.to_string())),
                _ => Err("a duration such as `1m30s`"),
            },
            Shape::Word(words) => return self.word(node, words, path),
            _ => return,
        };
        match result {
            Ok(kind) => node.kind = kind,
            Err(what) => self.expected(node, what, path),
        }
    }

    fn word(&mut self, node: &mut Node, words: &[&str], path: &str) {
        match node.as_text() {
            Some(text) if words.contains(&text) => {}
            Some(text) => {
                let message = format!("`{path}` cannot be `{text}`");
                let mistake = Diagnostic::error(message)
                    .at(node.span.clone(), "")
                    .did_you_mean(text, words.iter().copied())
                    .note(format!("it is one of {}", quoted(words)));
                let mistake = self.blame(mistake, node);
                self.fail(node, mistake);
            }
            None => self.expected(node, "a string", path),
        }
    }

    fn command(&mut self, node: &mut Node, path: &str) {
        let Kind::Text(text) = &node.kind else { return self.list(node, Shape::Text, path) };
        match words::split(text) {
            Ok(split) => {
                if let Some(end) = split.cut {
                    let message = format!("`{path}` ends before `{end}`: no shell reads it");
                    let warning = Diagnostic::warning(message)
                        .at(node.span.clone(), "")
                        .help("to have a shell, write `sh -c \"…\"` or a list that begins with `sh`, `-c`");
                    self.warnings.push(warning);
                }
                let words = split.words.iter().map(|word| Node::text(word.as_str(), &node.span)).collect();
                node.kind = Kind::List(words);
            }
            Err(fault) => {
                let mistake = wrong(node, format!("`{path}` is no command line: {fault}"));
                self.fail(node, *mistake);
            }
        }
    }

    fn list(&mut self, node: &mut Node, item: Shape, path: &str) {
        let Kind::List(items) = &mut node.kind else { return self.expected(node, "a list", path) };
        let mut shaped = Vec::with_capacity(items.len());
        for (at, mut child) in std::mem::take(items).into_iter().enumerate() {
            let path = format!("{path}.{at}");
            match item {
                _ if child.is_null() => self.mistakes.push(*wrong(&child, format!("`{path}` is empty"))),
                Shape::Short(form, inner) if child.fault.is_none() && !self.is_open(&child, item) => {
                    let span = child.span.clone();
                    let formed = self.short(child, form, *inner, &path);
                    self.formed += formed.len();
                    if self.formed > MOST_FORMED {
                        let message = format!("the ranges of this file have more than {MOST_FORMED} items");
                        self.mistakes.push(Diagnostic::error(message).at(span, "the bound is reached here"));
                        break;
                    }
                    shaped.extend(formed);
                }
                _ => {
                    self.shape(&mut child, item, &path);
                    shaped.push(child);
                }
            }
        }
        node.kind = Kind::List(shaped);
    }

    fn pairs(&mut self, node: &mut Node, missing: Missing, path: &str) {
        match &mut node.kind {
            Kind::Map(map) => {
                for (key, entry) in map.iter_mut() {
                    if entry.node.is_null() && entry.node.mark == Mark::None {
                        entry.node.kind = self.missing(key, missing);
                    } else {
                        self.shape(&mut entry.node, Shape::TextLike, &join(path, key));
                    }
                }
            }
            Kind::List(items) => {
                let mut map = Map::new();
                for (at, item) in std::mem::take(items).into_iter().enumerate() {
                    let Kind::Text(text) = &item.kind else {
                        self.expected(&mut item.clone(), "a string `KEY=VALUE`", &format!("{path}.{at}"));
                        continue;
                    };
                    let (key, kind) = match text.split_once('=') {
                        Some((key, value)) => (key.to_owned(), Kind::Text(value.to_owned())),
                        None => (text.clone(), self.missing(text, missing)),
                    };
                    let entry = Entry { key: item.span.clone(), node: Node { kind, ..item } };
                    map.insert(key, entry);
                }
                node.kind = Kind::Map(map);
            }
            _ => self.expected(node, "a mapping, or a list of `KEY=VALUE`", path),
        }
    }

    fn missing(&self, key: &str, missing: Missing) -> Kind {
        match (missing, self.variables.get(key)) {
            (Missing::Empty, _) => Kind::Text(String::new()),
            (Missing::Environment, _) if self.place.literal => Kind::Null,
            (Missing::Environment, Some(value)) => Kind::Text(value),
            (Missing::Environment, None) => Kind::Null,
        }
    }

    fn named(&mut self, node: &mut Node, object: &'static Object, path: &str) {
        let Kind::Map(map) = &mut node.kind else { return self.expected(node, "a mapping", path) };
        for (key, entry) in map.iter_mut() {
            let good = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
            if key.is_empty() || !key.chars().all(good) {
                let message = format!("`{key}` cannot be the name of a {}", object.name);
                self.mistakes.push(
                    Diagnostic::error(message)
                        .at(entry.key.clone(), "")
                        .note("names have letters, digits, `.`, `_` and `-`"),
                );
            }
            self.shape(&mut entry.node, Shape::Object(object), &join(path, key));
        }
    }

    fn object(&mut self, node: &mut Node, object: &'static Object, path: &str) {
        let Kind::Map(map) = &mut node.kind else { return self.expected(node, "a mapping", path) };
        for (key, entry) in map.iter_mut() {
            match object.attr(key) {
                Some(attr) => {
                    self.shape(&mut entry.node, attr.shape, &join(path, key));
                    self.resolve(&mut entry.node, attr);
                }
                None if key.starts_with("x-") => {}
                None => {
                    let known = object.attrs.iter().map(|attr| attr.key);
                    let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
                    let mistake = Diagnostic::error(format!("unknown key `{key}`{place}"))
                        .at(entry.key.clone(), "")
                        .did_you_mean(key, known);
                    self.mistakes.push(mistake);
                }
            }
        }
        if let Some(Err(mistake)) = object.finish.map(|finish| finish(node, &self.place)) {
            let mistake = self.blame(*mistake, node);
            self.mistakes.push(mistake);
        }
    }

    /// Makes paths absolute.
    fn resolve(&self, node: &mut Node, attr: &Attr) {
        if attr.path == PathRule::No || node.fault.is_some() {
            return;
        }
        match &mut node.kind {
            Kind::Text(text) => {
                let remote = match attr.path {
                    PathRule::Context => paths::is_remote_context(text),
                    PathRule::Contexts => paths::is_other_context(text),
                    PathRule::Path | PathRule::No => false,
                };
                if !remote {
                    self.place.resolve(text);
                }
            }
            Kind::List(items) => items.iter_mut().for_each(|item| self.resolve(item, attr)),
            Kind::Map(map) => map.values_mut().for_each(|entry| self.resolve(&mut entry.node, attr)),
            _ => {}
        }
    }

    /// Tells that a value is of the wrong kind.
    fn expected(&mut self, node: &mut Node, what: &str, path: &str) {
        let is = match node.as_text() {
            Some(text) if !text.is_empty() && text.len() < 40 && !text.contains('\n') => format!("`{text}`"),
            _ => node.kind_name().to_owned(),
        };
        let place = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
        let mut mistake =
            Diagnostic::error(format!("{place} must be {what}, not {is}")).at(node.span.clone(), "");
        let scalar = matches!(node.kind, Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Date(_));
        if scalar && what.contains("string") {
            mistake = mistake.help("put it in quotes");
        }
        let mistake = self.blame(mistake, node);
        self.fail(node, mistake);
    }

    /// Records a mistake and takes the value away, so that it is not told again.
    fn fail(&mut self, node: &mut Node, mistake: Diagnostic) {
        self.mistakes.push(mistake);
        node.kind = Kind::Null;
        node.fault = Some(Box::new(told()));
    }

    /// Adds where the variables of a value were set.
    fn blame(&self, mut mistake: Diagnostic, node: &Node) -> Diagnostic {
        let written = node.span.text();
        if !written.contains('$') || written.contains('\n') {
            return mistake;
        }
        let mut names = vars::references(written);
        names.sort();
        names.dedup();
        for name in names {
            mistake = match (self.variables.places.get(&name), self.variables.values.contains_key(&name)) {
                (Some(place), _) => mistake.also(place.clone(), format!("`{name}` is set here")),
                (None, true) => mistake.note(format!("`{name}` is set in the environment")),
                (None, false) => mistake.note(format!("`{name}` is not set")),
            };
        }
        mistake
    }
}

/// The fault of a value whose mistake was told already.
pub(super) fn told() -> Diagnostic {
    Diagnostic::warning("")
}

/// Whether a fault stands for a mistake that was told already.
pub(super) fn was_told(fault: &Diagnostic) -> bool {
    fault.message.is_empty()
}

fn take(node: &mut Node) -> Node {
    let empty = Node::new(Kind::Null, node.span.clone());
    std::mem::replace(node, empty)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn truth(node: &Node) -> Option<bool> {
    match &node.kind {
        Kind::Bool(value) => Some(*value),
        Kind::Text(text) => forms::boolean(text),
        _ => None,
    }
}

fn whole(node: &Node) -> Option<i64> {
    match &node.kind {
        Kind::Int(number) => Some(*number),
        Kind::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
        Kind::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn number(node: &Node) -> Option<Kind> {
    match &node.kind {
        Kind::Int(number) => Some(Kind::Int(*number)),
        Kind::Float(number) if number.is_finite() => Some(Kind::Float(*number)),
        Kind::Text(text) => match (text.parse(), Cpus::parse(text)) {
            (Ok(number), _) => Some(Kind::Int(number)),
            (_, Some(number)) => Some(Kind::Float(number.0)),
            _ => None,
        },
        _ => None,
    }
}

fn size(node: &Node) -> Option<Kind> {
    let text = match &node.kind {
        Kind::Int(number) => number.to_string(),
        Kind::Float(number) if number.is_finite() => scalar::float_text(number.trunc()),
        Kind::Text(text) => ByteSize::parse(text)?.to_string(),
        _ => return None,
    };
    Some(Kind::Text(text))
}
