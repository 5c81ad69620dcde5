//! Every error of the program, each rendered once into `testdata/errors/catalogue.txt`, to be read in one
//! sitting against the rules of [`crate::base::diag`]. `UPDATE_GOLDEN=1` writes it anew.
//!
//! An enum lists its variants with [`samples`](crate::base::testing::samples), beside its tests: a variant
//! without a sample does not compile. Texts that have no enum stand here, each with what is wrong in it.

mod texts;

use std::fmt::Write as _;
use std::path::Path;

use crate::base::diag::{SourceFile, Span};
use crate::base::testing::{golden, no_access};
use crate::build::{BuildError, StepError, StepFailure};
use crate::context::{ContextError, CopyError};
use crate::dockerfile::Word;
use crate::dockerfile::words::WordError;
use crate::engine::EngineError;
use crate::graph::InvalidCache;
use crate::oci::{DamagedTar, OciError};
use crate::sandbox::SandboxError;
use crate::store::StoreError;
use crate::up::UpError;

use super::failure::Failure;

/// An entry: its heading and what is shown of it.
type Entry = (String, String);

/// What the program shows of a failure.
fn shown(failure: &Failure) -> String {
    let told: Vec<_> = failure.told(true).iter().map(ToString::to_string).collect();
    let text = told.join("\n");
    assert_eq!(failure.is_stop(), text == "error: stopped", "its exit code: {failure:?}");
    text
}

/// What is shown of each sample once `wrap` has made it a failure.
fn entries<E>(samples: Vec<(&'static str, E)>, wrap: impl Fn(E) -> Failure) -> Vec<Entry> {
    samples.into_iter().map(|(name, sample)| (name.to_owned(), shown(&wrap(sample)))).collect()
}

fn dockerfile() -> Span {
    let file = SourceFile::new("app/Dockerfile", "FROM debian\nCOPY src/ /app/\n");
    let start = file.text.find("COPY").unwrap();
    Span::new(&file, start..start + "COPY src/ /app/".len())
}

/// A step that failed.
fn step(error: impl Into<StepError>) -> Failure {
    let (services, text) = (vec!["web".to_owned()], "COPY src/ /app/".to_owned());
    let failure = StepFailure { services, text, span: Some(dockerfile()), error: error.into() };
    Failure::Build(BuildError::Steps(vec![failure]))
}

fn word(error: &WordError) -> Failure {
    Failure::Mistakes(vec![error.diagnostic(&Word::new("src/", dockerfile()))])
}

fn usage(error: impl ToString) -> Failure {
    Failure::Usage(error.to_string())
}

/// A text that `T` does not take, for each thing that can be wrong with it.
fn invalid<T: std::str::FromStr<Err: ToString>>(name: &str, texts: &[&str]) -> Vec<Entry> {
    let refused = |text: &&str| text.parse::<T>().err().unwrap_or_else(|| panic!("{name} takes {text}"));
    texts.iter().map(|text| (name.to_owned(), shown(&usage(refused(text).to_string())))).collect()
}

/// The modules in order, each with its entries.
fn modules() -> Vec<(&'static str, Vec<Entry>)> {
    use crate::{base, context, oci};
    let registry = |source| Failure::Registry(OciError::Tar { what: "the layer", source });
    let index = base::worktree::InvalidIndex("it ends too early".to_owned());
    let mut all = vec![
        ("base::digest", invalid::<base::digest::Digest>("InvalidDigest", &["sha256:12"])),
        ("base::fs", vec![("PathError".to_owned(), shown(&Failure::Path(no_access())))]),
        ("base::listing", invalid::<base::listing::Listing>("InvalidListing", &["nonsense"])),
        ("base::worktree", vec![("InvalidIndex".to_owned(), shown(&usage(index)))]),
        ("build", entries(BuildError::samples(), Failure::Build)),
        ("build (a step)", entries(StepError::samples(), step)),
        ("cli", entries(Failure::samples(), |failure| failure)),
        ("context (a step)", entries(ContextError::samples(), step)),
        ("context (a step)", entries(CopyError::samples(), step)),
        ("context::chmod", invalid::<context::Chmod>("InvalidChmod", &["u+y"])),
        ("dockerfile::words", entries(WordError::samples(), |error| word(&error))),
        ("engine", entries(EngineError::samples(), Failure::Engine)),
        ("graph::caching", entries(InvalidCache::samples(), usage)),
        ("oci", entries(OciError::samples(), Failure::Registry)),
        ("oci::platform", invalid::<oci::Platform>("InvalidPlatform", &["linux/"])),
        ("oci::reference", invalid::<oci::Reference>("InvalidReference", REFERENCES)),
        ("oci::tarball", entries(DamagedTar::samples(), registry)),
        ("remote", entries(BuildError::samples_of_remote(), Failure::Build)),
        ("sandbox", entries(SandboxError::samples(), |error| Failure::Build(error.into()))),
        ("store", entries(StoreError::samples(), Failure::Store)),
        ("up", entries(UpError::samples(), Failure::Up)),
    ];
    all.extend(texts::modules());
    all.sort_by_key(|(module, _)| *module);
    all
}

/// One for each reason for which a reference is refused.
const REFERENCES: &[&str] = &["", "App", "app:", "app@sha256:12"];

fn catalogue() -> String {
    let mut text = "Every error as it is shown, by module: see src/base/diag.rs for the rules.\n\
                    UPDATE_GOLDEN=1 cargo test --lib cli::catalogue writes it anew.\n"
        .to_owned();
    let mut last = "";
    for (module, entries) in modules() {
        if module != last {
            write!(text, "\n\n===== {module} =====\n").unwrap();
        }
        last = module;
        for (name, shown) in entries {
            write!(text, "\n# {name}\n{shown}\n").unwrap();
        }
    }
    text
}

#[test]
fn every_error_is_in_the_catalogue() {
    golden("testdata/errors/catalogue.txt", &catalogue());
}

/// The types below `folder` that derive the trait of errors.
fn error_types(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            error_types(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let derived = text.split("#[derive(").skip(1).filter(|rest| {
            let traits = rest.split(')').next().unwrap_or_default();
            traits.split(',').any(|one| matches!(one.trim(), "thiserror::Error" | "Error"))
        });
        let name = |rest: &str| {
            let words = rest.split(|letter: char| !letter.is_alphanumeric());
            words.skip_while(|word| !matches!(*word, "enum" | "struct")).nth(1).map(str::to_owned)
        };
        found.extend(derived.filter_map(name));
    }
}

#[test]
fn no_type_of_errors_is_missing_in_the_catalogue() {
    let (mut types, text) = (Vec::new(), catalogue());
    error_types(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut types);
    assert!(types.len() > 20, "{types:?}");
    types.retain(|name| !text.contains(&format!("# {name}\n")) && !text.contains(&format!("# {name}::")));
    assert!(types.is_empty(), "without a sample: {types:?}");
}

/// Of the rules those that a program can see.
#[test]
fn messages_and_advice_are_lower_case_and_have_no_full_stop() {
    for line in catalogue().lines() {
        let advice = line.split_once("= help: ").map(|(_, advice)| advice);
        let Some(text) = line.strip_prefix("error: ").or(line.strip_prefix("warning: ")).or(advice) else {
            continue;
        };
        let mut letters = text.chars();
        // A word in capitals is a name: `ENV`.
        let capital =
            letters.next().is_some_and(char::is_uppercase) && letters.next().is_some_and(char::is_lowercase);
        assert!(!capital && !text.ends_with('.') && !text.contains("failed to"), "{line}");
    }
}
