//! From a line's form to an instruction's meaning: typed flags, counted and checked arguments.
//!
//! This is the second of BuildKit's two layers. Each function reads one instruction and reports what is
//! wrong with it; an instruction with a mistake yields nothing, and reading goes on behind it. Nothing is
//! expanded, and whether a feature is supported is not decided here.

use crate::base::diag::Diagnostic;

use super::ast::{CommandLine, Instruction, Kind, OnBuild, Pair, Run, RunNetwork, RunSecurity, Stage, Word};
use super::copy;
use super::flags::{Allowed, Flags, Takes};
use super::healthcheck;
use super::mount::Mount;
use super::scan::Line;
use super::syntax::{Arguments, Mistake, Piece, Statement, short};

/// Reads the instructions of a file, one line at a time.
pub(super) struct Reader<'a> {
    pub(super) escape: char,
    /// Mistakes that stop a build.
    pub(super) wrong: &'a mut Vec<Diagnostic>,
    /// Mistakes that do not.
    pub(super) warnings: &'a mut Vec<Diagnostic>,
}

const FROM_FLAGS: Allowed = &[("platform", Takes::Value)];
const RUN_FLAGS: Allowed = &[
    ("mount", Takes::Values),
    ("network", Takes::Value),
    ("security", Takes::Value),
    ("device", Takes::Values),
];

impl Reader<'_> {
    /// Reads `FROM`.
    pub(super) fn stage(&mut self, line: &Line, statement: &Statement) -> Option<Stage> {
        let flags = self.flags(line, "FROM", statement, FROM_FLAGS)?;
        let words: &[Piece] = match &statement.arguments {
            Arguments::Words(words) => words,
            _ => &[],
        };
        let (base, keyword, name) = match words {
            [base] => (base, None, None),
            [base, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => {
                (base, Some(word(line, keyword)), Some(self.stage_name(line, name)?))
            }
            [_, keyword, _] => {
                let mistake = Diagnostic::error(format!("`{}` stands where AS must", short(&keyword.text)));
                self.wrong.push(mistake.at(line.span(keyword.range.clone()), ""));
                return None;
            }
            _ => {
                let message =
                    "FROM requires either one or three arguments: `FROM image` or `FROM image AS name`";
                self.refuse(line, statement, message);
                return None;
            }
        };
        Some(Stage {
            name,
            as_keyword: keyword,
            keyword: line.word(statement.keyword.clone()),
            base: word(line, base),
            platform: flags.value("platform"),
            span: line.whole(),
            text: line.shown(statement.keyword.start),
            comments: line.comments.clone(),
            instructions: Vec::new(),
        })
    }

    /// A letter, then letters, digits, `-`, `_` and `.`; case does not count.
    fn stage_name(&mut self, line: &Line, name: &Piece) -> Option<Word> {
        let part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
        if name.text.starts_with(|letter: char| letter.is_ascii_alphabetic()) && name.text.chars().all(part) {
            return Some(word(line, name));
        }
        let message = format!("`{}` is no name for a stage", short(&name.text));
        let note = "a name begins with a letter and has letters, digits, `-`, `_` and `.`";
        self.wrong.push(Diagnostic::error(message).at(line.span(name.range.clone()), "").note(note));
        None
    }

    /// Reads any instruction but `FROM`.
    pub(super) fn instruction(&mut self, line: &Line, statement: &Statement) -> Option<Instruction> {
        Some(Instruction {
            kind: self.kind(line, statement)?,
            keyword: line.word(statement.keyword.clone()),
            span: line.whole(),
            text: line.shown(statement.keyword.start),
            comments: line.comments.clone(),
        })
    }

    fn kind(&mut self, line: &Line, statement: &Statement) -> Option<Kind> {
        let name = statement.name?;
        match name {
            "RUN" => return self.run(line, statement),
            "COPY" => return copy::copy(self, line, statement),
            "ADD" => return copy::add(self, line, statement),
            "HEALTHCHECK" => return healthcheck::read(self, line, statement),
            "ONBUILD" => return self.on_build(line, statement),
            _ => {}
        }
        self.flags(line, name, statement, &[])?;
        match name {
            "CMD" => Some(Kind::Cmd(self.command(line, name, &statement.arguments))),
            "ENTRYPOINT" => Some(Kind::Entrypoint(self.command(line, name, &statement.arguments))),
            "SHELL" => self.shell(line, statement),
            "ENV" => self.pairs(line, statement).map(Kind::Env),
            "LABEL" => self.pairs(line, statement).map(Kind::Label),
            "ARG" => self.variables(line, statement).map(Kind::Arg),
            "EXPOSE" => self.list(line, statement).map(Kind::Expose),
            "VOLUME" => self.volumes(line, statement),
            "USER" => self.one(line, statement).map(Kind::User),
            "WORKDIR" => self.one(line, statement).map(Kind::Workdir),
            "STOPSIGNAL" => self.one(line, statement).map(Kind::StopSignal),
            "MAINTAINER" => self.one(line, statement).map(Kind::Maintainer),
            _ => None,
        }
    }

    fn run(&mut self, line: &Line, statement: &Statement) -> Option<Kind> {
        let flags = self.flags(line, "RUN", statement, RUN_FLAGS)?;
        let command = self.command(line, "RUN", &statement.arguments);
        let before = self.wrong.len();
        match &command {
            CommandLine::Exec(argv) if argv.is_empty() => {
                self.refuse(line, statement, "RUN requires at least one argument");
            }
            CommandLine::Shell(text) if text.is_empty() => {
                let message = "this RUN starts a shell that has nothing to do";
                self.warnings.push(Diagnostic::warning(message).at(line.span(statement.keyword.clone()), ""));
            }
            _ => {}
        }
        if let Some(place) = flags.empty("mount") {
            let mistake = Diagnostic::error("`--mount` has no options").at(place.clone(), "");
            self.wrong.push(mistake.help("write `--mount=type=…,target=…`"));
        }
        let mounts = flags.values("mount");
        let mounts = mounts.iter().filter_map(|mount| Mount::parse(mount, self.escape, self.wrong)).collect();
        let networks =
            [("default", RunNetwork::Default), ("none", RunNetwork::None), ("host", RunNetwork::Host)];
        let network = self.choice("network", flags.value("network"), &networks);
        let securities = [("sandbox", RunSecurity::Sandbox), ("insecure", RunSecurity::Insecure)];
        let security = self.choice("security", flags.value("security"), &securities);
        (self.wrong.len() == before).then(|| {
            let (devices, flags) = (flags.values("device"), flags.places());
            Kind::Run(Run {
                command,
                heredocs: line.heredocs.clone(),
                mounts,
                network,
                security,
                devices,
                flags,
            })
        })
    }

    fn choice<T: Copy>(
        &mut self,
        flag: &str,
        value: Option<Word>,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let value = value?;
        let found = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(&value.text));
        if found.is_none() {
            let names = choices.iter().map(|(name, _)| *name);
            let message = format!("`{}` is no value of `--{flag}`", short(&value.text));
            let note = format!("there are {}", names.clone().collect::<Vec<_>>().join(", "));
            let mistake = Diagnostic::error(message).at(value.span.clone(), "").note(note);
            self.wrong.push(mistake.did_you_mean(&value.text, names));
        }
        found.map(|(_, value)| *value)
    }

    /// The command in its form. What looks like an array and is none goes to the shell, with a warning.
    pub(super) fn command(&mut self, line: &Line, name: &str, arguments: &Arguments) -> CommandLine {
        match arguments {
            Arguments::Json(argv) => CommandLine::Exec(argv.iter().map(|item| item.text.clone()).collect()),
            Arguments::Text(text) => {
                self.warn_of_broken_array(line, name, text, "they go to the shell as they stand");
                CommandLine::Shell(text.text.clone())
            }
            _ => CommandLine::Shell(String::new()),
        }
    }

    /// Warns where a text begins like an array of strings.
    pub(super) fn warn_of_broken_array(&mut self, line: &Line, name: &str, text: &Piece, instead: &str) {
        let Some(inner) = text.text.strip_prefix('[') else { return };
        if !inner.trim_start().starts_with(['"', '\'', '\u{201c}', '\u{2018}']) {
            return;
        }
        let message = format!("the arguments of {name} look like a JSON array but are none: {instead}");
        let mut warning = Diagnostic::warning(message).at(line.span(text.range.clone()), "");
        if !inner.trim_start().starts_with('"') {
            warning = warning.help("strings of a JSON array stand in double quotes");
        }
        self.warnings.push(warning);
    }

    fn shell(&mut self, line: &Line, statement: &Statement) -> Option<Kind> {
        match &statement.arguments {
            Arguments::Json(argv) if !argv.is_empty() => {
                Some(Kind::Shell(argv.iter().map(|item| item.text.clone()).collect()))
            }
            Arguments::Text(text) => {
                let mistake = Diagnostic::error("SHELL requires the arguments to be in JSON form");
                let help = "write `SHELL [\"/bin/bash\", \"-c\"]`";
                self.wrong.push(mistake.at(line.span(text.range.clone()), "").help(help));
                None
            }
            _ => {
                self.refuse(line, statement, "SHELL requires at least one argument");
                None
            }
        }
    }

    fn on_build(&mut self, line: &Line, statement: &Statement) -> Option<Kind> {
        self.flags(line, "ONBUILD", statement, &[])?;
        let Arguments::Trigger(inner) = &statement.arguments else {
            self.refuse(line, statement, "ONBUILD requires at least one argument");
            return None;
        };
        let keyword = line.word(inner.keyword.clone());
        let message = match inner.name {
            None => {
                self.wrong.push(unknown(&keyword));
                return None;
            }
            Some("ONBUILD") => "ONBUILD cannot be the trigger of ONBUILD".to_owned(),
            Some(name @ ("FROM" | "MAINTAINER")) => format!("{name} is not allowed as a trigger of ONBUILD"),
            Some(_) => {
                let instruction = Box::new(self.instruction(line, inner)?);
                let mut trigger = line.text[inner.keyword.start..].to_owned();
                for heredoc in &line.heredocs {
                    trigger.push('\n');
                    trigger.push_str(&heredoc.raw);
                    trigger.push_str(&heredoc.name);
                }
                return Some(Kind::OnBuild(OnBuild { trigger, instruction }));
            }
        };
        self.wrong.push(Diagnostic::error(message).at(keyword.span, ""));
        None
    }

    fn pairs(&mut self, line: &Line, statement: &Statement) -> Option<Vec<Pair>> {
        let pieces = match &statement.arguments {
            Arguments::Pairs(pairs) => pairs.as_slice(),
            Arguments::Legacy(name, value) => &[(name.clone(), value.clone())],
            _ => &[],
        };
        if pieces.is_empty() {
            self.at_least_one(line, statement);
        }
        let named = self.all_named(line, statement, pieces.iter().map(|(name, _)| name));
        let pair = |(name, value): &(Piece, Piece)| (word(line, name), Some(word(line, value)));
        (named && !pieces.is_empty()).then(|| pieces.iter().map(pair).collect())
    }

    fn variables(&mut self, line: &Line, statement: &Statement) -> Option<Vec<Pair>> {
        let words = self.list(line, statement)?;
        let mut pairs = Vec::new();
        for variable in words {
            let Some(at) = variable.text.find('=') else {
                pairs.push((variable, None));
                continue;
            };
            if at == 0 {
                let mistake = Diagnostic::error("ARG names cannot be blank");
                self.wrong.push(mistake.at(variable.span, ""));
                return None;
            }
            let whole = &variable.span;
            let joined = whole.text() != variable.text;
            let part = |from: usize, to: usize| match joined {
                true => whole.clone(),
                false => crate::base::diag::Span::new(
                    &whole.file,
                    whole.range.start + from..whole.range.start + to,
                ),
            };
            let name = Word::new(&variable.text[..at], part(0, at));
            let value = Word::new(&variable.text[at + 1..], part(at + 1, variable.text.len()));
            pairs.push((name, Some(value)));
        }
        Some(pairs)
    }

    fn all_named<'p>(
        &mut self,
        line: &Line,
        statement: &Statement,
        names: impl Iterator<Item = &'p Piece>,
    ) -> bool {
        let before = self.wrong.len();
        for name in names.filter(|name| name.text.is_empty()) {
            let message = format!("{} names cannot be blank", statement.name.unwrap_or_default());
            self.wrong.push(Diagnostic::error(message).at(line.span(name.range.clone()), ""));
        }
        self.wrong.len() == before
    }

    fn volumes(&mut self, line: &Line, statement: &Statement) -> Option<Kind> {
        if let Arguments::Words(words) = &statement.arguments {
            let text =
                Piece { text: line.text[statement.rest.clone()].to_owned(), range: statement.rest.clone() };
            let instead = format!("they are read as {} paths", words.len());
            self.warn_of_broken_array(line, "VOLUME", &text, &instead);
        }
        let words = self.list(line, statement)?;
        if let Some(blank) = words.iter().find(|word| word.text.trim().is_empty()) {
            let mistake = Diagnostic::error("a VOLUME cannot be an empty string");
            self.wrong.push(mistake.at(blank.span.clone(), ""));
            return None;
        }
        Some(Kind::Volume(words))
    }

    /// At least one word.
    fn list(&mut self, line: &Line, statement: &Statement) -> Option<Vec<Word>> {
        match &statement.arguments {
            Arguments::Words(words) | Arguments::Json(words) if !words.is_empty() => {
                Some(words.iter().map(|piece| word(line, piece)).collect())
            }
            _ => {
                self.at_least_one(line, statement);
                None
            }
        }
    }

    /// The whole text, which must not be empty.
    fn one(&mut self, line: &Line, statement: &Statement) -> Option<Word> {
        match &statement.arguments {
            Arguments::Text(text) => Some(word(line, text)),
            _ => {
                let name = statement.name.unwrap_or_default();
                self.refuse(line, statement, format!("{name} requires exactly one argument"));
                None
            }
        }
    }

    fn at_least_one(&mut self, line: &Line, statement: &Statement) {
        let name = statement.name.unwrap_or_default();
        self.refuse(line, statement, format!("{name} requires at least one argument"));
    }

    /// The flags; nothing where one is wrong.
    pub(super) fn flags(
        &mut self,
        line: &Line,
        name: &str,
        statement: &Statement,
        allowed: Allowed,
    ) -> Option<Flags> {
        let before = self.wrong.len();
        let flags = Flags::read(line, name, &statement.flags, allowed, self.wrong);
        (self.wrong.len() == before).then_some(flags)
    }

    /// Reports a mistake of the whole instruction.
    pub(super) fn refuse(&mut self, line: &Line, statement: &Statement, message: impl Into<String>) {
        let range = statement.keyword.start..statement.rest.end.max(statement.keyword.end);
        self.wrong.push(Diagnostic::error(message).at(line.span(range), ""));
    }
}

/// A piece as a word of the tree.
pub(super) fn word(line: &Line, piece: &Piece) -> Word {
    Word::new(piece.text.as_str(), line.span(piece.range.clone()))
}

/// A line that has no form.
pub(super) fn formless(line: &Line, mistake: &Mistake) -> Diagnostic {
    Diagnostic::error(mistake.message.as_str()).at(line.span(mistake.range.clone()), "")
}

/// A keyword that there is not.
pub(super) fn unknown(keyword: &Word) -> Diagnostic {
    let name = short(&keyword.text);
    Diagnostic::error(format!("unknown instruction `{name}`"))
        .at(keyword.span.clone(), "")
        .did_you_mean(&name.to_ascii_uppercase(), super::syntax::keywords())
}
