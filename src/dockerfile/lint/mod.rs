//! The build checks: 22 rules, by BuildKit's names, as a table.
//!
//! Each rule is a function over the parsed file that pushes what it finds; [`check`] runs them all and
//! drops what `# check=skip=…` takes out, at the head of the file or above one instruction. What a rule
//! needs beside the file (the environment of base images, the ignore rules) is handed in as [`Given`];
//! where it is not known, the rule finds nothing. Nothing here stops a build by itself: findings are
//! warnings, and errors only where the file says `# check=error=true`.
//!
//! All stages are checked, also those that a build's target does not need.

mod exposed;
mod shape;
mod stages;
mod variables;

use crate::base::diag::{Diagnostic, Severity};

use super::ast::{Dockerfile, Word};
use super::directives::Check;

/// A rule.
pub struct Rule {
    /// Its name, as in `# check=skip=NAME`.
    pub name: &'static str,
    /// What it asks for.
    pub description: &'static str,
    /// It is off unless `# check=experimental=` turns it on.
    pub experimental: bool,
    find: fn(&Subject<'_>, &mut Vec<Diagnostic>),
}

/// What the rules look at.
struct Subject<'a> {
    dockerfile: &'a Dockerfile,
    given: &'a Given<'a>,
}

/// What is known beside the file. Stages are named by their index.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// The names of the variables in the environment of a stage's base image; `None` where the image is
    /// not known. Not asked for stages that stand on another stage or on `scratch`.
    pub base_environment: &'a dyn Fn(usize) -> Option<Vec<String>>,
    /// The platform that a stage's base image was wanted for and the one that it has, where they differ.
    pub base_platform: &'a dyn Fn(usize) -> Option<PlatformMismatch>,
    /// Whether the ignore file leaves out a path of the build context.
    pub ignored: &'a dyn Fn(&str) -> bool,
}

/// A base image for another platform than the stage's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformMismatch {
    /// The platform that the stage is built for.
    pub expected: String,
    /// The platform of the image.
    pub actual: String,
}

impl Given<'static> {
    /// The file alone.
    pub const NOTHING: Self =
        Self { base_environment: &|_| None, base_platform: &|_| None, ignored: &|_| false };
}

const fn rule(
    name: &'static str,
    description: &'static str,
    find: fn(&Subject<'_>, &mut Vec<Diagnostic>),
) -> Rule {
    Rule { name, description, experimental: false, find }
}

/// Every rule, by name.
pub const RULES: [Rule; 22] = [
    rule("ConsistentInstructionCasing", "keywords are all upper or all lower case", shape::keyword_casing),
    rule("CopyIgnoredFile", "what is copied is not in the ignore file", shape::ignored_sources),
    rule("DuplicateStageName", "no two stages have one name", stages::duplicate_names),
    rule("ExposeInvalidFormat", "EXPOSE names ports of the container alone", exposed::format),
    rule("ExposeProtoCasing", "protocols of EXPOSE are lower case", exposed::protocol_casing),
    rule("FromAsCasing", "AS has the case of FROM", stages::as_casing),
    rule("FromPlatformFlagConstDisallowed", "FROM --platform follows the target", stages::constant_platform),
    rule("InvalidBaseImagePlatform", "base images have the stage's platform", stages::platform_mismatch),
    rule("InvalidDefaultArgInFrom", "FROM has a valid image without arguments", variables::default_image),
    Rule {
        name: "InvalidDefinitionDescription",
        description: "a comment above a stage or an argument begins with its name",
        experimental: true,
        find: shape::descriptions,
    },
    rule("JSONArgsRecommended", "CMD and ENTRYPOINT are in JSON form", shape::json_commands),
    rule("LegacyKeyValueFormat", "ENV and LABEL are written with `=`", shape::legacy_pairs),
    rule("MaintainerDeprecated", "LABEL stands for MAINTAINER", shape::maintainer),
    rule("MultipleInstructionsDisallowed", "what counts once is there once", shape::repeated),
    rule("NoEmptyContinuation", "no blank line inside an instruction", shape::blank_continuations),
    rule(
        "RedundantTargetPlatform",
        "FROM --platform does not repeat the default",
        stages::redundant_platform,
    ),
    rule("ReservedStageName", "no stage is called `context` or `scratch`", stages::reserved_names),
    rule("SecretsUsedInArgOrEnv", "no secrets in ARG or ENV", variables::secrets),
    rule("StageNameCasing", "names of stages are lower case", stages::name_casing),
    rule("UndefinedArgInFrom", "FROM uses declared arguments", variables::undefined_in_from),
    rule("UndefinedVar", "variables are defined before their use", variables::undefined),
    rule("WorkdirRelativePath", "the first WORKDIR is absolute", shape::relative_workdir),
];

/// All findings, by place. The parser's own warnings of a rule are among them, so that this and the
/// warnings without a rule are all there is to say.
pub fn check(dockerfile: &Dockerfile, given: &Given<'_>) -> Vec<Diagnostic> {
    let subject = Subject { dockerfile, given };
    let whole_file = dockerfile.directives.check.clone().unwrap_or_default();
    let exceptions = exceptions(dockerfile);
    let mut findings = Vec::new();
    for rule in &RULES {
        let enabled = whole_file.enables(rule.name);
        if enabled || (!rule.experimental && !whole_file.skips(rule.name)) {
            let start = findings.len();
            (rule.find)(&subject, &mut findings);
            findings[start..].iter_mut().for_each(|finding| finding.rule = Some(rule.name));
        }
    }
    findings.retain(|finding| !is_excepted(finding, &exceptions));
    if whole_file.error {
        findings.iter_mut().for_each(|finding| finding.severity = Severity::Error);
    }
    findings.sort_by_key(|finding| finding.place.as_ref().map_or(0, |(span, _)| span.range.start));
    findings
}

/// The places for which a comment above an instruction skips rules.
fn exceptions(dockerfile: &Dockerfile) -> Vec<(std::ops::Range<usize>, Check)> {
    let stages = dockerfile.stages.iter();
    let commented = stages.flat_map(|stage| {
        let instructions = stage.instructions.iter().map(|each| (&each.span, &each.comments));
        std::iter::once((&stage.span, &stage.comments)).chain(instructions)
    });
    let checks = commented.flat_map(|(span, comments)| {
        comments.iter().filter_map(|comment| Some((span.range.clone(), inline_check(comment)?)))
    });
    checks.collect()
}

/// `check=skip=A` in a comment.
fn inline_check(comment: &Word) -> Option<Check> {
    let (key, value) = comment.text.split_once('=')?;
    let value = Word::new(value.trim(), comment.span.clone());
    key.trim().eq_ignore_ascii_case("check").then(|| Check::parse(&value).ok()).flatten()
}

fn is_excepted(finding: &Diagnostic, exceptions: &[(std::ops::Range<usize>, Check)]) -> bool {
    let (Some(rule), Some((span, _))) = (finding.rule, &finding.place) else { return false };
    exceptions.iter().any(|(place, check)| place.contains(&span.range.start) && check.skips(rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::diag::SourceFile;
    use crate::base::testing::golden;
    use crate::dockerfile::parse;

    fn found(text: &str, given: &Given<'_>) -> Vec<String> {
        let dockerfile = parse(&SourceFile::new("Dockerfile", text)).unwrap();
        let line = |finding: Diagnostic| {
            let (line, column) = finding.place.as_ref().unwrap().0.position();
            format!("{}@{line}:{column}", finding.rule.unwrap())
        };
        check(&dockerfile, given).into_iter().map(line).collect()
    }

    #[test]
    fn each_rule_finds_its_mistake() {
        let folder = "testdata/dockerfile/lint";
        let text = std::fs::read_to_string(format!("{}/{folder}/Dockerfile", env!("CARGO_MANIFEST_DIR")));
        let dockerfile = parse(&SourceFile::new("Dockerfile", text.unwrap())).unwrap();
        let mismatch = || PlatformMismatch { expected: "linux/amd64".into(), actual: "linux/arm64".into() };
        let given = Given {
            base_environment: &|_| Some(vec!["PATH".into(), "PYTHON_VERSION".into()]),
            base_platform: &|stage| (stage == 0).then(mismatch),
            ignored: &|path| path == "secret.txt",
        };
        let findings = check(&dockerfile, &given);
        golden(
            &format!("{folder}/findings"),
            &findings.iter().map(|finding| format!("{finding}\n\n")).collect::<String>(),
        );
        for rule in &RULES {
            assert!(findings.iter().any(|finding| finding.rule == Some(rule.name)), "{}", rule.name);
        }
    }

    #[test]
    fn rules_can_be_skipped_for_the_file_and_for_an_instruction() {
        let text = "FROM a\nMAINTAINER x\nCMD echo\n";
        assert_eq!(found(text, &Given::NOTHING), ["MaintainerDeprecated@2:1", "JSONArgsRecommended@3:5"]);
        let skipping = |how: &str| found(&format!("# check={how}\n{text}"), &Given::NOTHING);
        assert_eq!(skipping("skip=maintainerdeprecated"), ["JSONArgsRecommended@4:5"]);
        assert!(skipping("skip=all").is_empty());
        let above = "FROM a\n# check=skip=MaintainerDeprecated\nMAINTAINER x\nCMD echo\n";
        assert_eq!(found(above, &Given::NOTHING), ["JSONArgsRecommended@4:5"]);
    }

    #[test]
    fn findings_become_errors_where_the_file_says_so() {
        let file = SourceFile::new("Dockerfile", "# check=error=true\nFROM a\nMAINTAINER x\n");
        let findings = check(&parse(&file).unwrap(), &Given::NOTHING);
        assert!(findings.iter().all(|finding| finding.severity == Severity::Error) && findings.len() == 1);
    }

    #[test]
    fn good_files_have_no_findings() {
        let text = "ARG V=1\nFROM --platform=$BUILDPLATFORM node:$V AS build\nARG TOKENIZER PUBLIC_KEY\n\
                    ENV A=b\nENV C=$A${UNSET:-x}\nWORKDIR /a\nWORKDIR b\nEXPOSE 80/tcp $PORT\nSHELL [\"sh\"]\nCMD x\n\
                    FROM build\nCOPY $C ${V} /\nCMD [\"x\"]\n";
        let given = Given { base_environment: &|_| Some(vec!["PORT".into(), "V".into()]), ..Given::NOTHING };
        assert_eq!(found(text, &given), [""; 0]);
    }

    #[test]
    fn unknown_base_images_hide_undefined_variables() {
        let text = "FROM a\nWORKDIR /$X\nFROM scratch\nWORKDIR /$X\n";
        assert_eq!(found(text, &Given::NOTHING), ["UndefinedVar@4:9"]);
    }

    #[test]
    fn names_of_rules_are_in_order_and_unique() {
        assert!(RULES.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
