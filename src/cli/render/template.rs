//! `--format` with a template in Go's language, as the docker command's listings take it. Pure.
//!
//! Of the language: text, fields (`{{.Name}}`), pipes, docker's own functions (`json`, `upper`, `split` …),
//! comparisons, and `if`. What is missing (`range`, `with`, variables, `printf`) is refused by name. A
//! template that begins with `table` gets a headline and columns.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::go;
use super::table::Table;

/// One thing that is listed.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Item {
    /// Its fields, as `json` prints them.
    pub(in crate::cli) fields: Map<String, Value>,
    /// Its labels, for `.Label`.
    pub(in crate::cli) labels: BTreeMap<String, String>,
}

/// What a kind of listing prints by itself.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Listing {
    /// The template of `table`.
    pub(in crate::cli) table: &'static str,
    /// The template of `raw`, where there is one.
    pub(in crate::cli) raw: Option<&'static str>,
    /// The headline of each field.
    pub(in crate::cli) headers: &'static [(&'static str, &'static str)],
}

/// The items in the form that the user asked for: empty or `table`, `json`, `raw`, `table TEMPLATE` or
/// `TEMPLATE`.
pub(in crate::cli) fn listing(listing: &Listing, format: &str, items: &[Item]) -> Result<String, String> {
    let (table, source) = match (format.trim_matches(' '), listing.raw) {
        ("" | "table", _) => (true, listing.table.to_owned()),
        ("json", _) => (false, "{{json .}}".to_owned()),
        ("raw", Some(raw)) => (false, raw.to_owned()),
        (format, _) => match format.strip_prefix("table") {
            Some(rest) => (true, escapes(rest.trim_matches(' '))),
            None => (false, escapes(format)),
        },
    };
    let nodes = parse(&source)?;
    let rows = items.iter().map(|item| run(&nodes, &Data::Item(item))).collect::<Result<Vec<_>, _>>()?;
    if !table {
        return Ok(rows.iter().map(|row| format!("{row}\n")).collect());
    }
    let headline = run(&nodes, &Data::Headers(listing.headers))?;
    let mut table = Table::new(&headline.split('\t').collect::<Vec<_>>());
    for line in rows.iter().flat_map(|row| row.split('\n')) {
        table.row(line.split('\t').map(str::to_owned).collect());
    }
    Ok(table.text())
}

/// `\t` and `\n`, which a shell leaves as they are.
fn escapes(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

#[derive(Debug, PartialEq)]
enum Node {
    Text(String),
    Print(Pipe),
    If { condition: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
}

/// Commands, each with the result of the one before as its last argument.
type Pipe = Vec<Vec<Operand>>;

#[derive(Debug, PartialEq)]
enum Operand {
    Field(Vec<String>),
    Literal(Value),
    Function(String),
    Inner(Pipe),
}

/// What a template is filled from.
enum Data<'a> {
    Item(&'a Item),
    Headers(&'a [(&'static str, &'static str)]),
}

// --- reading ----------------------------------------------------------------------------------------

fn parse(source: &str) -> Result<Vec<Node>, String> {
    let mut pieces = pieces(source)?.into_iter();
    let (nodes, end) = block(&mut pieces)?;
    match end {
        None => Ok(nodes),
        Some(word) => Err(format!("the template has `{{{{{word}}}}}` without an `if` before it")),
    }
}

enum Piece {
    Text(String),
    Action(String),
}

/// Text and actions, with the white space that `{{-` and `-}}` take away gone.
fn pieces(source: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut rest, mut trim) = (Vec::new(), source, false);
    loop {
        let (text, action) = match rest.split_once("{{") {
            Some((text, action)) => (text, Some(action)),
            None => (rest, None),
        };
        let text = if trim { text.trim_start() } else { text };
        let Some(action) = action else {
            pieces.push(Piece::Text(text.to_owned()));
            return Ok(pieces);
        };
        let before = action.strip_prefix("- ");
        pieces.push(Piece::Text(if before.is_some() { text.trim_end() } else { text }.to_owned()));
        let action = before.unwrap_or(action);
        let end = closing(action).ok_or("the template has `{{` without `}}` after it")?;
        let inner = &action[..end];
        trim = inner.ends_with(" -");
        pieces.push(Piece::Action(if trim { &inner[..inner.len() - 2] } else { inner }.trim().to_owned()));
        rest = &action[end + 2..];
    }
}

/// Where `}}` stands outside of a string.
fn closing(action: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, letter) in action.char_indices() {
        match (quote, letter) {
            (Some('"'), '\\') if !escaped => escaped = true,
            (Some(open), letter) => {
                if open == letter && !escaped {
                    quote = None;
                }
                escaped = false;
            }
            (None, '"' | '`') => quote = Some(letter),
            (None, '}') if action[at..].starts_with("}}") => return Some(at),
            (None, _) => {}
        }
    }
    None
}

/// Nodes up to `end`, `else`, or the end of the template.
fn block(pieces: &mut std::vec::IntoIter<Piece>) -> Result<(Vec<Node>, Option<String>), String> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(action) => action,
        };
        let (word, rest) = action.split_once(' ').unwrap_or((&action, ""));
        match word {
            "if" => nodes.push(branch(rest, pieces)?),
            "end" | "else" => return Ok((nodes, Some(action))),
            "range" | "with" | "define" | "template" | "block" | "break" | "continue" => {
                return Err(format!("not supported yet: `{word}` in a template"));
            }
            _ if action.starts_with("/*") => {}
            _ => nodes.push(Node::Print(pipe(&action)?)),
        }
    }
    Ok((nodes, None))
}

/// What follows an `if`, up to its `end`.
fn branch(condition: &str, pieces: &mut std::vec::IntoIter<Piece>) -> Result<Node, String> {
    let condition = pipe(condition)?;
    let (then, end) = block(pieces)?;
    let otherwise = match end.as_deref() {
        Some("end") => Vec::new(),
        Some("else") => match block(pieces)? {
            (nodes, Some(end)) if end == "end" => nodes,
            _ => return Err("the template has `{{else}}` without `{{end}}`".to_owned()),
        },
        Some(other) => match other.strip_prefix("else if ") {
            Some(condition) => vec![branch(condition, pieces)?],
            None => return Err(format!("the template has `{{{{{other}}}}}`, which means nothing")),
        },
        None => return Err("the template has `{{if}}` without `{{end}}`".to_owned()),
    };
    Ok(Node::If { condition, then, otherwise })
}

fn pipe(action: &str) -> Result<Pipe, String> {
    let words = words(action)?;
    let mut words = words.iter().map(String::as_str).peekable();
    let pipe = commands(&mut words)?;
    match words.next() {
        None => Ok(pipe),
        Some(word) => Err(format!("the template has `{word}` where nothing belongs")),
    }
}

fn commands<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> Result<Pipe, String> {
    let mut pipe = vec![Vec::new()];
    while let Some(word) = words.next_if(|word| *word != ")") {
        let operand = match word {
            "|" => {
                pipe.push(Vec::new());
                continue;
            }
            "(" => {
                let inner = commands(words)?;
                words.next().ok_or("the template has `(` without `)` after it")?;
                Operand::Inner(inner)
            }
            word => operand(word)?,
        };
        if let Some(command) = pipe.last_mut() {
            command.push(operand);
        }
    }
    if pipe.iter().any(Vec::is_empty) {
        return Err("the template has an empty `{{}}` or nothing beside a `|`".to_owned());
    }
    Ok(pipe)
}

fn operand(word: &str) -> Result<Operand, String> {
    if let Some(path) = word.strip_prefix('.') {
        let names = path.split('.').filter(|name| !name.is_empty());
        return Ok(Operand::Field(names.map(str::to_owned).collect()));
    }
    if let Some(raw) = word.strip_prefix('`') {
        return Ok(Operand::Literal(raw.trim_end_matches('`').into()));
    }
    if word.starts_with('"') || word.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-') {
        return serde_json::from_str(word)
            .map(Operand::Literal)
            .map_err(|_| format!("the template has `{word}`, which is neither a string nor a number"));
    }
    match word {
        "true" | "false" => Ok(Operand::Literal((word == "true").into())),
        word if word.starts_with('$') => Err("not supported yet: variables in a template".to_owned()),
        word if FUNCTIONS.contains(&word) => Ok(Operand::Function(word.to_owned())),
        word => Err(format!(
            "not supported: the function `{word}` in a template; there are {}",
            FUNCTIONS.join(", ")
        )),
    }
}

/// Words, strings, parentheses and bars.
fn words(action: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' | '|' => 1,
            '"' => string_end(rest).ok_or("the template has a string without an end")?,
            '`' => rest[1..].find('`').ok_or("the template has a string without an end")? + 2,
            _ => rest
                .find(|letter: char| letter.is_whitespace() || "()|".contains(letter))
                .unwrap_or(rest.len()),
        };
        words.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

fn string_end(text: &str) -> Option<usize> {
    let mut escaped = true;
    for (at, letter) in text.char_indices() {
        match letter {
            '"' if !escaped => return Some(at + 1),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

// --- filling ----------------------------------------------------------------------------------------

const FUNCTIONS: &[&str] = &[
    "json", "split", "join", "title", "lower", "upper", "pad", "truncate", "print", "println", "len",
    "index", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not",
];

fn run(nodes: &[Node], data: &Data<'_>) -> Result<String, String> {
    let mut text = String::new();
    for node in nodes {
        match node {
            Node::Text(piece) => text.push_str(piece),
            Node::Print(pipe) => text.push_str(&printed(&value(pipe, data)?)),
            Node::If { condition, then, otherwise } => {
                let branch = if holds(&value(condition, data)?) { then } else { otherwise };
                text.push_str(&run(branch, data)?);
            }
        }
    }
    Ok(text)
}

fn value(pipe: &Pipe, data: &Data<'_>) -> Result<Value, String> {
    let mut last = None;
    for command in pipe {
        last = Some(called(command, last, data)?);
    }
    Ok(last.unwrap_or_default())
}

fn called(command: &[Operand], last: Option<Value>, data: &Data<'_>) -> Result<Value, String> {
    let Some((first, rest)) = command.split_first() else { return Ok(Value::Null) };
    let mut arguments = rest.iter().map(|operand| plain(operand, data)).collect::<Result<Vec<_>, _>>()?;
    arguments.extend(last);
    match (first, arguments.as_slice()) {
        (Operand::Function(name), _) if matches!(data, Data::Headers(_)) => Ok(header(name, &arguments)),
        (Operand::Function(name), _) => function(name, &arguments),
        (Operand::Field(path), [Value::String(name)]) if path == &["Label"] => Ok(label(name, data)),
        (operand, []) => plain(operand, data),
        (Operand::Field(path), _) => Err(format!("the template gives arguments to `.{}`", path.join("."))),
        _ => Err("the template gives arguments to what is no function".to_owned()),
    }
}

fn plain(operand: &Operand, data: &Data<'_>) -> Result<Value, String> {
    match operand {
        Operand::Field(path) => field(path, data),
        Operand::Literal(value) => Ok(value.clone()),
        Operand::Inner(pipe) => value(pipe, data),
        Operand::Function(name) => called(&[Operand::Function(name.clone())], None, data),
    }
}

fn field(path: &[String], data: &Data<'_>) -> Result<Value, String> {
    match (data, path) {
        (Data::Item(item), []) => Ok(Value::Object(item.fields.clone())),
        (Data::Item(item), [name]) => item.fields.get(name).cloned().ok_or_else(|| {
            let known: Vec<_> = item.fields.keys().map(String::as_str).collect();
            format!("the template has `.{name}`, which is no field; there are {}", known.join(", "))
        }),
        (Data::Headers(headers), [name]) => {
            let found = headers.iter().find(|(field, _)| field == name);
            Ok(found.map_or("", |(_, header)| header).into())
        }
        (Data::Headers(_), []) => Ok("".into()),
        (_, path) => Err(format!("not supported: `.{}` in a template", path.join("."))),
    }
}

fn label(name: &str, data: &Data<'_>) -> Value {
    match data {
        Data::Item(item) => item.labels.get(name).cloned().unwrap_or_default().into(),
        Data::Headers(_) => name.rsplit('.').next().unwrap_or(name).replace(['-', '_'], " ").into(),
    }
}

/// In a headline a function leaves the name of the field as it is.
fn header(name: &str, arguments: &[Value]) -> Value {
    let subject = if matches!(name, "pad" | "truncate" | "split" | "join") {
        arguments.first()
    } else {
        arguments.last()
    };
    subject.cloned().unwrap_or_default()
}

/// The most columns that `pad` adds on one side.
const WIDEST_PAD: usize = 1000;

fn function(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |at: usize| arguments.get(at).map(printed).unwrap_or_default();
    let number = |at: usize| arguments.get(at).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let wrong = || format!("the template calls `{name}` with the wrong arguments");
    let pair = || match arguments {
        [left, right] => Ok((left, right)),
        _ => Err(wrong()),
    };
    Ok(match (name, arguments.len()) {
        ("json", 1) => go::json(&arguments[0]).into(),
        ("split", 2) => text(0).split(&text(1)).collect::<Vec<_>>().into(),
        ("join", 2) => match &arguments[0] {
            Value::Array(items) => items.iter().map(printed).collect::<Vec<_>>().join(&text(1)).into(),
            _ => return Err(wrong()),
        },
        ("title", 1) => title(&text(0)).into(),
        ("lower", 1) => text(0).to_lowercase().into(),
        ("upper", 1) => text(0).to_uppercase().into(),
        ("pad", 3) => {
            let (before, after) = (number(1).ok_or_else(wrong)?, number(2).ok_or_else(wrong)?);
            if before.max(after) > WIDEST_PAD {
                return Err(format!("the template pads by more than {WIDEST_PAD} columns: pad by less"));
            }
            if text(0).is_empty() {
                text(0).into()
            } else {
                format!("{}{}{}", " ".repeat(before), text(0), " ".repeat(after)).into()
            }
        }
        ("truncate", 2) => text(0).chars().take(number(1).ok_or_else(wrong)?).collect::<String>().into(),
        ("print", _) => arguments.iter().map(printed).collect::<String>().into(),
        ("println", _) => format!("{}\n", arguments.iter().map(printed).collect::<Vec<_>>().join(" ")).into(),
        ("len", 1) => length(&arguments[0]).ok_or_else(wrong)?.into(),
        ("index", 2) => match number(1) {
            Some(at) => arguments[0].get(at).cloned().ok_or_else(wrong)?,
            None => arguments[0].get(text(1)).cloned().unwrap_or_default(),
        },
        ("eq", 2..) => arguments[1..].contains(&arguments[0]).into(),
        ("ne", 2) => (arguments[0] != arguments[1]).into(),
        ("lt" | "le" | "gt" | "ge", _) => {
            let (left, right) = pair()?;
            let order = match (left.as_f64(), right.as_f64()) {
                (Some(left), Some(right)) => left.partial_cmp(&right).ok_or_else(wrong)?,
                _ => printed(left).cmp(&printed(right)),
            };
            match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            }
            .into()
        }
        ("and", 1..) => {
            arguments.iter().find(|value| !holds(value)).unwrap_or(&arguments[arguments.len() - 1]).clone()
        }
        ("or", 1..) => {
            arguments.iter().find(|value| holds(value)).unwrap_or(&arguments[arguments.len() - 1]).clone()
        }
        ("not", 1) => (!holds(&arguments[0])).into(),
        _ => return Err(wrong()),
    })
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.len()),
        Value::Array(items) => Some(items.len()),
        Value::Object(fields) => Some(fields.len()),
        _ => None,
    }
}

/// The first letter of each word as a capital.
fn title(text: &str) -> String {
    let mut before = ' ';
    let mut capital = |letter: char| {
        let begins = !before.is_alphanumeric() && before != '_' && before != '\'';
        before = letter;
        if begins { letter.to_uppercase().collect::<String>() } else { letter.to_string() }
    };
    text.chars().map(&mut capital).collect()
}

fn holds(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// As Go prints a value.
fn printed(value: &Value) -> String {
    let all = |values: Vec<String>| values.join(" ");
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", all(items.iter().map(printed).collect())),
        Value::Object(fields) => format!("{{{}}}", all(fields.values().map(printed).collect())),
        Value::Null => "<no value>".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LISTING: Listing = Listing {
        table: "{{.Name}}\t{{.Size}}",
        raw: Some("name: {{.Name}}\nsize:{{- pad .Size 1 0}}\n"),
        headers: &[("Name", "NAME"), ("Size", "SIZE")],
    };

    fn items() -> Vec<Item> {
        let item = |name: &str, count: u64| {
            let fields = json!({"Count": count, "Name": name, "Size": "1->2", "Ports": [{"A": "x", "B": 1}]});
            let Value::Object(fields) = fields else { unreachable!() };
            Item { fields, labels: [("com.a-b".to_owned(), "c".to_owned())].into() }
        };
        vec![item("web one", 0), item("db", 2)]
    }

    fn shown(format: &str) -> String {
        listing(&LISTING, format, &items()).unwrap()
    }

    #[test]
    fn tables_have_a_headline_and_columns() {
        let table = "NAME      SIZE\nweb one   1->2\ndb        1->2\n";
        assert_eq!(shown(""), table);
        assert_eq!(shown("table"), table);
    }

    #[test]
    fn a_table_of_the_users_own() {
        let format = "table {{upper .Name}}\\t{{.Label \"com.a-b\"}}\\t{{.Count}}";
        let expected = "NAME      a b       \nWEB ONE   c         0\nDB        c         2\n";
        assert_eq!(shown(format), expected);
    }

    #[test]
    fn lines_are_filled() {
        let table = [
            ("json", r#"{"Count":0,"Name":"web one","Size":"1-\u003e2","Ports":[{"A":"x","B":1}]}"#),
            ("raw", "name: web one"),
            ("{{.Name}}:{{.Ports}}", "web one:[{x 1}]"),
            ("{{json .Name}}", "\"web one\""),
            ("{{title .Name}} {{.Name | upper | truncate 3}}", "wrong"),
            ("{{title .Name}} {{truncate .Name 3}}", "Web One web"),
            ("{{join (split .Name \" \") \"+\"}}", "web+one"),
            ("{{index (split .Name \" \") 0}}", "web"),
            ("{{if .Count}}some{{else if eq .Name \"db\"}}db{{else}}none{{end}}", "none"),
            ("{{if and (ge .Count 0) (not .Count)}}{{print \"a}}\" `b`}}{{end}}", "a}}b"),
            ("x  {{- .Name -}}  y", "xweb oney"),
            ("{{/* nothing */}}{{len .Name}}", "7"),
        ];
        for (format, expected) in table {
            match listing(&LISTING, format, &items()) {
                Ok(text) => assert_eq!(text.lines().next(), Some(expected), "{format}"),
                Err(error) => assert!(expected == "wrong", "{format}: {error}"),
            }
        }
        assert_eq!(shown("raw"), "name: web one\nsize: 1->2\n\nname: db\nsize: 1->2\n\n");
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (format, said) in [
            ("{{range .Ports}}{{end}}", "not supported yet: `range`"),
            ("{{printf \"%s\" .Name}}", "the function `printf`"),
            ("{{.Nope}}", "`.Nope`, which is no field; there are Count, Name"),
            ("{{.Name", "`{{` without `}}`"),
            ("{{if .Name}}", "`{{if}}` without `{{end}}`"),
            ("{{end}}", "without an `if`"),
            ("{{$x}}", "variables"),
            ("{{.Name |}}", "beside a `|`"),
            ("{{pad .Name}}", "wrong arguments"),
            ("{{pad .Name 99999999999 1}}", "pads by more than 1000 columns"),
        ] {
            let error = listing(&LISTING, format, &items()).unwrap_err();
            assert!(error.contains(said), "{format}: {error}");
        }
    }
}
