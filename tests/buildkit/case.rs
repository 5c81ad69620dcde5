//! The cases as text: Dockerfile, context and expected image in one place.
//!
//! A file of `testdata/buildkit` holds many cases of one topic:
//!
//! ```text
//! === name
//! # what it is about
//! context: basic                       the shared context of contexts.txt that it starts from
//! options: --build-arg A=1             further arguments of the build
//! output: rewrite-timestamp=true       further keys of the output
//! by hand: reason                      the expected text is not made with a BuildKit
//! no place: reason                     our refusal shows no line: the mistake is not in the Dockerfile
//! lines: crlf                          the Dockerfile has Windows line ends
//! --- Dockerfile
//! …
//! --- files                            further files of its context, see `files`
//! --- image                            what BuildKit makes of it, see `image`
//! --- refused                          or: what BuildKit says
//! --- ours                             where we differ on purpose: what we make (or `refused`)
//! ```
//!
//! Parsing and printing are each other's inverse, so remaking the expected text changes nothing else.
//! What a case means is not known here.

use std::fmt::Write as _;

/// A file of cases: the lines before the first one, and the cases.
#[derive(Debug)]
pub(super) struct Cases {
    pub(super) head: String,
    pub(super) cases: Vec<Case>,
}

/// A Dockerfile and what becomes of it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    /// The lines between the name and the first section, as they stand.
    lines: Vec<String>,
    sections: Vec<(String, String)>,
}

impl Cases {
    pub(super) fn parse(text: &str) -> Self {
        let mut cases = Self { head: String::new(), cases: Vec::new() };
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("=== ") {
                let name = name.trim().to_owned();
                cases.cases.push(Case { name, lines: Vec::new(), sections: Vec::new() });
            } else if let Some(case) = cases.cases.last_mut() {
                case.line(line);
            } else {
                cases.head.push_str(line);
                cases.head.push('\n');
            }
        }
        cases
    }

    pub(super) fn print(&self) -> String {
        let mut text = self.head.clone();
        for case in &self.cases {
            case.print(&mut text);
        }
        text.truncate(text.trim_end().len());
        text + "\n"
    }
}

impl Case {
    fn line(&mut self, line: &str) {
        if let Some(section) = line.strip_prefix("--- ") {
            self.sections.push((section.trim().to_owned(), String::new()));
        } else if let Some((_, text)) = self.sections.last_mut() {
            text.push_str(line);
            text.push('\n');
        } else {
            self.lines.push(line.to_owned());
        }
    }

    fn print(&self, text: &mut String) {
        writeln!(text, "=== {}", self.name).unwrap();
        for line in self.lines.iter().filter(|line| !line.is_empty()) {
            writeln!(text, "{line}").unwrap();
        }
        for (name, content) in &self.sections {
            writeln!(text, "--- {name}\n{}", content.trim_end_matches('\n')).unwrap();
        }
        text.push('\n');
    }

    /// A value of the lines at its head.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).map(str::trim)
    }

    /// A section without the empty lines at its end.
    pub(super) fn section(&self, name: &str) -> Option<String> {
        let (_, text) = self.sections.iter().find(|(known, _)| known == name)?;
        Some(format!("{}\n", text.trim_end_matches('\n')))
    }

    /// What the builder reads.
    pub(super) fn dockerfile(&self) -> String {
        let text = self.section("Dockerfile").expect("a case has a Dockerfile");
        match self.value("lines") {
            None => text,
            Some("crlf") => text.replace('\n', "\r\n"),
            Some("no end") => text.trim_end().to_owned(),
            Some("bom") => format!("\u{feff}{text}"),
            Some(other) => panic!("{}: lines: {other}", self.name),
        }
    }

    /// Further arguments of the build.
    pub(super) fn options(&self) -> Vec<String> {
        shell_words::split(self.value("options").unwrap_or_default()).unwrap()
    }

    /// What BuildKit made of it.
    pub(super) fn expected(&self) -> Option<Outcome> {
        match (self.section("image"), self.section("refused")) {
            (Some(image), _) => Some(Outcome::Image(image)),
            (None, Some(message)) => Some(Outcome::Refused(message)),
            (None, None) => None,
        }
    }

    /// What we make of it where that is something else on purpose.
    pub(super) fn ours(&self) -> Option<Outcome> {
        self.section("ours").map(|text| match text.strip_prefix("refused") {
            Some(message) => Outcome::Refused(message.trim_start().to_owned()),
            None => Outcome::Image(text),
        })
    }

    pub(super) fn expect(&mut self, outcome: Outcome) {
        self.sections.retain(|(name, _)| name != "image" && name != "refused");
        let section = match outcome {
            Outcome::Image(text) => ("image".to_owned(), text),
            Outcome::Refused(message) => ("refused".to_owned(), message),
        };
        let before = self.sections.iter().position(|(name, _)| name == "ours");
        self.sections.insert(before.unwrap_or(self.sections.len()), section);
    }

    /// Writes down what we make of it on purpose; `None` where it is what BuildKit makes.
    pub(super) fn differ(&mut self, outcome: Option<Outcome>) {
        self.sections.retain(|(name, _)| name != "ours");
        let text = match outcome {
            None => return,
            Some(Outcome::Image(text)) => text,
            Some(Outcome::Refused(_)) => "refused\n".to_owned(),
        };
        self.sections.push(("ours".to_owned(), text));
    }
}

/// What a builder made of a case.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The image, as `image` writes it.
    Image(String),
    /// What it said when it refused.
    Refused(String),
}
