//! `build --check`, `image build --check` and `--call`: what a Dockerfile says, without building it. The
//! texts are pure; the JSON has the shape of buildx's.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use crate::base::diag::{Diagnostic, SourceFile, Span};
use crate::build::{self, Checked};
use crate::cli::args::Call;
use crate::dockerfile::Dockerfile;
use crate::dockerfile::lint::RULES;

use super::build::{Work, with_builder};
use super::{Context, Ended};

/// Checks the Dockerfiles. Fails where there is anything to say, as buildx does.
pub(super) fn check(context: &Context<'_>, work: &Work<'_>, call: Call) -> Ended {
    let checked = with_builder(context, work, |builder| build::check(builder, work.requests, work.wanted))?;
    context.screen.finish();
    context.screen.result(&if call.json { checks_json(&checked) } else { checks_text(&checked) });
    let clean = checked.iter().all(|checked| checked.findings.is_empty() && checked.mistakes.is_empty());
    Ok(if clean || call.ignore_status { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many there are, then each with its excerpt.
fn checks_text(all: &[Checked]) -> String {
    let mut text = String::new();
    for checked in all {
        if all.len() > 1 {
            let _ = writeln!(text, "[{}]", checked.services.join(", "));
        }
        let _ = match checked.findings.len() {
            0 => writeln!(text, "Check complete, no warnings found."),
            1 => writeln!(text, "Check complete, 1 warning has been found!"),
            many => writeln!(text, "Check complete, {many} warnings have been found!"),
        };
        for finding in checked.findings.iter().chain(&checked.mistakes) {
            let _ = writeln!(text, "\n{finding}");
        }
    }
    text
}

/// One object a Dockerfile.
fn checks_json(all: &[Checked]) -> String {
    all.iter().map(|checked| format!("{:#}\n", check_json(checked))).collect()
}

fn check_json(checked: &Checked) -> Value {
    let mut object = Map::new();
    let dockerfile = checked.source.as_ref().map(|source| &source.dockerfile);
    let rules = checked.findings.iter().filter(|finding| finding.rule.is_some());
    let warnings: Vec<Value> = rules.map(|finding| warning_json(finding, dockerfile)).collect();
    if !warnings.is_empty() {
        object.insert("warnings".to_owned(), Value::from(warnings));
    }
    let of_mistake = || Some(&checked.mistakes.first()?.place.as_ref()?.0.file);
    let file = dockerfile.map(|dockerfile| &dockerfile.file).or_else(of_mistake);
    object.insert("sources".to_owned(), Value::from_iter(file.map(source_json)));
    if let Some(mistake) = checked.mistakes.first() {
        let mut error = json!({"message": mistake.message});
        if let Some((span, _)) = &mistake.place {
            error["location"] = location(dockerfile, span);
        }
        object.insert("buildError".to_owned(), error);
    }
    Value::Object(object)
}

fn warning_json(finding: &Diagnostic, dockerfile: Option<&Dockerfile>) -> Value {
    let name = finding.rule.unwrap_or_default();
    let rule = RULES.iter().find(|rule| rule.name == name);
    let mut warning = json!({
        "ruleName": name,
        "description": rule.map_or("", |rule| rule.description),
        "url": format!("https://docs.docker.com/go/dockerfile/rule/{}/", kebab(name)),
        "detail": finding.message,
    });
    if let Some((span, _)) = &finding.place {
        warning["location"] = location(dockerfile, span);
    }
    warning
}

fn source_json(file: &Arc<SourceFile>) -> Value {
    json!({
        "filename": file.name,
        "data": BASE64_STANDARD.encode(&file.text),
        "language": "Dockerfile",
    })
}

/// The lines of the instruction around a place.
fn location(dockerfile: Option<&Dockerfile>, place: &Span) -> Value {
    let around = dockerfile.and_then(|dockerfile| dockerfile.instruction_around(place));
    let span = around.unwrap_or(place);
    let (start, end) = lines(span);
    json!({"ranges": [{"start": {"line": start}, "end": {"line": end}}]})
}

/// The first and the last line of a place.
fn lines(span: &Span) -> (usize, usize) {
    let last = span.range.end.max(span.range.start + 1) - 1;
    (span.position().0, span.file.position(last).0)
}

/// `json-args-recommended`
fn kebab(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut text = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| letters.get(at)).is_some_and(char::is_ascii_lowercase);
        let after = letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
        if letter.is_ascii_uppercase() && at > 0 && (before || after) {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_rules_are_buildkits() {
        let table = [
            ("JSONArgsRecommended", "json-args-recommended"),
            ("StageNameCasing", "stage-name-casing"),
            ("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env"),
        ];
        for (name, expected) in table {
            assert_eq!(kebab(name), expected);
        }
    }
}
