//! The build checks: 22 rules, by BuildKit's names, as a table.
//!
//! Each rule is a function over the parsed file that pushes what it finds; [`check`] runs them all and
//! drops what `# check=skip=…` takes out, at the head of the file or above one instruction. What a rule
//! needs beside the file (what each stage begins with, the build arguments, the ignore rules) is handed in
//! as [`Facts`]. Nothing here stops a build by itself: findings are warnings, and errors only where the
//! file says `# check=error=true`.
//!
//! As with BuildKit, rules about names and keywords read the whole file, and those about what instructions
//! do follow the stages that are built: all of them in a check without a target.

mod exposed;
mod shape;
mod stages;
mod variables;

use std::ops::Range;

use crate::base::diag::{Diagnostic, Severity, SourceFile, Span};

use super::ast::{Dockerfile, Word};
use super::directives::Check;
use super::trace::{self, Facts};

/// The build argument that stands in place of the file's `# check=`.
pub const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

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
    facts: &'a Facts,
    ignored: &'a dyn Fn(&str) -> bool,
    stages: Vec<Option<trace::Stage<'a>>>,
}

impl Subject<'_> {
    /// Every step of the stages that are reached, with its stage.
    fn steps(&self) -> impl Iterator<Item = (usize, &trace::Step<'_>)> {
        let stages = self.stages.iter().enumerate();
        stages.flat_map(|(index, stage)| {
            stage.iter().flat_map(move |stage| stage.steps.iter().map(move |step| (index, step)))
        })
    }
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

/// All findings, by place, each once. The parser's own warnings of a rule are among them, so that this and
/// the warnings without a rule are all there is to say. `ignored` says whether the ignore file leaves out a
/// path of the build context.
///
/// Given arguments that cannot be read as checks ([`CHECK_ARGUMENT`]) are one finding more, an error.
pub fn check(dockerfile: &Dockerfile, facts: &Facts, ignored: &dyn Fn(&str) -> bool) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let whole_file = match given_check(facts) {
        None => dockerfile.directives.check.clone().unwrap_or_default(),
        Some(Ok(check)) => check,
        Some(Err(mistake)) => {
            findings.push(*mistake);
            Check::default()
        }
    };
    let subject = Subject { dockerfile, facts, ignored, stages: trace::stages(dockerfile, facts) };
    let exceptions = exceptions(dockerfile);
    findings.extend(exceptions.iter().map(|(_, check)| check).chain([&whole_file]).flat_map(misread));
    for rule in &RULES {
        let applies = match rule.experimental {
            true => whole_file.enables(rule.name),
            false => !whole_file.skips(rule.name),
        };
        if applies {
            let mut found = Vec::new();
            (rule.find)(&subject, &mut found);
            found.iter_mut().for_each(|finding| finding.rule = Some(rule.name));
            found.retain(|finding| !is_excepted(finding, &exceptions));
            findings.extend(found);
        }
    }
    if whole_file.error {
        let found = findings.iter_mut().filter(|finding| finding.rule.is_some());
        found.for_each(|finding| finding.severity = Severity::Error);
    }
    findings.sort_by_key(|finding| finding.place.as_ref().map_or(0, |(span, _)| span.range.start));
    findings.dedup();
    findings
}

/// What [`CHECK_ARGUMENT`] says, if it is given.
fn given_check(facts: &Facts) -> Option<Result<Check, Box<Diagnostic>>> {
    let text = facts.arguments.get(CHECK_ARGUMENT)?;
    let file = SourceFile::new(format!("--build-arg {CHECK_ARGUMENT}"), text.as_str());
    let whole = Span::new(&file, 0..text.len());
    Some(Check::parse(&Word::new(text.as_str(), whole)))
}

/// What a directive says without effect: rules that there are not, and what follows a blank.
fn misread(check: &Check) -> Vec<Diagnostic> {
    let Some(place) = &check.place else { return Vec::new() };
    let known = || RULES.iter().map(|rule| rule.name);
    let unknown = check.names().filter(|name| known().all(|rule| rule != *name)).map(|name| {
        let meant = known().find(|rule| rule.eq_ignore_ascii_case(name));
        let finding = Diagnostic::warning(format!("there is no check `{name}`")).at(place.clone(), "");
        match meant {
            Some(rule) => finding.help(format!("did you mean `{rule}`?")),
            None => finding.did_you_mean(name, known()),
        }
    });
    let unread = (!check.unread.trim().is_empty()).then(|| {
        Diagnostic::warning(format!("`{}` has no effect: it stands behind a blank", check.unread.trim()))
            .at(place.clone(), "")
            .help("write the whole value without blanks")
    });
    unknown.chain(unread).collect()
}

/// The places for which a comment above an instruction skips rules.
fn exceptions(dockerfile: &Dockerfile) -> Vec<(Range<usize>, Check)> {
    let stages = dockerfile.stages.iter();
    let commented = stages.flat_map(|stage| {
        let instructions = stage.instructions.iter().map(|each| (&each.span, &each.comments));
        std::iter::once((&stage.span, &stage.comments)).chain(instructions)
    });
    let head = dockerfile.head.iter().map(|each| (&each.span, &each.comments));
    let checks = head.chain(commented).filter_map(|(span, comments)| {
        let check = comments.iter().find_map(inline_check)?;
        Some((span.range.clone(), check))
    });
    checks.collect()
}

/// `check=skip=A` in a comment.
fn inline_check(comment: &Word) -> Option<Check> {
    let (key, value) = comment.text.split_once('=')?;
    let value = Word::new(value.trim(), comment.span.clone());
    key.trim().eq_ignore_ascii_case("check").then(|| Check::of_comment(&value).ok()).flatten()
}

fn is_excepted(finding: &Diagnostic, exceptions: &[(Range<usize>, Check)]) -> bool {
    let (Some(rule), Some((span, _))) = (finding.rule, &finding.place) else { return false };
    // They stand in the order of the file and do not overlap.
    let before = exceptions.partition_point(|(place, _)| place.start <= span.range.start);
    let nearest = before.checked_sub(1).and_then(|index| exceptions.get(index));
    nearest.is_some_and(|(place, check)| place.contains(&span.range.start) && check.skips(rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::diag::SourceFile;
    use crate::base::testing::golden;
    use crate::dockerfile::{PlatformMismatch, parse};

    const FOLDER: &str = "testdata/dockerfile/lint";

    /// Base images have these variables, and the ignore file leaves out `secret.txt` and `logs`.
    fn findings(text: &str) -> Vec<Diagnostic> {
        let dockerfile = parse(&SourceFile::new("Dockerfile", text)).unwrap();
        let mut facts = Facts::of_file(&dockerfile);
        for (index, stage) in dockerfile.stages.iter().enumerate() {
            let pair = |name: &str| (name.to_owned(), "/x".to_owned());
            let Some(beginning) = &mut facts.stages[index] else { continue };
            beginning.variables.push(pair("PATH"));
            if stage.base.text == "python" {
                beginning.variables.push(pair("PYTHON_VERSION"));
            }
            if stage.base.text == "foreign" {
                let (expected, actual) = ("linux/amd64".to_owned(), "linux/arm64".to_owned());
                beginning.mismatch = Some(PlatformMismatch { expected, actual });
            }
            beginning.has_shell = stage.base.text == "shelled";
        }
        facts.platform.insert("TARGETPLATFORM".to_owned(), "linux/amd64".to_owned());
        facts.platform.insert("BUILDPLATFORM".to_owned(), "linux/amd64".to_owned());
        let ignored = |path: &str| path == "secret.txt" || path.starts_with("logs");
        check(&dockerfile, &facts, &ignored)
    }

    fn found(text: &str) -> Vec<String> {
        let line = |finding: Diagnostic| {
            let (line, column) = finding.place.as_ref().unwrap().0.position();
            format!("{}@{line}:{column}", finding.rule.unwrap())
        };
        findings(text).into_iter().map(line).collect()
    }

    /// The cases of a file, one a rule: `### name`, then a Dockerfile.
    fn cases(rule: &str) -> Vec<(String, String)> {
        let path = format!("{}/{FOLDER}/{rule}/cases", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let cases = text.split("### ").skip(1).map(|case| {
            let (name, text) = case.split_once('\n').unwrap();
            (name.to_owned(), text.to_owned())
        });
        cases.collect()
    }

    #[test]
    fn each_rule_has_its_hits_near_misses_and_skips() {
        for rule in &RULES {
            let (mut shown, mut hits, mut misses) = (String::new(), 0, 0);
            let cases = cases(rule.name);
            assert!(cases.len() >= 3, "{}: {} cases", rule.name, cases.len());
            for (name, text) in cases {
                let findings = findings(&text);
                let own = findings.iter().filter(|finding| finding.rule == Some(rule.name)).count();
                (hits, misses) = (hits + usize::from(own > 0), misses + usize::from(own == 0));
                shown.push_str(&format!("### {name}\n"));
                findings.iter().for_each(|finding| shown.push_str(&format!("{finding}\n\n")));
            }
            assert!(hits >= 1 && misses >= 2, "{}: {hits} hits, {misses} misses", rule.name);
            golden(&format!("{FOLDER}/{}/expected", rule.name), &shown);
        }
    }

    #[test]
    fn every_finding_has_its_place_and_advice() {
        for rule in &RULES {
            for finding in cases(rule.name).iter().flat_map(|(_, text)| findings(text)) {
                assert!(finding.place.is_some() && !finding.help.is_empty(), "{finding}");
            }
        }
    }

    #[test]
    fn rules_can_be_skipped_for_the_file_and_for_an_instruction() {
        let text = "FROM a\nMAINTAINER x\nCMD echo\n";
        assert_eq!(found(text), ["MaintainerDeprecated@2:1", "JSONArgsRecommended@3:5"]);
        let skipping = |how: &str| found(&format!("# check={how}\n{text}"));
        assert_eq!(skipping("skip=MaintainerDeprecated"), ["JSONArgsRecommended@4:5"]);
        assert!(skipping("skip=all").is_empty());
        assert_eq!(skipping("skip=MaintainerDeprecated,JSONArgsRecommended"), [""; 0]);
        let above = "FROM a\n# check=skip=MaintainerDeprecated\nMAINTAINER x\nCMD echo\n";
        assert_eq!(found(above), ["JSONArgsRecommended@4:5"]);
    }

    #[test]
    fn what_a_directive_says_without_effect_is_told() {
        let said = |how: &str| {
            let findings = findings(&format!("# check={how}\nFROM a\nMAINTAINER x\n"));
            findings
                .iter()
                .filter(|finding| finding.rule.is_none())
                .map(ToString::to_string)
                .collect::<String>()
        };
        assert!(said("skip=maintainerdeprecated").contains("did you mean `MaintainerDeprecated`?"));
        assert!(said("skip=MaintainerDeprecatd").contains("did you mean `MaintainerDeprecated`?"));
        assert!(said("skip=StageNameCasing, UndefinedVar").contains("`UndefinedVar` has no effect"));
        assert_eq!(said("skip=StageNameCasing;experimental=all"), "");
    }

    #[test]
    fn turning_on_what_is_experimental_turns_on_nothing_else() {
        let found = |how: &str| found(&format!("# check={how}\n# x\nFROM a AS b\nMAINTAINER x\n"));
        assert_eq!(found("experimental=all;skip=MaintainerDeprecated"), ["InvalidDefinitionDescription@3:1"]);
        assert_eq!(found("experimental=all;skip=all"), ["InvalidDefinitionDescription@3:1"]);
        assert_eq!(found("skip=InvalidDefinitionDescription"), ["MaintainerDeprecated@4:1"]);
    }

    #[test]
    fn findings_become_errors_where_the_file_says_so() {
        let findings = findings("# check=error=true\nFROM a\nMAINTAINER x\n");
        assert!(findings.iter().all(|finding| finding.severity == Severity::Error) && findings.len() == 1);
    }

    #[test]
    fn a_build_argument_stands_in_place_of_the_directive() {
        let file = SourceFile::new("Dockerfile", "# check=skip=all\nFROM a\nMAINTAINER x\nCMD echo\n");
        let dockerfile = parse(&file).unwrap();
        let found = |argument: &str| {
            let mut facts = Facts::of_file(&dockerfile);
            facts.arguments.insert(CHECK_ARGUMENT.to_owned(), argument.to_owned());
            check(&dockerfile, &facts, &|_| false)
        };
        let findings = found("skip=JSONArgsRecommended;error=true");
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].rule, findings[0].severity), (Some("MaintainerDeprecated"), Severity::Error));
        assert_eq!(found("skip=MaintainerDeprecated,JSONArgsRecommended"), []);
        let wrong = found("skpi=all");
        assert!(wrong.iter().any(|finding| finding.rule.is_none() && finding.severity == Severity::Error));
    }

    #[test]
    fn stages_that_are_not_built_are_read_but_not_followed() {
        let file = SourceFile::new("Dockerfile", "FROM a AS One\nCMD echo\nFROM b\nCMD echo\n");
        let dockerfile = parse(&file).unwrap();
        let mut facts = Facts::of_file(&dockerfile);
        facts.stages[0] = None;
        let rules: Vec<_> =
            check(&dockerfile, &facts, &|_| false).into_iter().map(|finding| finding.rule.unwrap()).collect();
        assert_eq!(rules, ["StageNameCasing", "JSONArgsRecommended"]);
    }

    #[test]
    fn triggers_are_found_at_the_from_that_they_run_in() {
        let file = SourceFile::new("Dockerfile", "FROM a\nENV X=1\n");
        let dockerfile = parse(&file).unwrap();
        let inner = parse(&SourceFile::new("ONBUILD", "FROM a\nWORKDIR x\n")).unwrap();
        let mut facts = Facts::of_file(&dockerfile);
        facts.stages[0].as_mut().unwrap().triggers = inner.stages[0].instructions.clone();
        let findings = check(&dockerfile, &facts, &|_| false);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place.as_ref().unwrap().0.position(), (1, 1));
    }

    #[test]
    fn names_of_rules_are_in_order_and_unique() {
        assert!(RULES.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
