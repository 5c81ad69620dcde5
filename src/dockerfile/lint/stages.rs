//! Rules about `FROM`: names of stages and platforms.

use crate::base::diag::Diagnostic;

use super::super::ast::{Stage, Word};
use super::super::words;
use super::Subject;

const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn name_casing(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    found.extend(names(subject).filter(|name| name.text.chars().any(char::is_uppercase)).map(|name| {
        let message = format!("the stage name `{name}` should be in lower case");
        let help = format!("write `{}`: stages are found without regard to case", name.text.to_lowercase());
        Diagnostic::warning(message).at(name.span.clone(), "").help(help)
    }));
}

pub(super) fn duplicate_names(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let mut seen: std::collections::HashMap<String, &Word> = std::collections::HashMap::new();
    for name in names(subject) {
        if let Some(first) = seen.get(&name.text.to_lowercase()) {
            let message = format!("a stage `{name}` is already there");
            let finding = Diagnostic::warning(message).at(name.span.clone(), "");
            let finding = finding.also(first.span.clone(), "the first one");
            found.push(finding.help("give one of them another name: only the last one is found by it"));
        }
        seen.entry(name.text.to_lowercase()).or_insert(name);
    }
}

pub(super) fn reserved_names(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let is_reserved = |name: &&Word| RESERVED.iter().any(|word| name.text.eq_ignore_ascii_case(word));
    found.extend(names(subject).filter(is_reserved).map(|name| {
        Diagnostic::warning(format!("`{name}` has a meaning of its own and should not name a stage"))
            .at(name.span.clone(), "")
            .help("give the stage another name")
    }));
}

/// `from … as` and `FROM … AS`; a `From` in mixed case asks for neither, being wrong itself.
pub(super) fn as_casing(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for stage in &subject.dockerfile.stages {
        let Some(keyword) = &stage.as_keyword else { continue };
        let wanted = match stage.keyword.text.as_str() {
            "from" => "as",
            "FROM" => "AS",
            _ => continue,
        };
        if keyword.text != wanted {
            let message = format!("`{keyword}` has another case than `{}`", stage.keyword);
            let finding = Diagnostic::warning(message).at(keyword.span.clone(), "");
            found.push(finding.help(format!("write `{wanted}`")));
        }
    }
}

/// `--platform=$TARGETPLATFORM` is what happens without it.
pub(super) fn redundant_platform(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let escape = subject.dockerfile.escape();
    let platforms = subject.dockerfile.stages.iter().filter_map(|stage| stage.platform.as_ref());
    let redundant = |platform: &&Word| {
        let used = std::cell::RefCell::new(Vec::new());
        let target = "\u{1}";
        let expanded = words::expand(
            &platform.text,
            &|name| {
                used.borrow_mut().push(name.to_owned());
                (name == "TARGETPLATFORM").then(|| target.to_owned())
            },
            escape,
        );
        expanded.is_ok_and(|text| text == target) && used.borrow().iter().all(|name| name == "TARGETPLATFORM")
    };
    found.extend(platforms.filter(redundant).map(|platform| {
        Diagnostic::warning(format!("`--platform={platform}` is the default"))
            .at(platform.span.clone(), "")
            .help("leave the flag out")
    }));
}

/// A constant platform, unless the stage's name says that it is meant for that one.
pub(super) fn constant_platform(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let escape = subject.dockerfile.escape();
    for stage in &subject.dockerfile.stages {
        let Some(platform) = stage.platform.as_ref().filter(|word| !words::has_variable(&word.text, escape))
        else {
            continue;
        };
        if !is_named_after(stage, &platform.text) {
            let message = format!("`--platform={platform}` fixes the platform whatever the target is");
            let help = "use $BUILDPLATFORM or $TARGETPLATFORM, or name the stage after its platform";
            found.push(Diagnostic::warning(message).at(platform.span.clone(), "").help(help));
        }
    }
}

/// Whether the name holds the operating system or the architecture.
fn is_named_after(stage: &Stage, platform: &str) -> bool {
    let Some(name) = stage.name.as_ref().map(|name| name.text.to_lowercase()) else { return false };
    let parts = platform.split('/').take(2).map(str::to_lowercase);
    let usual = parts.map(|part| match part.as_str() {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "armhf" | "armel" => "arm".to_owned(),
        "i386" | "i686" => "386".to_owned(),
        "macos" => "darwin".to_owned(),
        _ => part,
    });
    usual.into_iter().any(|part| !part.is_empty() && name.contains(&part))
}

pub(super) fn platform_mismatch(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for (stage, beginning) in subject.dockerfile.stages.iter().zip(&subject.facts.stages) {
        if let Some(mismatch) = beginning.as_ref().and_then(|beginning| beginning.mismatch.as_ref()) {
            let message = format!(
                "the base image is for {} and the stage is built for {}",
                mismatch.actual, mismatch.expected
            );
            let help = format!(
                "take an image for {}, or say `FROM --platform={}`",
                mismatch.expected, mismatch.actual
            );
            found.push(Diagnostic::warning(message).at(stage.base.span.clone(), "").help(help));
        }
    }
}

fn names<'a>(subject: &Subject<'a>) -> impl Iterator<Item = &'a Word> {
    subject.dockerfile.stages.iter().filter_map(|stage| stage.name.as_ref())
}
