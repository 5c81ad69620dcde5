//! The cases as text: a compose file, and what Docker Compose makes of it, in one place.
//!
//! A file of `testdata/inspect` holds many cases of one topic:
//!
//! ```text
//! === name
//! # what it is about
//! up: yes                              its containers are started, not only made
//! look into: /a /b                     files in the containers that are looked at
//! --- compose                          PROJECT stands for the project's name, FOLDER for its folder
//! --- files                            further files of its folder, see `buildkit::files`
//! --- before                           what the engine has already, see `engine::Before`
//! --- made                             what Docker Compose makes of it on every engine, see `look`
//! --- made on 20.10                    or: on this one
//! ```
//!
//! A result that begins with `refused:` is a refusal and its message. Parsing and printing are each
//! other's inverse. What a case means is not known here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The engines whose results are kept.
pub(super) const ENGINES: [&str; 2] = ["28.5", "20.10"];

/// A file of cases: the lines before the first one, and the cases.
pub(super) struct Cases {
    head: String,
    pub(super) cases: Vec<Case>,
}

/// A compose file and what becomes of it.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) name: String,
    /// The lines between the name and the first section, as they stand.
    lines: Vec<String>,
    sections: Vec<(String, String)>,
    /// Engine → what Docker Compose makes there.
    pub(super) made: BTreeMap<String, String>,
}

impl Cases {
    pub(super) fn parse(text: &str) -> Self {
        let mut cases = Self { head: String::new(), cases: Vec::new() };
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("=== ") {
                let (name, made) = (name.trim().to_owned(), BTreeMap::new());
                cases.cases.push(Case { name, lines: Vec::new(), sections: Vec::new(), made });
            } else if let Some(case) = cases.cases.last_mut() {
                case.line(line);
            } else {
                cases.head.push_str(line);
                cases.head.push('\n');
            }
        }
        cases.cases.iter_mut().for_each(Case::take_results);
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

    /// Moves the sections with results to where they belong.
    fn take_results(&mut self) {
        for (name, text) in self.sections.extract_if(.., |(name, _)| name.starts_with("made")) {
            let text = format!("{}\n", text.trim_end_matches('\n'));
            match name.strip_prefix("made on ") {
                Some(engine) => drop(self.made.insert(engine.to_owned(), text)),
                None => self.made.extend(ENGINES.map(|engine| (engine.to_owned(), text.clone()))),
            }
        }
    }

    fn print(&self, text: &mut String) {
        writeln!(text, "=== {}", self.name).unwrap();
        for line in self.lines.iter().filter(|line| !line.is_empty()) {
            writeln!(text, "{line}").unwrap();
        }
        let mut section = |name: &str, content: &str| {
            writeln!(text, "--- {name}\n{}", content.trim_end_matches('\n')).unwrap();
        };
        self.sections.iter().for_each(|(name, content)| section(name, content));
        let all = ENGINES.map(|engine| self.made.get(engine));
        match all {
            [Some(one), Some(other)] if one == other => section("made", one),
            _ => {
                self.made.iter().rev().for_each(|(engine, made)| section(&format!("made on {engine}"), made))
            }
        }
        text.push('\n');
    }

    /// A value of the lines at its head.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).map(str::trim)
    }

    /// A section; empty where there is none.
    pub(super) fn section(&self, name: &str) -> &str {
        self.sections.iter().find(|(known, _)| known == name).map_or("", |(_, text)| text)
    }
}
