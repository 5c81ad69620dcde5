//! The tests of the parser as a whole: golden trees and golden mistakes under `testdata/dockerfile`, and
//! what must hold for any text.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use crate::base::diag::{Diagnostic, SourceFile, Span};
use crate::base::testing::golden;

use super::ast::{Dockerfile, Instruction, Word};
use super::syntax::{Arguments, Piece, Statement};
use super::{Facts, lint, outline, parse, scan};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/dockerfile");

fn cases(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(FOLDER).join(folder)).unwrap();
    let mut cases: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.retain(|case| case.join("Dockerfile").exists());
    cases.sort();
    assert!(!cases.is_empty(), "{folder}");
    cases
}

fn source(case: &Path) -> Arc<SourceFile> {
    SourceFile::new("Dockerfile", std::fs::read_to_string(case.join("Dockerfile")).unwrap())
}

/// Compares with the file `expected` beside the Dockerfile.
fn compare(case: &Path, got: &str) {
    let inside = case.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
    golden(&inside.join("expected").to_string_lossy(), got);
}

fn shown(result: &Result<Dockerfile, Vec<Diagnostic>>) -> String {
    match result {
        Ok(dockerfile) => tree(dockerfile),
        Err(mistakes) => mistakes.iter().map(|mistake| format!("{mistake}\n\n")).collect(),
    }
}

fn tree(dockerfile: &Dockerfile) -> String {
    let mut out = String::new();
    if dockerfile.directives != super::Directives::default() {
        writeln!(out, "{:?}", dockerfile.directives).unwrap();
    }
    for pair in dockerfile.global_args() {
        writeln!(out, "global {pair:?}").unwrap();
    }
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        let name = stage.name.as_ref().map(|name| format!(" name {name:?}")).unwrap_or_default();
        let platform = stage.platform.as_ref().map(|word| format!(" platform {word:?}")).unwrap_or_default();
        writeln!(out, "stage {index}: {}", stage.text).unwrap();
        writeln!(out, "  base {:?}{name}{platform}", stage.base).unwrap();
        stage.instructions.iter().for_each(|instruction| write_instruction(&mut out, instruction));
    }
    for warning in &dockerfile.warnings {
        write!(out, "\n{warning}\n").unwrap();
    }
    out.replace("@Dockerfile:", "@").replace("Dockerfile:", "")
}

fn write_instruction(out: &mut String, instruction: &Instruction) {
    let (line, _) = instruction.span.position();
    writeln!(out, "  {line}: {}", instruction.text).unwrap();
    writeln!(out, "    {:?}", instruction.kind).unwrap();
    for comment in &instruction.comments {
        writeln!(out, "    # {}", comment.text).unwrap();
    }
}

#[test]
fn every_case_gives_its_tree_or_its_mistakes() {
    for case in cases("") {
        compare(&case, &shown(&parse(&source(&case))));
    }
}

#[test]
fn what_buildkit_parses_has_the_same_form() {
    for case in cases("buildkit/accepted") {
        let mut wrong = Vec::new();
        let scanned = scan::scan(&source(&case), &mut wrong);
        assert!(wrong.is_empty(), "{}: {wrong:?}", case.display());
        let lines = scanned
            .lines
            .iter()
            .map(|line| format!("({})\n", sexp(line.statement.as_ref().unwrap(), &line.text)));
        let expected = std::fs::read_to_string(case.join("result")).unwrap();
        assert_eq!(lines.collect::<String>().trim_end(), expected.trim_end(), "{}", case.display());
    }
}

#[test]
fn what_buildkit_refuses_is_refused_with_a_place() {
    for case in cases("buildkit/rejected") {
        let result = parse(&source(&case));
        assert!(result.as_ref().is_err_and(|wrong| wrong.iter().all(|wrong| wrong.place.is_some())));
        compare(&case, &shown(&result));
    }
}

#[test]
fn no_dockerfile_of_real_applications_is_refused() {
    let is_real = |case: &&PathBuf| case.file_name().unwrap().to_str().unwrap().starts_with("awesome-");
    let all = cases("");
    let real: Vec<_> = all.iter().filter(is_real).collect();
    assert_eq!(real.len(), 17);
    for case in real {
        let dockerfile = parse(&source(case)).unwrap_or_else(|wrong| panic!("{}: {wrong:?}", case.display()));
        assert!(dockerfile.warnings.is_empty(), "{}: {:?}", case.display(), dockerfile.warnings);
    }
}

/// BuildKit's text form of its own tree.
fn sexp(statement: &Statement, line: &str) -> String {
    let mut out = line[statement.keyword.clone()].to_lowercase();
    if !statement.flags.is_empty() {
        let flags: Vec<_> = statement.flags.iter().map(|flag| quoted(&flag.text)).collect();
        write!(out, " [{}]", flags.join(" ")).unwrap();
    }
    out + &sexp_arguments(&statement.arguments, line)
}

fn sexp_arguments(arguments: &Arguments, line: &str) -> String {
    let list =
        |pieces: &[Piece]| pieces.iter().map(|piece| format!(" {}", quoted(&piece.text))).collect::<String>();
    match arguments {
        Arguments::None => String::new(),
        Arguments::Json(pieces) | Arguments::Words(pieces) => list(pieces),
        Arguments::Text(piece) => list(std::slice::from_ref(piece)),
        Arguments::Legacy(name, value) => list(&[name.clone(), value.clone()]) + " \"\"",
        Arguments::Pairs(pairs) => {
            pairs.iter().map(|(name, value)| list(&[name.clone(), value.clone()]) + " \"=\"").collect()
        }
        Arguments::Typed(kind, command) => list(std::slice::from_ref(kind)) + &sexp_arguments(command, line),
        Arguments::Trigger(inner) => format!(" ({})", sexp(inner, line)),
    }
}

/// Go's `%q` for what the corpus holds.
fn quoted(text: &str) -> String {
    let letter = |letter: char| match letter {
        '"' => "\\\"".into(),
        '\\' => "\\\\".into(),
        '\u{8}' => "\\b".into(),
        '\u{c}' => "\\f".into(),
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        '\t' => "\\t".into(),
        control if control < ' ' => format!("\\x{:02x}", u32::from(control)),
        other => other.to_string(),
    };
    format!("\"{}\"", text.chars().map(letter).collect::<String>())
}

/// Every place of a tree.
fn spans(dockerfile: &Dockerfile) -> Vec<Span> {
    let pairs = dockerfile.global_args().flat_map(|(name, value)| std::iter::once(name).chain(value));
    let mut spans: Vec<Span> = pairs.map(|word: &Word| word.span.clone()).collect();
    for stage in &dockerfile.stages {
        spans.extend([stage.base.span.clone(), stage.span.clone(), stage.keyword.span.clone()]);
        spans.extend(stage.comments.iter().chain(&stage.name).map(|word| word.span.clone()));
        spans.extend(
            stage
                .instructions
                .iter()
                .flat_map(|instruction| [instruction.span.clone(), instruction.keyword.span.clone()]),
        );
    }
    spans
}

fn check_any(text: &str) -> Result<(), TestCaseError> {
    let file = SourceFile::new("Dockerfile", text);
    let result = parse(&file);
    let places = match &result {
        Ok(dockerfile) => spans(dockerfile),
        Err(wrong) => {
            prop_assert!(wrong.iter().all(|wrong| !wrong.render(false).is_empty()));
            wrong.iter().filter_map(|wrong| Some(wrong.place.as_ref()?.0.clone())).collect()
        }
    };
    for span in places {
        let inside = text.get(span.range.clone()).is_some();
        prop_assert!(inside, "{:?} is not inside the text or cuts a character", span.range);
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_text_panics_and_places_are_inside(text in "\\PC{0,120}") {
        check_any(&text)?;
    }

    #[test]
    fn no_dockerfile_panics_and_places_are_inside(
        lines in proptest::collection::vec(
            "(FROM|RUN|COPY|ADD|ENV|ARG|ONBUILD|HEALTHCHECK|# escape=`|#|CMD|E)?[ \t]{0,2}(--[a-z]{2,5}=?)?[a-zé<E\"'\\[\\]$\\{\\}=,:#-]{0,12}( \\\\|`|\r| E)?",
            0..12,
        ),
    ) {
        check_any(&format!("FROM a\n{}", lines.join("\n")))?;
    }
}

/// Texts of about `many` parts; each takes minutes or the stack where something is quadratic or recursive.
fn large(many: usize) -> Vec<String> {
    let numbered = |line: &str| (0..many / 8).map(|n| line.replace('#', &n.to_string())).collect::<String>();
    vec![
        "x <<E\n".repeat(many),
        format!("FROM a\nRUN {}", "<<E ".repeat(many / 4)),
        format!("FROM a\nRUN a{}", " \\\nb".repeat(many)),
        format!("FROM a\nRUN a{}", " \\\n\n".repeat(many)),
        format!("FROM a\n{}RUN b", "ONBUILD ".repeat(many / 8)),
        format!("FROM a\nENV{}", " \\\n a=\"b c\"".repeat(many)),
        format!("FROM a\nCMD {}", "[".repeat(many)),
        format!("FROM a\nCOPY{} /", " \\\n --exclude=a".repeat(many / 8)),
        format!("FROM a\nCOPY{} /", " $a".repeat(many / 8)),
        format!("FROM a\n{}", "MAINTAINER a\n".repeat(many / 8)),
        format!("FROM a\n{}", "# check=skip=A\nCMD a\n".repeat(many / 8)),
        format!("{}FROM a\n", numbered("ARG A#=$A0\n")),
        format!("{}FROM a\n{}", numbered("ARG A#=$A0\n"), numbered("ARG A#\n")),
        format!("FROM a\n{}{}", numbered("ENV A#=$A0\n"), numbered("LABEL a=$B#\n")),
        format!("FROM a\n{}", numbered("RUN --mount=type=secret,id=s# a\n")),
        "#\n".repeat(many),
        "FROM a\n".repeat(many / 8),
        "é".repeat(many),
    ]
}

#[test]
fn size_costs_no_more_than_its_share() {
    for text in large(40_000) {
        let Ok(dockerfile) = parse(&SourceFile::new("Dockerfile", text)) else { continue };
        let facts = Facts::of_file(&dockerfile);
        lint::check(&dockerfile, &facts, &|_| true);
        outline(&dockerfile, &facts, dockerfile.stages.len() - 1);
    }
}
