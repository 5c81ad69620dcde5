//! Rules about variables: undefined ones, defaults that make no image, secrets.
//!
//! `trace` follows the variables of a stage from instruction to instruction; the rules read what it found.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::base::diag::Diagnostic;

use super::super::ast::Kind;
use super::super::trace::{Undefined, globals};
use super::super::words;
use super::Subject;

/// Names are taken apart at `_`; one of these parts makes a secret.
const SECRETS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "passwd", "password", "pword", "secret", "token"];

/// One of these parts makes it none.
const HARMLESS: [&str; 3] = ["file", "public", "version"];

pub(super) fn secrets(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for (_, step) in subject.steps() {
        let (Kind::Arg(pairs) | Kind::Env(pairs)) = &step.instruction.kind else { continue };
        for (word, _) in pairs {
            let name = step.text(word);
            if is_secret(name) {
                let instruction = step.instruction.name();
                let message =
                    format!("{instruction} {name} looks like a secret: it would be kept in the image");
                let help = "use `RUN --mount=type=secret`";
                found.push(Diagnostic::warning(message).at(step.place(&word.span), "").help(help));
            }
        }
    }
}

fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let mut parts = lower.split('_');
    parts.clone().any(|part| SECRETS.contains(&part)) && parts.all(|part| !HARMLESS.contains(&part))
}

/// Variables of `FROM` that neither the platform nor an `ARG` above gives.
pub(super) fn undefined_in_from(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let (dockerfile, facts) = (subject.dockerfile, subject.facts);
    let globals = globals(dockerfile, &facts.platform, &facts.arguments);
    let declared = dockerfile.global_args().map(|(name, _)| name.text.as_str());
    let known: BTreeSet<&str> = declared.chain(globals.keys().map(String::as_str)).collect();
    for stage in &dockerfile.stages {
        for word in std::iter::once(&stage.base).chain(&stage.platform) {
            let used = RefCell::new(BTreeSet::new());
            let lookup = |name: &str| {
                let value = globals.get(name).cloned();
                if value.is_none() && !known.contains(name) {
                    used.borrow_mut().insert(name.to_owned());
                }
                value
            };
            if words::expand(&word.text, &lookup, dockerfile.escape()).is_err() {
                continue;
            }
            for name in used.into_inner() {
                let message = format!("FROM uses `{name}`, which no ARG before the first FROM declares");
                let finding = Diagnostic::warning(message).at(word.span.clone(), "");
                let finding = finding.did_you_mean(&name, known.iter().copied());
                found.push(finding.help(format!("write `ARG {name}=…` above the first FROM")));
            }
        }
    }
}

/// Without arguments, `FROM` must have an image all the same.
pub(super) fn default_image(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    let (dockerfile, escape) = (subject.dockerfile, subject.dockerfile.escape());
    let defaults = globals(dockerfile, &subject.facts.platform, &BTreeMap::new());
    for stage in &dockerfile.stages {
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

/// Variables that neither the image nor an instruction above defines.
pub(super) fn undefined(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for (_, step) in subject.steps() {
        for (place, Undefined { name, meant }) in step.undefined() {
            let message = format!("the variable `{name}` is not defined here: it is empty");
            let finding = Diagnostic::warning(message).at(step.place(place), "");
            found.push(match meant {
                Some(meant) => finding.help(format!("did you mean `{meant}`?")),
                None => finding.help(format!("write `ARG {name}` or `ENV {name}=…` above")),
            });
        }
    }
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
