//! `build --check`, `image build --call`, `plan --outline` and `--targets`: what a Dockerfile says, without
//! building it. The texts are pure; the JSON has the shape of buildx's.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use crate::base::diag::{Diagnostic, Severity, SourceFile, Span};
use crate::build::{self, Checked};
use crate::cli::args::Call;
use crate::cli::render::Table;
use crate::dockerfile::lint::RULES;
use crate::dockerfile::{self, Dockerfile, Need, Outline, OutlineArgument, Target};
use crate::graph::{Facts, Source};

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

/// Shows what the targets of the Dockerfiles take.
pub(super) fn outline(context: &Context<'_>, work: &Work<'_>, json: bool) -> Ended {
    let all = with_builder(context, work, |builder| build::reached(builder, work.requests, work.wanted))?;
    let several = all.len() > 1;
    let show = |(source, facts): &(Source, Facts)| {
        let dockerfile = &source.dockerfile;
        let target = source.request.target.as_ref().and_then(|name| dockerfile.stage(name));
        let target = target.unwrap_or(dockerfile.stages.len().saturating_sub(1));
        let outline = dockerfile::outline(dockerfile, facts, target);
        match json {
            true => headed_json(source, several, outline_json(&outline, dockerfile)),
            false => headed(source, several, &outline_text(&outline)),
        }
    };
    context.screen.finish();
    context.screen.result(&all.iter().map(show).collect::<String>());
    Ok(ExitCode::SUCCESS)
}

/// Shows the stages of the Dockerfiles.
pub(super) fn targets(context: &Context<'_>, work: &Work<'_>, json: bool) -> Ended {
    let all = with_builder(context, work, |builder| build::parsed(builder, work.requests, work.wanted))?;
    let several = all.len() > 1;
    let show = |source: &Source| {
        let targets = dockerfile::targets(&source.dockerfile);
        match json {
            true => headed_json(source, several, targets_json(&targets, &source.dockerfile)),
            false => headed(source, several, &targets_text(&targets)),
        }
    };
    context.screen.finish();
    context.screen.result(&all.iter().map(show).collect::<String>());
    Ok(ExitCode::SUCCESS)
}

/// A text below the name of its service, where there are several.
fn headed(source: &Source, several: bool, text: &str) -> String {
    if several { format!("[{}]\n{text}\n", source.request.service) } else { text.to_owned() }
}

/// An object with the name of its service, where there are several.
fn headed_json(source: &Source, several: bool, mut value: Value) -> String {
    if several {
        value["service"] = Value::from(source.request.service.as_str());
    }
    format!("{value:#}\n")
}

/// Name and description, then a table each of arguments, secrets and agents.
fn outline_text(outline: &Outline) -> String {
    let mut text = String::new();
    match (outline.name.as_str(), outline.description.as_str()) {
        ("", _) => {}
        (name, "") => drop(writeln!(text, "TARGET: {name}\n")),
        (name, description) => drop(writeln!(text, "TARGET:      {name}\nDESCRIPTION: {description}\n")),
    }
    let mut arguments = Table::new(&["BUILD ARG", "VALUE", "DESCRIPTION"]);
    for argument in &outline.arguments {
        arguments.row(vec![argument.name.clone(), argument.value.clone(), argument.description.clone()]);
    }
    let needs = |title: &'static str, needs: &[Need]| {
        let mut table = Table::new(&[title, "REQUIRED"]);
        let required = |need: &Need| if need.required { "true".to_owned() } else { String::new() };
        needs.iter().for_each(|need| table.row(vec![need.name.clone(), required(need)]));
        table
    };
    let tables = [
        (outline.arguments.is_empty(), arguments),
        (outline.secrets.is_empty(), needs("SECRET", &outline.secrets)),
        (outline.agents.is_empty(), needs("SSH", &outline.agents)),
    ];
    for (_, table) in tables.into_iter().filter(|(empty, _)| !empty) {
        let _ = writeln!(text, "{}", table.text());
    }
    text
}

fn outline_json(outline: &Outline, dockerfile: &Dockerfile) -> Value {
    let argument = |argument: &OutlineArgument| {
        let mut object = Map::new();
        object.insert("name".to_owned(), Value::from(argument.name.as_str()));
        put(&mut object, "description", &argument.description);
        put(&mut object, "value", &argument.value);
        object.insert("location".to_owned(), ranges(&argument.span));
        Value::Object(object)
    };
    let need = |need: &Need| match need.required {
        true => json!({"name": need.name, "required": true, "location": ranges(&need.span)}),
        false => json!({"name": need.name, "location": ranges(&need.span)}),
    };
    let mut object = Map::new();
    put(&mut object, "name", &outline.name);
    put(&mut object, "description", &outline.description);
    let lists = [
        ("args", outline.arguments.iter().map(argument).collect::<Vec<_>>()),
        ("secrets", outline.secrets.iter().map(need).collect()),
        ("ssh", outline.agents.iter().map(need).collect()),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        object.insert(name.to_owned(), Value::from(list));
    }
    object.insert("sources".to_owned(), json!([BASE64_STANDARD.encode(&dockerfile.file.text)]));
    Value::Object(object)
}

/// A line a stage.
fn targets_text(targets: &[Target]) -> String {
    let mut table = Table::new(&["TARGET", "DESCRIPTION"]);
    for target in targets {
        let default = if target.is_default { "(default)" } else { "" };
        let name = format!("{} {default}", target.name);
        table.row(vec![name.trim().to_owned(), target.description.clone()]);
    }
    table.text()
}

fn targets_json(targets: &[Target], dockerfile: &Dockerfile) -> Value {
    let target = |target: &Target| {
        let mut object = Map::new();
        put(&mut object, "name", &target.name);
        put(&mut object, "description", &target.description);
        if target.is_default {
            object.insert("default".to_owned(), Value::from(true));
        }
        put(&mut object, "base", &target.base);
        put(&mut object, "platform", target.platform.as_deref().unwrap_or_default());
        object.insert("location".to_owned(), ranges(&target.span));
        Value::Object(object)
    };
    let targets: Vec<Value> = targets.iter().map(target).collect();
    json!({"targets": targets, "sources": [BASE64_STANDARD.encode(&dockerfile.file.text)]})
}

/// Adds a text that is not empty.
fn put(object: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        object.insert(name.to_owned(), Value::from(text));
    }
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
    let violated: BTreeSet<&str> = (checked.findings.iter())
        .filter(|finding| finding.severity == Severity::Error)
        .filter_map(|finding| finding.rule)
        .collect();
    if !violated.is_empty() && checked.mistakes.is_empty() {
        let rules = violated.into_iter().collect::<Vec<_>>().join(", ");
        let error = json!({"message": format!("checks have failed that are errors here: {rules}")});
        object.insert("buildError".to_owned(), error);
    }
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
        // BuildKit sees a blank line when the instruction ends.
        if let (Value::Array(ranges), true) =
            (&mut warning["location"]["ranges"], name == "NoEmptyContinuation")
        {
            ranges.drain(..ranges.len().saturating_sub(1));
        }
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
    ranges(around.unwrap_or(place))
}

/// The lines of a place, each a range of its own.
fn ranges(span: &Span) -> Value {
    let (first, last) = lines(span);
    let range = |line: usize| json!({"start": {"line": line}, "end": {"line": line}});
    json!({"ranges": (first..=last).map(range).collect::<Vec<_>>()})
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
    use std::path::Path;

    use super::*;
    use crate::dockerfile::{outline, parse, targets};

    /// What buildx printed for each case, without its `sources`.
    fn buildx(case: &Path, method: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(case.join(method)).unwrap()).unwrap()
    }

    #[test]
    fn the_json_of_outline_and_targets_is_that_of_buildx() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dockerfile/outline");
        let cases: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(cases.len() >= 5);
        for case in cases {
            let text = std::fs::read_to_string(case.join("Dockerfile")).unwrap();
            let dockerfile = parse(&SourceFile::new("Dockerfile", text)).unwrap();
            let mut facts = Facts::of_file(&dockerfile);
            for name in ["BUILDPLATFORM", "TARGETPLATFORM", "TARGETARCH"] {
                facts.platform.insert(name.to_owned(), "linux/amd64".to_owned());
            }
            let target = std::fs::read_to_string(case.join("target")).ok();
            let target =
                target.map_or(dockerfile.stages.len() - 1, |name| dockerfile.stage(name.trim()).unwrap());
            let without_sources = |mut value: Value| {
                value.as_object_mut().unwrap().remove("sources").unwrap();
                value
            };
            let outline = outline_json(&outline(&dockerfile, &facts, target), &dockerfile);
            assert_eq!(without_sources(outline), buildx(&case, "outline.json"), "{}", case.display());
            let targets = targets_json(&targets(&dockerfile), &dockerfile);
            assert_eq!(without_sources(targets), buildx(&case, "targets.json"), "{}", case.display());
        }
    }

    #[test]
    fn outlines_and_targets_are_tables() {
        let text = "ARG TAG=1\n# base is the base\nFROM scratch AS Base\n# ONE does it\nARG ONE=1 TWO\n\
                    RUN --mount=type=secret,id=token,required=true --mount=type=ssh true\nFROM scratch AS last\n";
        let dockerfile = parse(&SourceFile::new("Dockerfile", text)).unwrap();
        let outline = outline(&dockerfile, &Facts::of_file(&dockerfile), 0);
        let expected = "TARGET:      base\nDESCRIPTION: is the base\n\n\
            BUILD ARG   VALUE     DESCRIPTION\nONE         1         does it\nTWO                   \n\n\
            SECRET    REQUIRED\ntoken     true\n\nSSH       REQUIRED\ndefault   \n\n";
        assert_eq!(outline_text(&outline), expected);
        let expected = "TARGET           DESCRIPTION\nbase             is the base\nlast (default)   \n";
        assert_eq!(targets_text(&targets(&dockerfile)), expected);
    }

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
