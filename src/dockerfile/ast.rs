//! The typed tree of a Dockerfile: stages and instructions, with the place of each word in the file.
//!
//! `parse` builds these values from logical lines; `lint` and the lowering read them. Nothing here is
//! expanded: a [`Word`] still holds its quotes, escapes and variables, and `words` turns it into a value
//! once the variables are known. Whether a flag can be carried out is not decided here either.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::diag::{Diagnostic, SourceFile, Span};

use super::directives::Directives;
use super::mount::Mount;

/// A piece of text as the user wrote it (line continuations joined), and where it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct Word {
    /// The text, unexpanded.
    pub text: String,
    /// Its place; covers a line continuation where the word contains one.
    pub span: Span,
}

impl Word {
    /// A word at a place.
    pub fn new(text: impl Into<String>, span: Span) -> Self {
        Self { text: text.into(), span }
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}@{:?}", self.text, self.span)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// A name and, where one is given, a value: `NAME`, `NAME=value`, `NAME value`.
pub type Pair = (Word, Option<Word>);

/// A whole Dockerfile.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// The text that all spans point into.
    pub file: Arc<SourceFile>,
    /// `# syntax=`, `# escape=`, `# check=`.
    pub directives: Directives,
    /// Every `ARG` before the first `FROM`, in order; only `FROM` sees their variables.
    pub head: Vec<Instruction>,
    /// The stages in order; at least one.
    pub stages: Vec<Stage>,
    /// Mistakes that do not stop a build.
    pub warnings: Vec<Diagnostic>,
}

impl Dockerfile {
    /// The character that escapes in words and joins lines: a backslash unless `# escape=` says otherwise.
    pub fn escape(&self) -> char {
        self.directives.escape
    }

    /// The variables of every `ARG` before the first `FROM`, in order.
    pub fn global_args(&self) -> impl Iterator<Item = &Pair> {
        self.head.iter().flat_map(Instruction::declared)
    }

    /// The whole instruction in which a place lies.
    pub fn instruction_around(&self, place: &Span) -> Option<&Span> {
        let stages = self.stages.iter();
        let inside = stages.flat_map(|stage| {
            std::iter::once(&stage.span).chain(stage.instructions.iter().map(|instruction| &instruction.span))
        });
        let mut all = self.head.iter().map(|instruction| &instruction.span).chain(inside);
        all.find(|span| span.file == place.file && span.range.contains(&place.range.start))
    }

    /// The stage with this name, without regard to case; the last one where several bear it.
    pub fn stage(&self, name: &str) -> Option<usize> {
        self.stages
            .iter()
            .rposition(|stage| stage.name.as_ref().is_some_and(|word| word.text.eq_ignore_ascii_case(name)))
    }

    /// The stage that `--from` or a mount's `from` names in the stage `before`: by name, or by its number.
    pub fn source_stage(&self, before: usize, name: &str) -> Option<usize> {
        let by_number = || name.parse().ok().filter(|number: &usize| *number < before);
        self.stage_before(before, name).or_else(by_number)
    }

    /// The last stage before the stage `before` that bears the name, without regard to case.
    pub fn stage_before(&self, before: usize, name: &str) -> Option<usize> {
        let named =
            |stage: &Stage| stage.name.as_ref().is_some_and(|word| word.text.eq_ignore_ascii_case(name));
        self.stages.iter().take(before).rposition(named)
    }
}

/// One `FROM` and what follows it.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The name after `AS`, as written; names are compared without regard to case.
    pub name: Option<Word>,
    /// The keyword `AS` as written.
    pub as_keyword: Option<Word>,
    /// The keyword `FROM` as written.
    pub keyword: Word,
    /// Image, stage or `scratch`, unexpanded (global arguments may be used).
    pub base: Word,
    /// `--platform`, unexpanded.
    pub platform: Option<Word>,
    /// The `FROM` instruction.
    pub span: Span,
    /// The `FROM` instruction on one line.
    pub text: String,
    /// The comment lines directly above, without `#`.
    pub comments: Vec<Word>,
    /// What follows, up to the next `FROM`.
    pub instructions: Vec<Instruction>,
}

/// One instruction of a stage.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// What it does.
    pub kind: Kind,
    /// Its keyword as written.
    pub keyword: Word,
    /// The whole instruction, heredoc bodies included.
    pub span: Span,
    /// The instruction on one line, without heredoc bodies, as a user recognises it: `RUN npm ci`.
    pub text: String,
    /// The comment lines directly above, without `#`.
    pub comments: Vec<Word>,
}

impl Instruction {
    /// The keyword in upper case: `RUN`.
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// The variables that it declares, if it is an `ARG`.
    pub fn declared(&self) -> &[Pair] {
        match &self.kind {
            Kind::Arg(pairs) => pairs,
            _ => &[],
        }
    }
}

/// What an instruction does. `FROM` opens a [`Stage`] and is no instruction of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ADD`
    Add(Add),
    /// `ARG`: declares variables of the build.
    Arg(Vec<Pair>),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`: every value is there.
    Env(Vec<Pair>),
    /// `EXPOSE`: each word may expand to several ports.
    Expose(Vec<Word>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`: every value is there.
    Label(Vec<Pair>),
    /// `MAINTAINER` (deprecated)
    Maintainer(Word),
    /// `ONBUILD`
    OnBuild(OnBuild),
    /// `RUN`
    Run(Run),
    /// `SHELL`: never empty.
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    StopSignal(Word),
    /// `USER`
    User(Word),
    /// `VOLUME`
    Volume(Vec<Word>),
    /// `WORKDIR`
    Workdir(Word),
}

impl Kind {
    /// The keyword in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Add(_) => "ADD",
            Kind::Arg(_) => "ARG",
            Kind::Cmd(_) => "CMD",
            Kind::Copy(_) => "COPY",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Env(_) => "ENV",
            Kind::Expose(_) => "EXPOSE",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            Kind::Label(_) => "LABEL",
            Kind::Maintainer(_) => "MAINTAINER",
            Kind::OnBuild(_) => "ONBUILD",
            Kind::Run(_) => "RUN",
            Kind::Shell(_) => "SHELL",
            Kind::StopSignal(_) => "STOPSIGNAL",
            Kind::User(_) => "USER",
            Kind::Volume(_) => "VOLUME",
            Kind::Workdir(_) => "WORKDIR",
        }
    }
}

/// A command in one of its two forms. Variables are left to the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Text for the stage's shell (`SHELL`, else `/bin/sh -c`); may be empty.
    Shell(String),
    /// The argument vector of the JSON form; an empty one resets `CMD` and `ENTRYPOINT`.
    Exec(Vec<String>),
}

/// A text written inside the Dockerfile: `<<NAME` … `NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The terminator without quotes; the file's name in `COPY` and `ADD`.
    pub name: String,
    /// The body as a file holds it: leading tabs gone where it is `<<-`.
    pub content: String,
    /// The body as written.
    pub raw: String,
    /// Whether variables in the body are expanded: no part of the terminator is quoted.
    pub expand: bool,
    /// Whether it is written `<<-`.
    pub strip_tabs: bool,
    /// The number before `<<`, where there is one (a shell's file descriptor).
    pub descriptor: Option<u32>,
    /// The body with its terminator line.
    pub span: Span,
}

/// `RUN`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command as written; [`Run::form`] has the heredocs put in.
    pub command: CommandLine,
    /// The heredocs of its line in order; none in the exec form.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`
    pub mounts: Vec<Mount>,
    /// `--network`
    pub network: Option<RunNetwork>,
    /// `--security`
    pub security: Option<RunSecurity>,
    /// `--device`, unread: a CDI name with options.
    pub devices: Vec<Word>,
    /// The place of each flag by its name, for those who refuse one.
    pub flags: Vec<(&'static str, Span)>,
}

/// What a `RUN` starts, its heredocs put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunForm<'a> {
    /// This text goes to the stage's shell.
    Shell(String),
    /// This argument vector is started as it is.
    Exec(&'a [String]),
    /// The heredoc begins with `#!`: it becomes an executable file (BuildKit: `/dev/pipes/NAME`), whose path
    /// is what the stage's shell gets.
    Script(&'a Heredoc),
}

impl Run {
    /// What is to be started. A line that is one heredoc and nothing else stands for the heredoc's text;
    /// anything around it goes to the shell together with the bodies, as written.
    pub fn form(&self) -> RunForm<'_> {
        let line = match &self.command {
            CommandLine::Exec(argv) => return RunForm::Exec(argv),
            CommandLine::Shell(line) => line,
        };
        match self.heredocs.first() {
            None => RunForm::Shell(line.clone()),
            Some(heredoc) if super::heredoc::is_one(line) && heredoc.raw.starts_with("#!") => {
                RunForm::Script(heredoc)
            }
            Some(heredoc) if super::heredoc::is_one(line) => RunForm::Shell(heredoc.content.clone()),
            Some(_) => RunForm::Shell(self.with_bodies(line)),
        }
    }

    fn with_bodies(&self, line: &str) -> String {
        let mut full = line.to_owned();
        for heredoc in &self.heredocs {
            full.push('\n');
            full.push_str(&heredoc.raw);
            full.push_str(&heredoc.name);
        }
        full
    }
}

/// `RUN --network`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunNetwork {
    /// What the builder gives by default.
    Default,
    /// No network.
    None,
    /// The host's (BuildKit asks for an entitlement).
    Host,
}

/// `RUN --security`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunSecurity {
    /// The usual isolation.
    Sandbox,
    /// All privileges (BuildKit asks for an entitlement).
    Insecure,
}

/// `COPY`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Paths to copy, in order; may be empty where there are heredocs.
    pub sources: Vec<Word>,
    /// Where to; a trailing slash matters.
    pub destination: Word,
    /// Inline sources in order.
    pub heredocs: Vec<Heredoc>,
    /// `--from`: a stage, an image or a named context; never holds a variable.
    pub from: Option<Word>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`, in order
    pub excludes: Vec<Word>,
    /// The place of each flag by its name, for those who refuse one.
    pub flags: Vec<(&'static str, Span)>,
}

/// `ADD`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// Paths, URLs and git references, in order; may be empty where there are heredocs.
    pub sources: Vec<Word>,
    /// Where to; a trailing slash matters.
    pub destination: Word,
    /// Inline sources in order.
    pub heredocs: Vec<Heredoc>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--exclude`, in order
    pub excludes: Vec<Word>,
    /// `--checksum`
    pub checksum: Option<Word>,
    /// `--keep-git-dir`; `None` where it is not given
    pub keep_git_dir: Option<bool>,
    /// `--unpack`; `None` where it is not given: local archives are unpacked, downloaded ones not
    pub unpack: Option<bool>,
    /// The place of each flag by its name, for those who refuse one.
    pub flags: Vec<(&'static str, Span)>,
}

/// `HEALTHCHECK`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK CMD …`. A duration or count that is not given, or is zero, is `None`: the engine's default.
    Command {
        /// The probe.
        command: CommandLine,
        /// `--interval`
        interval: Option<Duration>,
        /// `--timeout`
        timeout: Option<Duration>,
        /// `--start-period`
        start_period: Option<Duration>,
        /// `--start-interval`
        start_interval: Option<Duration>,
        /// `--retries`
        retries: Option<u32>,
    },
}

/// `ONBUILD`
#[derive(Clone, Debug)]
pub struct OnBuild {
    /// The trigger as the image config keeps it: the inner instruction with its heredocs.
    pub trigger: String,
    /// The trigger, parsed.
    pub instruction: Box<Instruction>,
}

impl PartialEq for OnBuild {
    fn eq(&self, other: &Self) -> bool {
        self.trigger == other.trigger
    }
}

impl Eq for OnBuild {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn form(text: &str) -> String {
        let dockerfile = parse(&SourceFile::new("Dockerfile", format!("FROM a\n{text}\n"))).unwrap();
        let Kind::Run(run) = &dockerfile.stages[0].instructions[0].kind else { panic!("no RUN: {text}") };
        match run.form() {
            RunForm::Shell(text) => format!("shell {text:?}"),
            RunForm::Exec(argv) => format!("exec {argv:?}"),
            RunForm::Script(script) => format!("script {} {:?}", script.name, script.content),
        }
    }

    #[test]
    fn a_lone_heredoc_stands_for_its_text() {
        assert_eq!(form("RUN <<E\na\nb\nE"), r#"shell "a\nb\n""#);
        assert_eq!(form("RUN <<-'E'\n\ta\n\tE"), r#"shell "a\n""#);
        assert_eq!(form("RUN <<E\n#!/bin/x\nE"), r##"script E "#!/bin/x\n""##);
    }

    #[test]
    fn other_heredocs_are_left_to_the_shell_as_written() {
        assert_eq!(form("RUN cat <<E\na\nE"), r#"shell "cat <<E\na\nE""#);
        assert_eq!(form("RUN cat <<-E\n\ta\nE"), r#"shell "cat <<-E\n\ta\nE""#);
        assert_eq!(form("RUN <<A <<B\na\nA\nb\nB"), r#"shell "<<A <<B\na\nA\nb\nB""#);
        assert_eq!(form("RUN [\"a\", \"<<E\"]"), r#"exec ["a", "<<E"]"#);
        assert_eq!(form("RUN a \\\n  b"), r#"shell "a   b""#);
    }
}
