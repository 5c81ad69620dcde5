//! Rules about `FROM`: names of stages and platforms.

use crate::base::diag::Diagnostic;

use super::super::ast::{Stage, Word};
use super::super::words;
use super::Subject;

const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn name_casing(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    found.extend(names(subject).filter(|name| name.text.chars().any(char::is_uppercase)).map(|name| {
        let message = format!("the stage name `{name}` should be written `{}`", name.text.to_lowercase());
        Diagnostic::warning(message).at(name.span.clone(), "")
    }));
}

pub(super) fn duplicate_names(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let mut seen: std::collections::HashMap<String, &Word> = std::collections::HashMap::new();
    for name in names(subject) {
        if let Some(first) = seen.get(&name.text.to_lowercase()) {
            let message = format!("a stage `{name}` is already there");
            let finding = Diagnostic::warning(message).at(name.span.clone(), "");
            found.push(finding.also(first.span.clone(), "the first one"));
        }
        seen.entry(name.text.to_lowercase()).or_insert(name);
    }
}

pub(super) fn reserved_names(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let is_reserved = |name: &&Word| RESERVED.iter().any(|word| name.text.eq_ignore_ascii_case(word));
    found.extend(names(subject).filter(is_reserved).map(|name| {
        Diagnostic::warning(format!("`{name}` has a meaning of its own and should not name a stage"))
            .at(name.span.clone(), "")
    }));
}

/// `from … as` and `FROM … AS`; a `From` in mixed case asks for `AS`.
pub(super) fn as_casing(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for stage in &subject.dockerfile.stages {
        let Some(keyword) = &stage.as_keyword else { continue };
        let lower = !stage.keyword.text.chars().any(char::is_uppercase);
        let wanted = if lower { "as" } else { "AS" };
        if keyword.text != wanted {
            let message = format!("`{keyword}` should be written `{wanted}`, like `{}`", stage.keyword);
            found.push(Diagnostic::warning(message).at(keyword.span.clone(), ""));
        }
    }
}

/// `--platform=$TARGETPLATFORM` is what happens without it.
pub(super) fn redundant_platform(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let redundant =
        |platform: &&Word| ["$TARGETPLATFORM", "${TARGETPLATFORM}"].contains(&platform.text.as_str());
    let platforms = subject.dockerfile.stages.iter().filter_map(|stage| stage.platform.as_ref());
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

fn is_named_after(stage: &Stage, platform: &str) -> bool {
    let Some(name) = stage.name.as_ref().map(|name| name.text.to_lowercase()) else { return false };
    platform.to_lowercase().split('/').any(|part| !part.is_empty() && name.contains(part))
}

pub(super) fn platform_mismatch(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for (index, stage) in subject.dockerfile.stages.iter().enumerate() {
        if let Some(mismatch) = (subject.given.base_platform)(index) {
            let message = format!(
                "the base image is for {} and the stage is built for {}",
                mismatch.actual, mismatch.expected
            );
            found.push(Diagnostic::warning(message).at(stage.base.span.clone(), ""));
        }
    }
}

fn names<'a>(subject: &Subject<'a>) -> impl Iterator<Item = &'a Word> {
    subject.dockerfile.stages.iter().filter_map(|stage| stage.name.as_ref())
}
