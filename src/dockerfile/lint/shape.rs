//! Rules about how single instructions are written.

use std::collections::HashMap;

use crate::base::diag::{Diagnostic, Span};

use super::super::ast::{CommandLine, Instruction, Kind, Word};
use super::super::trace::Step;
use super::Subject;

/// Keywords in the case of the majority; mixed case is wrong in any. Those above the first `FROM` do not
/// count.
pub(super) fn keyword_casing(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let keywords: Vec<&Word> = (subject.dockerfile.stages.iter())
        .flat_map(|stage| {
            let inside = stage.instructions.iter().map(|instruction| &instruction.keyword);
            std::iter::once(&stage.keyword).chain(inside)
        })
        .collect();
    let is_lower = |word: &&&Word| !word.text.contains(|letter: char| letter.is_ascii_uppercase());
    let is_upper = |word: &&&Word| !word.text.contains(|letter: char| letter.is_ascii_lowercase());
    let lower_wins = keywords.iter().filter(is_lower).count() > keywords.iter().filter(is_upper).count();
    let fits = |word: &&&Word| if lower_wins { is_lower(word) } else { is_upper(word) };
    found.extend(keywords.iter().filter(|word| !fits(word)).map(|keyword| {
        let (case, better) = match lower_wins {
            true => ("lower", keyword.text.to_lowercase()),
            false => ("upper", keyword.text.to_uppercase()),
        };
        let message = format!("most keywords of this file are in {case} case, `{keyword}` is not");
        Diagnostic::warning(message).at(keyword.span.clone(), "").help(format!("write `{better}`"))
    }));
}

pub(super) fn blank_continuations(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let warnings = subject.dockerfile.warnings.iter();
    let blank = warnings.filter(|warning| warning.rule == Some("NoEmptyContinuation")).cloned();
    found.extend(blank.map(|warning| warning.help("take the blank line out, or make it a comment")));
}

pub(super) fn maintainer(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let all = instructions(subject).filter(|instruction| matches!(instruction.kind, Kind::Maintainer(_)));
    found.extend(all.map(|instruction| {
        Diagnostic::warning("MAINTAINER is deprecated")
            .at(instruction.keyword.span.clone(), "")
            .help("use `LABEL org.opencontainers.image.authors=…`")
    }));
}

/// A shell between the engine and the program swallows signals. Where the file or the image chooses the
/// shell, it is meant.
pub(super) fn json_commands(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for stage in subject.stages.iter().flatten() {
        let mut own_shell = stage.has_shell;
        for step in &stage.steps {
            match &step.instruction.kind {
                Kind::Shell(_) => own_shell = true,
                Kind::Cmd(CommandLine::Shell(_)) | Kind::Entrypoint(CommandLine::Shell(_)) if !own_shell => {
                    let message =
                        format!("{} in shell form: signals reach the shell only", step.instruction.name());
                    let mut place = step.instruction.span.clone();
                    place.range.start = after_keyword(step.instruction);
                    let help = "write it as a JSON array, or choose the shell with SHELL";
                    found.push(Diagnostic::warning(message).at(step.place(&place), "").help(help));
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
    for stage in subject.stages.iter().flatten() {
        for name in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
            let all: Vec<_> = stage.steps.iter().filter(|step| step.instruction.name() == name).collect();
            let place = |step: &Step<'_>| step.place(&step.instruction.keyword.span);
            let Some((last, earlier)) = all.split_last() else { continue };
            found.extend(earlier.iter().map(|step| {
                Diagnostic::warning(format!("only the last {name} of a stage counts"))
                    .at(place(step), "this one does nothing")
                    .also(place(last), "the last one")
                    .help("take it out, or move it to the stage that it is meant for")
            }));
        }
    }
}

/// `ENV name value`
pub(super) fn legacy_pairs(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for (_, step) in subject.steps() {
        let instruction = step.instruction;
        let (Kind::Env(pairs) | Kind::Label(pairs)) = &instruction.kind else { continue };
        let [(name, Some(value))] = pairs.as_slice() else { continue };
        let between = name.span.range.end..value.span.range.start;
        let between = name.span.file.text.get(between).unwrap_or("=");
        if !between.contains('=') {
            let message = format!("{} is written without `=`", instruction.name());
            let finding = Diagnostic::warning(message).at(step.place(&instruction.keyword.span), "");
            found.push(finding.help(format!("write `{} {name}=…`", instruction.name())));
        }
    }
}

/// Where the base image's folder is another one tomorrow, so is a relative `WORKDIR`. Only the first one of
/// a stage counts, together with the stages below it.
pub(super) fn relative_workdir(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let mut is_set: HashMap<usize, bool> = HashMap::new();
    for (index, stage) in subject.stages.iter().enumerate() {
        let Some(stage) = stage else { continue };
        let mut set = stage.base.and_then(|base| is_set.get(&base).copied()).unwrap_or(false);
        for step in &stage.steps {
            let Kind::Workdir(word) = &step.instruction.kind else { continue };
            let path = step.text(word);
            if !set && !path.starts_with('/') {
                let message = format!("`{path}` depends on the folder that the base image works in");
                let finding = Diagnostic::warning(message).at(step.place(&word.span), "");
                found.push(finding.help(format!("write it from the root: `WORKDIR /{path}`")));
            }
            set = true;
        }
        is_set.insert(index, set);
    }
}

/// Sources of the context that the ignore file leaves out. A file with `!` rules is passed over: what it
/// brings back below a folder cannot be told from the names alone.
pub(super) fn ignored_sources(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for (_, step) in subject.steps() {
        let sources = match &step.instruction.kind {
            Kind::Copy(copy) if copy.from.is_none() => &copy.sources,
            Kind::Add(add) => &add.sources,
            _ => continue,
        };
        for word in sources {
            let source = step.text(word);
            if !source.contains("://") && (subject.ignored)(source) {
                let message = format!("`{source}` is left out of the build context by the ignore file");
                let finding = Diagnostic::warning(message).at(step.place(&word.span), "");
                found.push(finding.help("take the rule out of the ignore file, or the path out of here"));
            }
        }
    }
}

/// The last line of the comment above a named stage or an argument begins with its name.
pub(super) fn descriptions(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let dockerfile = subject.dockerfile;
    let mut check = |what: &str, names: Vec<String>, comments: &[Word], place: &Span| {
        let (Some(comment), Some(name)) = (comments.last(), names.first()) else { return };
        let first = comment.text.split(' ').next().unwrap_or_default();
        if names.iter().all(|name| name != first) {
            let message = format!("the comment above {what} `{name}` does not begin with its name");
            let help =
                format!("write `# {name} …`, or put a blank line below a comment that is meant otherwise");
            found.push(
                Diagnostic::warning(message).at(place.clone(), "").also(comment.span.clone(), "").help(help),
            );
        }
    };
    let inside = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    for instruction in dockerfile.head.iter().chain(inside) {
        let names = instruction.declared().iter().map(|(name, _)| name.text.clone()).collect();
        check("the argument", names, &instruction.comments, &instruction.keyword.span);
    }
    for stage in &dockerfile.stages {
        let name = stage.name.iter().map(|name| name.text.to_lowercase()).collect();
        check("the stage", name, &stage.comments, &stage.keyword.span);
    }
}

fn instructions<'a>(subject: &Subject<'a>) -> impl Iterator<Item = &'a Instruction> {
    subject.dockerfile.stages.iter().flat_map(|stage| &stage.instructions)
}
