//! The list of all keys, written from the attribute table to `testdata/compose/KEYS.md`, so that it cannot
//! say anything else. `UPDATE_GOLDEN=1` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::attrs::{Attr, BUILD, Merge, Object, PathRule, SERVICE, Shape, State, TOP, Unique};

/// What becomes of a key of `object`.
fn state(attr: &Attr, built: bool) -> &'static str {
    match attr.state {
        State::Honoured if built => "built with",
        State::Honoured => "launched with",
        State::Read => "used in reading",
        State::Checked => "checked only",
        State::Later => "refused by name",
        State::Elsewhere => "warned about",
    }
}

fn shape(shape: Shape) -> String {
    match shape {
        Shape::Any => "anything".into(),
        Shape::Text => "text".into(),
        Shape::TextLike => "text, number or boolean".into(),
        Shape::TextOrNumber => "text or number".into(),
        Shape::Bool => "boolean".into(),
        Shape::Whole => "whole number".into(),
        Shape::WholeOnly => "whole number, no text".into(),
        Shape::Number => "number".into(),
        Shape::Size => "bytes".into(),
        Shape::SizeText => "bytes, as text".into(),
        Shape::Duration => "duration".into(),
        Shape::Word(words) => format!("`{}`", words.join("`, `")),
        Shape::Command => "command line".into(),
        Shape::OneOrMany(item) => format!("one or a list of {}", self::shape(*item)),
        Shape::List(item) => format!("list of {}", self::shape(*item)),
        Shape::Pairs(_) => "mapping or list of `KEY=VALUE`".into(),
        Shape::Map(item) => format!("mapping to {}", self::shape(*item)),
        Shape::Named(object) => format!("{}s by name", object.name),
        Shape::Object(object) => format!("a {}", object.name),
        Shape::Short(_, inner) => format!("short form, or {}", self::shape(*inner)),
    }
}

/// How later files change it: the rule of merging, of equal items, of paths.
fn rules(attr: &Attr) -> String {
    let merge = match attr.merge {
        Merge::Natural => "",
        Merge::Replace => "replaced",
        Merge::SameDriver => "merged for one driver",
        Merge::BySubnet => "merged by subnet",
        Merge::Union => "appended without repeats",
    };
    let unique = match attr.unique {
        Unique::Keep => "",
        Unique::Refuse => "no repeats",
        Unique::By(_) => "later item for earlier",
    };
    let path = match attr.path {
        PathRule::No => "",
        PathRule::Path => "path",
        PathRule::Context => "path or URL",
        PathRule::Contexts => "paths or URLs",
    };
    [merge, unique, path].into_iter().filter(|rule| !rule.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The objects inside of a shape.
fn inner(shape: Shape) -> Option<&'static Object> {
    match shape {
        Shape::Named(object) | Shape::Object(object) => Some(object),
        Shape::OneOrMany(item) | Shape::List(item) | Shape::Map(item) | Shape::Short(_, item) => inner(*item),
        _ => None,
    }
}

/// Objects are searched by halves.
fn assert_order(object: &Object) {
    assert!(object.attrs.is_sorted_by_key(|attr| attr.key), "{} is not in order", object.name);
}

fn rows(path: &str, object: &'static Object, built: bool, seen: &mut BTreeSet<String>, text: &mut String) {
    assert_order(object);
    for attr in object.attrs {
        let key = if path.is_empty() { attr.key.to_owned() } else { format!("{path}.{}", attr.key) };
        let row = [shape(attr.shape), rules(attr), state(attr, built).to_owned()].join(" | ");
        if seen.insert(key.clone()) {
            writeln!(text, "| `{key}` | {row} |").unwrap();
        }
        let Some(object) = inner(attr.shape) else { continue };
        if std::ptr::eq(object, &SERVICE) || std::ptr::eq(object, &BUILD) {
            continue;
        }
        assert_order(object);
        // What is inside of a key that has no effect has none either.
        if matches!(attr.state, State::Honoured | State::Read) {
            let many = matches!(attr.shape, Shape::Named(_)).then(|| format!("{key}.NAME"));
            rows(&many.unwrap_or(key), object, built, seen, text);
        }
    }
}

fn list() -> String {
    let mut text = "# Every key and what becomes of it\n\nWritten from `src/compose/attrs.rs` by its test \
                    (`UPDATE_GOLDEN=1 cargo test --lib compose::keys`).\n\n- built with, launched with: it \
                    counts\n- used in reading: it decides how the files are read\n- checked only: no command \
                    that builds or launches needs it\n- warned about: it has no effect on one engine, which \
                    is said\n- refused by name: commands that would have to honour it end with `not supported \
                    yet`\n"
        .to_owned();
    for (heading, path, object, built) in [
        ("Top level", "", &TOP, false),
        ("`services.NAME`", "", &SERVICE, false),
        ("`build`", "", &BUILD, true),
    ] {
        let columns = "| key | shape | later files | state |\n| --- | --- | --- | --- |\n";
        write!(text, "\n## {heading}\n\n{columns}").unwrap();
        rows(path, object, built, &mut BTreeSet::new(), &mut text);
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn the_list_of_keys_is_that_of_the_table() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/compose/KEYS.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, list()).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap_or_default() == list(),
        "remake KEYS.md with UPDATE_GOLDEN=1"
    );
}
