//! Rules about how single instructions are written.

use crate::base::diag::Diagnostic;

use super::super::ast::{CommandLine, Instruction, Kind, Pair, Word};
use super::super::words;
use super::Subject;

/// Keywords in the case of the majority; mixed case is wrong in any.
pub(super) fn keyword_casing(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let keywords = &subject.dockerfile.keywords;
    let is_lower = |word: &&Word| !word.text.contains(|letter: char| letter.is_ascii_uppercase());
    let is_upper = |word: &&Word| !word.text.contains(|letter: char| letter.is_ascii_lowercase());
    let lower_wins = keywords.iter().filter(is_lower).count() > keywords.iter().filter(is_upper).count();
    let fits = |word: &&Word| if lower_wins { is_lower(word) } else { is_upper(word) };
    found.extend(keywords.iter().filter(|word| !fits(word)).map(|keyword| {
        let case = if lower_wins { "lower" } else { "upper" };
        let message = format!("most keywords of this file are in {case} case, `{keyword}` is not");
        Diagnostic::warning(message).at(keyword.span.clone(), "")
    }));
}

pub(super) fn blank_continuations(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let warnings = subject.dockerfile.warnings.iter();
    found.extend(warnings.filter(|warning| warning.rule == Some("NoEmptyContinuation")).cloned());
}

pub(super) fn maintainer(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let all = instructions(subject).filter(|instruction| matches!(instruction.kind, Kind::Maintainer(_)));
    found.extend(all.map(|instruction| {
        Diagnostic::warning("MAINTAINER is deprecated")
            .at(instruction.keyword.span.clone(), "")
            .help("use `LABEL org.opencontainers.image.authors=…`")
    }));
}

/// A shell between the engine and the program swallows signals. Where the file chooses the shell, it is
/// meant.
pub(super) fn json_commands(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for stage in &subject.dockerfile.stages {
        let mut own_shell = false;
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Shell(_) => own_shell = true,
                Kind::Cmd(CommandLine::Shell(text)) | Kind::Entrypoint(CommandLine::Shell(text))
                    if !own_shell && !text.is_empty() =>
                {
                    let message =
                        format!("{} in shell form: signals reach the shell only", instruction.name());
                    let mut place = instruction.span.clone();
                    place.range.start = after_keyword(instruction);
                    let help = "write it as a JSON array, or choose the shell with SHELL";
                    found.push(Diagnostic::warning(message).at(place, "").help(help));
                }
                _ => {}
            }
        }
    }
}

/// The offset of what follows the keyword on its line.
fn after_keyword(instruction: &Instruction) -> usize {
    let end = instruction.keyword.span.range.end;
    let rest = &instruction.span.file.text[end..instruction.span.range.end];
    end + rest.len() - rest.trim_start_matches([' ', '\t']).len()
}

/// `CMD`, `ENTRYPOINT` and `HEALTHCHECK` count once a stage; the earlier ones are named.
pub(super) fn repeated(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for stage in &subject.dockerfile.stages {
        for name in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
            let all: Vec<_> =
                stage.instructions.iter().filter(|instruction| instruction.name() == name).collect();
            let Some((last, earlier)) = all.split_last() else { continue };
            found.extend(earlier.iter().map(|instruction| {
                Diagnostic::warning(format!("only the last {name} of a stage counts"))
                    .at(instruction.keyword.span.clone(), "this one does nothing")
                    .also(last.keyword.span.clone(), "the last one")
            }));
        }
    }
}

/// `ENV name value`
pub(super) fn legacy_pairs(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for instruction in instructions(subject) {
        let (Kind::Env(pairs) | Kind::Label(pairs)) = &instruction.kind else { continue };
        let [(name, Some(value))] = pairs.as_slice() else { continue };
        let between = name.span.range.end..value.span.range.start;
        let between = name.span.file.text.get(between).unwrap_or("=");
        if !between.contains('=') {
            let message = format!("{} is written without `=`", instruction.name());
            let finding = Diagnostic::warning(message).at(instruction.keyword.span.clone(), "");
            found.push(finding.help(format!("write `{} {name}=…`", instruction.name())));
        }
    }
}

/// Where the base image's folder is another one tomorrow, so is a relative `WORKDIR`. Only the first one of
/// a stage counts, and a stage that another one stands under has had its first.
pub(super) fn relative_workdir(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let dockerfile = subject.dockerfile;
    for stage in &dockerfile.stages {
        if dockerfile.stage(&stage.base.text).is_some() {
            continue;
        }
        let first = stage.instructions.iter().find_map(|instruction| match &instruction.kind {
            Kind::Workdir(path) => Some(path),
            _ => None,
        });
        let relative = |path: &&Word| {
            let text = path.text.trim_start_matches(['"', '\'']);
            !text.starts_with(['/', '$']) && !words::has_variable(&path.text, dockerfile.escape())
        };
        found.extend(first.filter(relative).map(|path| {
            let message = format!("`{path}` depends on the folder that the base image works in");
            Diagnostic::warning(message).at(path.span.clone(), "").help("begin with an absolute WORKDIR")
        }));
    }
}

/// Plain sources of the context that the ignore file leaves out.
pub(super) fn ignored_sources(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for instruction in instructions(subject) {
        let sources = match &instruction.kind {
            Kind::Copy(copy) if copy.from.is_none() => &copy.sources,
            Kind::Add(add) => &add.sources,
            _ => continue,
        };
        let plain = |word: &&Word| !word.text.contains(['$', '*', '?', '[']) && !word.text.contains("://");
        found.extend(sources.iter().filter(plain).filter(|word| is_ignored(subject, word)).map(|source| {
            let message = format!("`{source}` is left out of the build context by the ignore file");
            Diagnostic::warning(message).at(source.span.clone(), "")
        }));
    }
}

fn is_ignored(subject: &Subject<'_>, source: &Word) -> bool {
    let path = source.text.trim_start_matches("./").trim_matches('/');
    !path.is_empty() && path != "." && (subject.given.ignored)(path)
}

/// The comment above a named stage or an argument begins with its name.
pub(super) fn descriptions(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let mut check = |what: &str, name: &Word, comments: &[Word]| {
        let Some(first) = comments.first() else { return };
        let describes = |comment: &Word| {
            comment.text.strip_prefix(&name.text).is_some_and(|rest| rest.starts_with(' '))
                || comment.text.starts_with("check=")
        };
        if !comments.iter().any(describes) {
            let message = format!("the comment above the {what} `{name}` does not begin with its name");
            let help = "put a blank line below a comment that is meant otherwise";
            found.push(Diagnostic::warning(message).at(first.span.clone(), "").help(help));
        }
    };
    for stage in &subject.dockerfile.stages {
        stage.name.iter().for_each(|name| check("stage", name, &stage.comments));
        for instruction in &stage.instructions {
            if let Kind::Arg(pairs) = &instruction.kind {
                pairs.iter().for_each(|(name, _): &Pair| check("argument", name, &instruction.comments));
            }
        }
    }
}

fn instructions<'a>(subject: &Subject<'a>) -> impl Iterator<Item = &'a Instruction> {
    subject.dockerfile.stages.iter().flat_map(|stage| &stage.instructions)
}
