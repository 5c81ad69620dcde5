//! The whole file: lines to stages, with all mistakes at once.
//!
//! `scan` gives the lines, `instructions` their meaning; here they are put into stages. A mistake ends its
//! instruction and nothing else, so that one run shows all of them, in the order of the file.

use std::sync::Arc;

use crate::base::diag::{Diagnostic, SourceFile, Span};

use super::ast::{Dockerfile, Instruction, Kind, Stage, Word};
use super::instructions::{self, Reader};
use super::scan::{self, Line};

/// Reading stops after so many: the file is most likely no Dockerfile.
const MOST_MISTAKES: usize = 50;

/// Parses a Dockerfile. Warnings are in the value; with one error or more there is none, only the
/// diagnostics, warnings among them, by place.
pub fn parse(file: &Arc<SourceFile>) -> Result<Dockerfile, Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    let scanned = scan::scan(file, &mut wrong);
    let escape = scanned.directives.escape;
    let mut file_reader = FileReader { escape, ..FileReader::default() };
    for line in &scanned.lines {
        if wrong.len() > MOST_MISTAKES {
            break;
        }
        file_reader.line(line, &mut wrong);
    }
    let FileReader { stages, head, mut warnings, .. } = file_reader;
    warnings.extend(scanned.directives.syntax.as_ref().and_then(foreign_grammar));
    if wrong.is_empty() && stages.is_empty() {
        let message = match scanned.lines.is_empty() {
            true => "this file has no instructions",
            false => "this file has no stage to build: `FROM` is missing",
        };
        let end = file.text.len();
        wrong.push(Diagnostic::error(message).at(Span::new(file, end..end), ""));
    }
    warnings.sort_by_key(place);
    if wrong.is_empty() {
        let directives = scanned.directives;
        return Ok(Dockerfile { file: Arc::clone(file), directives, head, stages, warnings });
    }
    Err(in_order(wrong, warnings))
}

/// The mistakes by place, the first ones where there are very many.
fn in_order(mut wrong: Vec<Diagnostic>, warnings: Vec<Diagnostic>) -> Vec<Diagnostic> {
    wrong.sort_by_key(place);
    wrong.dedup();
    let more = wrong.len() > MOST_MISTAKES;
    wrong.truncate(MOST_MISTAKES);
    wrong.extend(warnings.into_iter().take(MOST_MISTAKES));
    wrong.sort_by_key(place);
    if more {
        wrong.push(Diagnostic::error("there are more mistakes than are shown"));
    }
    wrong
}

fn place(diagnostic: &Diagnostic) -> usize {
    diagnostic.place.as_ref().map_or(usize::MAX, |(span, _)| span.range.start)
}

/// Another grammar than Docker's own is asked for: the built-in one is used, and that is said.
fn foreign_grammar(syntax: &Word) -> Option<Diagnostic> {
    let image = syntax.text.split(' ').next().unwrap_or_default();
    let name = image.trim_start_matches("docker.io/").split([':', '@']).next().unwrap_or_default();
    (name != "docker/dockerfile").then(|| {
        Diagnostic::warning(format!("the grammar `{image}` is not loaded: the built-in one is used"))
            .at(syntax.span.clone(), "")
    })
}

/// What has been read so far.
#[derive(Default)]
struct FileReader {
    escape: char,
    stages: Vec<Stage>,
    head: Vec<Instruction>,
    warnings: Vec<Diagnostic>,
    /// A `FROM` was seen, even a broken one.
    after_from: bool,
    /// An instruction before the first `FROM` was reported.
    homeless: bool,
}

impl FileReader {
    fn line(&mut self, line: &Line, wrong: &mut Vec<Diagnostic>) {
        self.warnings.extend(line.gaps.first().map(|gap| {
            Diagnostic::warning("a blank line stands inside an instruction")
                .rule("NoEmptyContinuation")
                .at(gap.clone(), "the instruction goes on below")
        }));
        let statement = match &line.statement {
            Ok(statement) => statement,
            Err(mistake) => {
                wrong.push(instructions::formless(line, mistake));
                return;
            }
        };
        let keyword = line.word(statement.keyword.clone());
        let Some(name) = statement.name else {
            wrong.push(instructions::unknown(&keyword));
            return;
        };
        let mut reader = Reader { escape: self.escape, wrong, warnings: &mut self.warnings };
        if name == "FROM" {
            self.after_from = true;
            self.stages.extend(reader.stage(line, statement));
        } else if let Some(instruction) = reader.instruction(line, statement) {
            self.instruction(instruction, wrong);
        }
    }

    /// Puts an instruction into its stage.
    fn instruction(&mut self, instruction: Instruction, wrong: &mut Vec<Diagnostic>) {
        match (self.stages.last_mut(), instruction.kind) {
            (Some(stage), kind) => stage.instructions.push(Instruction { kind, ..instruction }),
            (None, _) if self.after_from => {}
            (None, kind @ Kind::Arg(_)) => self.head.push(Instruction { kind, ..instruction }),
            (None, kind) if !self.homeless => {
                self.homeless = true;
                let message = format!("{} stands before the first FROM", kind.name());
                let note = "only ARG, comments and directives may stand there";
                wrong.push(Diagnostic::error(message).at(instruction.keyword.span, "").note(note));
            }
            (None, _) => {}
        }
    }
}
