//! YAML with places: a file becomes one tree a document, every node with the bytes it came from.
//!
//! granit-parser's events are folded into [`Node`]s; [`super::scalar`] decides what a plain scalar is.
//! Anchors are copied where they are used, merge keys (`<<`) are worked in, `!reset` and `!override` become
//! [`Mark`]s. Mappings are ordered by key: the order of keys means nothing in a compose file. Hostile input
//! is refused early: depth, number of nodes (also those made by aliases) and size have bounds.
//! Nothing here knows which keys exist.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, Tag};

use super::scalar::{self, Scalar};
use crate::base::diag::{Diagnostic, SourceFile, Span};

/// The largest file that is read, in bytes.
pub(super) const MOST_BYTES: usize = 8 << 20;
/// The most nodes that one file may have once its aliases are copied.
const MOST_NODES: usize = 300_000;
/// The most repeated keys that are told.
const MOST_DUPLICATES: usize = 100;
/// How deep collections may nest.
const MOST_DEPTH: usize = 100;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// What it is.
    pub kind: Kind,
    /// The bytes of its value (of its tag too, when it has one).
    pub span: Span,
    /// What its tag says about merging.
    pub mark: Mark,
    /// A mistake that counts only if this node is still there after merging.
    pub fault: Option<Box<Diagnostic>>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Nothing, `~`, `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number; the text is as it was written.
    Float(f64),
    /// Text.
    Text(String),
    /// An unquoted date, which nothing in a compose file may be.
    Date(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Map),
}

/// A mapping by key.
pub(super) type Map = BTreeMap<String, Entry>;

/// A value in a mapping, with the place of its key.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Where the key stands.
    pub key: Span,
    /// Its value.
    pub node: Node,
}

/// What `!reset` and `!override` say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mark {
    /// Merge by the key's own rule.
    #[default]
    None,
    /// Take away what an earlier file said.
    Reset,
    /// Replace what an earlier file said.
    Override,
}

impl Node {
    /// A node of `kind` at `span`.
    pub(super) fn new(kind: Kind, span: Span) -> Self {
        Self { kind, span, mark: Mark::None, fault: None }
    }

    /// A text node at `span`.
    pub(super) fn text(text: impl Into<String>, span: &Span) -> Self {
        Self::new(Kind::Text(text.into()), span.clone())
    }

    /// A mapping made of `entries`, each key placed at `span`.
    pub(super) fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Node)>, span: &Span) -> Self {
        let entries = entries
            .into_iter()
            .map(|(key, node)| (key.to_owned(), Entry { key: span.clone(), node }))
            .collect();
        Self::new(Kind::Map(entries), span.clone())
    }

    /// Whether it is null.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    /// Its text, when it is text.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a scalar as Go's `fmt.Sprint` would have it; `None` for null, dates and collections.
    pub(super) fn scalar_text(&self) -> Option<String> {
        match &self.kind {
            Kind::Text(text) => Some(text.clone()),
            Kind::Bool(value) => Some(value.to_string()),
            Kind::Int(value) => Some(value.to_string()),
            Kind::Float(value) => Some(scalar::float_text(*value)),
            Kind::Null | Kind::Date(_) | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// Its entries, when it is a mapping.
    pub(super) fn as_map(&self) -> Option<&Map> {
        match &self.kind {
            Kind::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Its entries, when it is a mapping.
    pub(super) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.kind {
            Kind::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Its items, when it is a sequence.
    pub(super) fn as_list(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }

    /// The value of `key`, when it is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key).map(|entry| &entry.node)
    }

    /// The text of `key`, when it is a mapping that has it as text.
    pub(super) fn get_text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    /// What it is, in a word, for messages.
    pub(super) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "empty",
            Kind::Bool(_) => "a boolean",
            Kind::Int(_) | Kind::Float(_) => "a number",
            Kind::Text(_) => "a string",
            Kind::Date(_) => "a date",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }
}

/// Reads every document of a file. An empty file has none.
///
/// # Errors
/// Every mistake found up to the first one that the grammar cannot get over.
pub(super) fn parse(file: &Arc<SourceFile>) -> Result<Vec<Node>, Vec<Diagnostic>> {
    if file.text.len() > MOST_BYTES {
        let message = format!("`{}` is larger than {} MiB", file.name, MOST_BYTES >> 20);
        return Err(vec![Diagnostic::error(message).note("a compose file is never that large")]);
    }
    let mut builder = Builder::new(file);
    let options = granit_parser::options! {
        emit_comments: false,
        emit_anchor_events: false,
        block_scalar_eof_without_line_feed: true,
        flow_nesting_limit: MOST_DEPTH,
        block_nesting_limit: MOST_DEPTH,
    };
    for event in Parser::new_from_str_with_options(&file.text, options) {
        let step = match event {
            Ok((event, span)) => builder.take(event, &span),
            Err(error) => Err(builder.syntax(&error)),
        };
        if let Err(diagnostic) = step {
            builder.mistakes.push(*diagnostic);
            break;
        }
    }
    if builder.mistakes.is_empty() { Ok(builder.documents) } else { Err(builder.mistakes) }
}

/// A collection whose end was not seen yet.
enum Open {
    List(Vec<Node>),
    Map { map: Map, key: Option<Key>, merged: Vec<Node> },
}

/// A key whose value was not seen yet.
enum Key {
    /// A plain `<<`.
    Merge,
    /// Any other.
    Name(String, Span),
}

struct Frame {
    open: Open,
    start: usize,
    anchor: usize,
    mark: Mark,
    /// The number of nodes before it, to know how many it has.
    before: usize,
}

struct Builder<'a> {
    file: &'a Arc<SourceFile>,
    frames: Vec<Frame>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    documents: Vec<Node>,
    mistakes: Vec<Diagnostic>,
}

type Step = Result<(), Box<Diagnostic>>;

impl<'a> Builder<'a> {
    fn new(file: &'a Arc<SourceFile>) -> Self {
        Self {
            file,
            frames: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            documents: Vec::new(),
            mistakes: Vec::new(),
        }
    }

    fn span(&self, span: &granit_parser::Span) -> Span {
        Span::new(self.file, span.byte_range().unwrap_or(0..0))
    }

    fn syntax(&self, error: &granit_parser::ScanError) -> Box<Diagnostic> {
        let at = error.marker().byte_offset().unwrap_or(0);
        Box::new(
            Diagnostic::error(format!("`{}` is not valid YAML", self.file.name))
                .at(Span::new(self.file, at..at + 1), error.info()),
        )
    }

    fn take(&mut self, event: Event<'_>, span: &granit_parser::Span) -> Step {
        let place = self.span(span);
        match event {
            Event::DocumentStart(_, Some(version)) if version.major != 1 || version.minor != 1 => {
                Err(refuse("this YAML version is not one that compose reads", place, "only 1.1, or none"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, &place)?;
                let plain = style == granit_parser::ScalarStyle::Plain;
                if plain && text == "<<" && tag.is_none() && self.merge_key() {
                    return Ok(());
                }
                if style == granit_parser::ScalarStyle::DoubleQuoted && has_slash_escape(place.text()) {
                    return Err(refuse("`\\/` is no escape that compose reads", place, "write `/`"));
                }
                let node = scalar_node(&text, plain, tag.as_deref(), place)?;
                self.finish(node, anchor, 1)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(Open::List(Vec::new()), anchor, tag.as_deref(), &place)
            }
            Event::MappingStart(_, anchor, tag) => {
                let open = Open::Map { map: Map::new(), key: None, merged: Vec::new() };
                self.open(open, anchor, tag.as_deref(), &place)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(&place),
            Event::Alias(id) => self.alias(id, place),
            _ => Ok(()),
        }
    }

    /// Takes a plain `<<` as the key of a merge, where a key is due.
    fn merge_key(&mut self) -> bool {
        match self.frames.last_mut() {
            Some(Frame { open: Open::Map { key: key @ None, .. }, .. }) => {
                *key = Some(Key::Merge);
                true
            }
            _ => false,
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { open: Open::Map { key: None, .. }, .. }))
    }

    fn count(&mut self, more: usize, place: &Span) -> Step {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes <= MOST_NODES {
            return Ok(());
        }
        let message =
            format!("`{}` has more than {MOST_NODES} values once its aliases are copied", self.file.name);
        Err(refuse(&message, place.clone(), "the bound is reached here"))
    }

    fn open(&mut self, open: Open, anchor: usize, tag: Option<&Tag>, place: &Span) -> Step {
        if self.frames.len() >= MOST_DEPTH {
            return Err(refuse(
                "nested too deeply",
                place.clone(),
                &format!("more than {MOST_DEPTH} levels"),
            ));
        }
        if self.expects_key() {
            return Err(refuse("a key must be a string", place.clone(), "this is a collection"));
        }
        self.count(1, place)?;
        let mark = mark_of(tag);
        self.frames.push(Frame { open, start: place.range.start, anchor, mark, before: self.nodes - 1 });
        Ok(())
    }

    fn close(&mut self, place: &Span) -> Step {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let mut end = place.range.end.max(frame.start);
        let text = &self.file.text;
        // A block collection ends where the next token begins; its own text ends earlier.
        while end > frame.start && text.as_bytes().get(end - 1).is_some_and(u8::is_ascii_whitespace) {
            end -= 1;
        }
        let span = Span::new(self.file, frame.start..end);
        let kind = match frame.open {
            Open::List(items) => Kind::List(items),
            Open::Map { mut map, merged, .. } => {
                for node in merged {
                    merge_in(&mut map, node)?;
                }
                Kind::Map(map)
            }
        };
        let mut node = Node::new(kind, span);
        node.mark = frame.mark;
        self.finish(node, frame.anchor, self.nodes - frame.before)
    }

    fn alias(&mut self, id: usize, place: Span) -> Step {
        let Some((node, size)) = self.anchors.get(&id) else {
            return Err(refuse("an alias inside of what it names", place, "this would never end"));
        };
        let (node, size) = (node.clone(), *size);
        self.count(size, &place)?;
        self.finish(node, 0, size)
    }

    /// Puts a complete node where it belongs.
    fn finish(&mut self, node: Node, anchor: usize, size: usize) -> Step {
        if anchor != 0 {
            self.count(size, &node.span)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.frames.last_mut().map(|frame| &mut frame.open) {
            None => self.documents.push(node),
            Some(Open::List(_)) if node.mark == Mark::Reset => {}
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map { map, key, merged }) => match key.take() {
                None => *key = Some(key_of(node)?),
                Some(Key::Merge) => merged.push(node),
                Some(Key::Name(name, place)) => match map.get(&name) {
                    Some(_) if self.mistakes.len() >= MOST_DUPLICATES => {
                        return Err(refuse("too many keys stand twice", place, "no more are looked for"));
                    }
                    Some(first) => self.mistakes.push(twice(&name, place, &first.key)),
                    None => drop(map.insert(name, Entry { key: place, node })),
                },
            },
        }
        Ok(())
    }
}

/// Whether a double-quoted text escapes a slash, which YAML 1.2 allows and compose's reader does not.
fn has_slash_escape(quoted: &str) -> bool {
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        if letter == '\\' && letters.next() == Some('/') {
            return true;
        }
    }
    false
}

/// A scalar as the key of a mapping.
fn key_of(node: Node) -> Result<Key, Box<Diagnostic>> {
    match node.kind {
        Kind::Text(text) => Ok(Key::Name(text, node.span)),
        _ => {
            let label = format!("this is {}; put it in quotes", node.kind_name());
            Err(refuse("a key must be a string", node.span, &label))
        }
    }
}

fn twice(name: &str, again: Span, first: &Span) -> Diagnostic {
    Diagnostic::error(format!("the key `{name}` stands twice in one mapping"))
        .at(again, "again here")
        .also(first.clone(), "first here")
}

/// What a tag says about merging; tags of other kinds on collections mean nothing here.
fn mark_of(tag: Option<&Tag>) -> Mark {
    match tag.map(Tag::parts) {
        Some(("!", "reset")) => Mark::Reset,
        Some(("!", "override")) => Mark::Override,
        _ => Mark::None,
    }
}

fn scalar_node(text: &str, plain: bool, tag: Option<&Tag>, place: Span) -> Result<Node, Box<Diagnostic>> {
    let mark = mark_of(tag);
    let value = match tag {
        Some(tag) if tag.core_suffix().is_some() => {
            let kind = tag.core_suffix().unwrap_or_default();
            scalar::tagged(kind, text)
                .ok_or_else(|| refuse(&format!("`{text}` is no `!!{kind}`"), place.clone(), ""))?
        }
        // A lone `!` makes text of anything.
        Some(tag) if mark == Mark::None && tag.original() != "!" => {
            let message = format!("unknown tag `{}`", tag.original());
            return Err(refuse(&message, place, "compose knows `!reset` and `!override`"));
        }
        Some(_) if mark == Mark::None => Scalar::Text(text.to_owned()),
        _ if plain => scalar::plain(text),
        _ => Scalar::Text(text.to_owned()),
    };
    let kind = match value {
        Scalar::Null => Kind::Null,
        Scalar::Bool(value) => Kind::Bool(value),
        Scalar::Int(value) => Kind::Int(value),
        Scalar::Float(value) => Kind::Float(value),
        Scalar::Text(value) => Kind::Text(value),
        Scalar::Date(value) => Kind::Date(value),
        Scalar::Merge => Kind::Text("<<".to_owned()),
    };
    let mut node = Node::new(kind, place);
    node.mark = mark;
    Ok(node)
}

/// Works the value of a `<<` key into a mapping: what is there already wins, then earlier sources.
fn merge_in(map: &mut Map, node: Node) -> Step {
    match node.kind {
        Kind::Map(entries) => {
            for (key, entry) in entries {
                map.entry(key).or_insert(entry);
            }
            Ok(())
        }
        Kind::List(items) if items.iter().all(|item| item.as_map().is_some()) => {
            items.into_iter().try_for_each(|item| merge_in(map, item))
        }
        _ => Err(refuse("`<<` takes a mapping or a list of mappings", node.span.clone(), node.kind_name())),
    }
}

fn refuse(message: &str, place: Span, label: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(message).at(place, label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Node>, Vec<Diagnostic>> {
        parse(&SourceFile::new("compose.yml", text))
    }

    /// The tree as one line, to compare.
    fn show(node: &Node) -> String {
        match &node.kind {
            Kind::Null => "null".into(),
            Kind::Text(text) => format!("{text:?}"),
            Kind::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
            Kind::Map(map) => {
                let entries: Vec<_> =
                    map.iter().map(|(key, entry)| format!("{key}: {}", show(&entry.node))).collect();
                format!("{{{}}}", entries.join(", "))
            }
            _ => node.scalar_text().unwrap_or_default(),
        }
    }

    fn one(text: &str) -> String {
        show(&read(text).unwrap()[0])
    }

    fn mistakes(text: &str) -> String {
        let all = read(text).unwrap_err();
        all.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn anchors_and_merge_keys() {
        assert_eq!(one("x: &a {k: 1, l: 2}\ny:\n  <<: *a\n  l: 3\n"), "{x: {k: 1, l: 2}, y: {k: 1, l: 3}}");
        assert_eq!(
            one("a: &a {k: 1}\nb: &b {k: 2, m: 3}\nc: {<<: [*a, *b]}"),
            "{a: {k: 1}, b: {k: 2, m: 3}, c: {k: 1, m: 3}}"
        );
        assert_eq!(one("'<<': {a: 1}"), "{<<: {a: 1}}");
        assert!(mistakes("a: {<<: 3}").contains("takes a mapping"));
    }

    #[test]
    fn spans_cover_what_was_written() {
        let documents = read("a:\n  b: [1, 'two']\n  c:\n    - x\nd: z\n").unwrap();
        let a = documents[0].get("a").unwrap();
        assert_eq!(a.get("b").unwrap().span.text(), "[1, 'two']");
        assert_eq!(a.get("c").unwrap().span.text(), "- x");
        assert_eq!(a.as_map().unwrap()["b"].key.text(), "b");
    }

    #[test]
    fn duplicates_are_all_told() {
        let text = mistakes("a: 1\nb: 2\na: 3\nb: 4\n");
        assert_eq!(text.matches("stands twice").count(), 2, "{text}");
        assert!(mistakes("a: {<<: {}, <<: {}}\nb: 1\n1: x").contains("must be a string"));
    }

    #[test]
    fn tags_become_marks() {
        let documents =
            read("a: !reset null\nb: !override [1]\nc: !reset\nd: [!reset x, y]\ne: ! 5").unwrap();
        let mark = |key| documents[0].get(key).unwrap().mark;
        assert_eq!((mark("a"), mark("b"), mark("c")), (Mark::Reset, Mark::Override, Mark::Reset));
        assert_eq!(show(documents[0].get("d").unwrap()), "[\"y\"]");
        assert_eq!(show(documents[0].get("e").unwrap()), "\"5\"");
        assert!(mistakes("a: !mine x").contains("unknown tag `!mine`"));
    }

    #[test]
    fn hostile_input_is_refused() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]";
        assert!(mistakes(bomb).contains("aliases are copied"));
        assert!(read(&"[".repeat(5000)).is_err());
        assert!(read(&"- ".repeat(5000)).is_err());
        let deep: String = (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert!(read(&deep).is_err());
        assert!(mistakes("a: &a [*a]").contains("compose.yml"));
        assert!(read(&"- a\n".repeat(400_000)).is_err());
        assert!(read(&"x".repeat(9 << 20)).is_err());
        for junk in [
            "\0",
            "\u{feff}",
            ":",
            "- : -",
            "? ",
            "&",
            "*x",
            "!!",
            "%YAML 1.2\n---\na: 1",
            "\t- a",
            "a: b: c",
            "}{",
        ] {
            let _ = read(junk);
        }
    }

    #[test]
    fn documents_and_emptiness() {
        assert_eq!(read("").unwrap().len(), 0);
        assert_eq!(read("a: 1\n---\nb: 2\n").unwrap().len(), 2);
        assert_eq!(one("a:\n"), "{a: null}");
    }
}
