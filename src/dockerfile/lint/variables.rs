//! Rules about variables: undefined ones, defaults that make no image, secrets.
//!
//! A stage's variables are followed through the file: what the base image has (handed in), what the stage
//! under it declared, then each `ARG` and `ENV`. Where the base image is not known, its variables are not
//! either, and nothing is called undefined.

use std::collections::{HashMap, HashSet};

use crate::base::diag::{Diagnostic, closest};

use super::super::ast::{Instruction, Kind, Stage, Word};
use super::super::words;
use super::Subject;

/// Arguments that are there without being declared, in `FROM`.
const PREDEFINED: [&str; 9] = [
    "BUILDARCH",
    "BUILDOS",
    "BUILDPLATFORM",
    "BUILDVARIANT",
    "TARGETARCH",
    "TARGETOS",
    "TARGETPLATFORM",
    "TARGETSTAGE",
    "TARGETVARIANT",
];

/// Names are taken apart at `_`; one of these parts makes a secret, and `PUBLIC` makes it none.
const SECRETS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "passwd", "password", "pword", "secret", "token"];

pub(super) fn secrets(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let globals = subject.dockerfile.global_args.iter().map(|pair| ("ARG", pair));
    let stages = subject.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    let declared = stages.flat_map(|instruction| match &instruction.kind {
        Kind::Arg(pairs) | Kind::Env(pairs) => pairs.iter().map(|pair| (instruction.name(), pair)).collect(),
        _ => Vec::new(),
    });
    for (instruction, (name, _)) in globals.chain(declared) {
        if is_secret(&name.text) {
            let message = format!("{instruction} {name} looks like a secret: it would be kept in the image");
            let help = "use `RUN --mount=type=secret`";
            found.push(Diagnostic::warning(message).at(name.span.clone(), "").help(help));
        }
    }
}

fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let mut parts = lower.split('_');
    parts.clone().any(|part| SECRETS.contains(&part)) && parts.all(|part| part != "public")
}

pub(super) fn undefined_in_from(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let declared: Vec<&str> =
        subject.dockerfile.global_args.iter().map(|(name, _)| name.text.as_str()).collect();
    for stage in &subject.dockerfile.stages {
        for word in std::iter::once(&stage.base).chain(&stage.platform) {
            for name in
                unmatched(subject, word, &|name| declared.contains(&name) || PREDEFINED.contains(&name))
            {
                let message = format!("FROM uses `{name}`, which no ARG before the first FROM declares");
                let candidates = declared.iter().chain(&PREDEFINED).copied();
                found.push(
                    Diagnostic::warning(message).at(word.span.clone(), "").did_you_mean(&name, candidates),
                );
            }
        }
    }
}

/// Without arguments, `FROM` must have an image all the same.
pub(super) fn default_image(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let (dockerfile, escape) = (subject.dockerfile, subject.dockerfile.escape());
    let mut defaults: HashMap<&str, String> = PREDEFINED.iter().map(|name| (*name, "x".to_owned())).collect();
    for (name, value) in &dockerfile.global_args {
        let Some(value) = value else { continue };
        let value = words::expand(&value.text, &|name| defaults.get(name).cloned(), escape);
        defaults.insert(&name.text, value.unwrap_or_default());
    }
    for stage in dockerfile.stages.iter().filter(|stage| words::has_variable(&stage.base.text, escape)) {
        let image = words::expand(&stage.base.text, &|name| defaults.get(name).cloned(), escape);
        if image.is_ok_and(|image| !is_image(&image)) {
            let message = format!("without build arguments `{}` names no image", stage.base);
            let help = "give the ARG a default value";
            found.push(Diagnostic::warning(message).at(stage.base.span.clone(), "").help(help));
        }
    }
}

/// Whether a text may be a reference: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, each part filled.
fn is_image(text: &str) -> bool {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let last_slash = name.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match name[last_slash..].split_once(':') {
        Some((last, tag)) => (format!("{}{last}", &name[..last_slash]), Some(tag)),
        None => (name.to_owned(), None),
    };
    let part = |part: &str| {
        part.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && part.ends_with(|letter: char| letter.is_ascii_alphanumeric())
    };
    let word = |tag: &str| !tag.is_empty() && !tag.contains(['/', ' ', ':']);
    path.split('/').all(part) && tag.is_none_or(word) && digest.is_none_or(|digest| digest.contains(':'))
}

pub(super) fn undefined(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    // What is defined at the end of each stage; nothing where its base image is not known.
    let mut ends: Vec<Option<HashSet<String>>> = Vec::new();
    for (index, stage) in subject.dockerfile.stages.iter().enumerate() {
        let mut defined = beginning(subject, index, stage, &ends);
        if let Some(defined) = &mut defined {
            for instruction in &stage.instructions {
                check(subject, instruction, defined, found);
            }
        }
        ends.push(defined);
    }
}

/// What is defined below a stage's `FROM`.
fn beginning(
    subject: &Subject<'_>,
    index: usize,
    stage: &Stage,
    ends: &[Option<HashSet<String>>],
) -> Option<HashSet<String>> {
    let is_base = |other: &Stage| {
        other.name.as_ref().is_some_and(|name| name.text.eq_ignore_ascii_case(&stage.base.text))
    };
    let mut defined = match subject.dockerfile.stages[..index].iter().rposition(is_base) {
        Some(base) => ends[base].clone()?,
        None if stage.base.text == "scratch" => HashSet::new(),
        None => (subject.given.base_environment)(index)?.into_iter().collect(),
    };
    defined.insert("PATH".to_owned());
    Some(defined)
}

fn check(
    subject: &Subject<'_>,
    instruction: &Instruction,
    defined: &mut HashSet<String>,
    found: &mut Vec<Diagnostic>,
) {
    for word in expanded_words(&instruction.kind) {
        for name in unmatched(subject, word, &|name| defined.contains(name)) {
            let message = format!("the variable `{name}` is not defined here: it is empty");
            let mut finding = Diagnostic::warning(message).at(word.span.clone(), "");
            finding.help.extend(
                closest(&name, defined.iter().map(String::as_str))
                    .map(|near| format!("did you mean `{near}`?")),
            );
            found.push(finding);
        }
    }
    if let Kind::Arg(pairs) | Kind::Env(pairs) = &instruction.kind {
        defined.extend(pairs.iter().map(|(name, _)| name.text.clone()));
    }
}

/// The words of an instruction in which variables are replaced.
fn expanded_words(kind: &Kind) -> Vec<&Word> {
    match kind {
        Kind::Copy(copy) => {
            let paths = copy.sources.iter().chain([&copy.destination]);
            paths.chain(&copy.chown).chain(&copy.chmod).chain(&copy.excludes).collect()
        }
        Kind::Add(add) => {
            let paths = add.sources.iter().chain([&add.destination]);
            paths.chain(&add.chown).chain(&add.chmod).chain(&add.excludes).chain(&add.checksum).collect()
        }
        Kind::Env(all) | Kind::Label(all) | Kind::Arg(all) => {
            all.iter().flat_map(|(name, value)| std::iter::once(name).chain(value)).collect()
        }
        Kind::Expose(words) | Kind::Volume(words) => words.iter().collect(),
        Kind::User(word) | Kind::Workdir(word) | Kind::StopSignal(word) => vec![word],
        _ => Vec::new(),
    }
}

/// The variables of a word that are not defined, in order; those with a value for that case left out.
fn unmatched(subject: &Subject<'_>, word: &Word, defined: &dyn Fn(&str) -> bool) -> Vec<String> {
    let names = std::cell::RefCell::new(Vec::new());
    let lookup = |name: &str| {
        let known = defined(name);
        if !known && !is_provided_for(&word.text, name) && !names.borrow().iter().any(|seen| seen == name) {
            names.borrow_mut().push(name.to_owned());
        }
        // A value that is not empty, so that nothing is refused for want of one.
        Some("x".to_owned())
    };
    match words::expand(&word.text, &lookup, subject.dockerfile.escape()) {
        Ok(_) => names.into_inner(),
        Err(_) => Vec::new(),
    }
}

/// `${name-…}`, `${name:+…}`, `${name?…}`
fn is_provided_for(text: &str, name: &str) -> bool {
    let opening = format!("${{{name}");
    text.match_indices(&opening).any(|(at, _)| {
        let rest = &text[at + opening.len()..];
        rest.strip_prefix(':').unwrap_or(rest).starts_with(['-', '+', '?'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_a_part_of_their_name() {
        for name in ["API_KEY", "password", "GITHUB_TOKEN", "AUTH", "my_secret_x"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["TOKENIZER", "PUBLIC_KEY", "KEYBOARD", "authority", "MONKEY"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn images_have_all_their_parts() {
        for image in ["alpine", "alpine:3", "host:5000/a/b:c", "a@sha256:00", "scratch", "a/b_c.d"] {
            assert!(is_image(image), "{image}");
        }
        for image in ["", "alpine:", "a//b", "/a", "a/", "a@", ":3", "a: b"] {
            assert!(!is_image(image), "{image}");
        }
    }
}
