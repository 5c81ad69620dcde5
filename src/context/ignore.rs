//! Ignore files, with the rules of moby/patternmatcher as BuildKit applies them while it walks.
//!
//! The file is read line by line into rules; the walk asks for each path, handing in what was found for the
//! folder above it. A rule that matches a folder holds for all that is in it; a later rule overrides an
//! earlier one; `!` takes back. `plain/` is `plain` and also excludes a plain file. Nothing here touches the
//! disk except [`ignore_file`], which picks the file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pattern::{Dialect, Malformed, Pattern};
use crate::base::diag::{Diagnostic, SourceFile, Span};
use crate::base::digest::{Digest, FieldHasher};
use crate::base::fs::{AtPath, PathError};

/// The rules that hide parts of a context; the default hides nothing.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    name: String,
    rules: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    pattern: Pattern,
    negated: bool,
    line: usize,
    text: String,
}

/// One line of an ignore file, to explain with: `` rule `*.log` (.dockerignore:3) ``.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The file as the user knows it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// The line without white space around it.
    pub text: String,
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "rule `{}` ({}:{})", self.text, self.file, self.line)
    }
}

/// Which rules matched a folder, one flag a rule: what its entries inherit.
pub(super) type Matched = Box<[bool]>;

/// What the rules say about one path.
pub(super) struct Verdict {
    /// Whether it is excluded.
    pub(super) excluded: bool,
    /// For the entries of a folder.
    pub(super) matched: Matched,
    /// The rule that excluded it.
    decided_by: Option<usize>,
}

impl Ignore {
    /// Reads an ignore file. Every malformed pattern is a diagnostic.
    pub fn parse(file: &Arc<SourceFile>) -> Result<Self, Vec<Diagnostic>> {
        let (mut rules, mut mistakes, mut start) = (Vec::new(), Vec::new(), 0);
        for (index, line) in file.text.split_inclusive('\n').enumerate() {
            let text = line.trim_end_matches(['\n', '\r']);
            let text = if index == 0 { text.trim_start_matches('\u{feff}') } else { text };
            match entry(text, index + 1) {
                Ok(entry) => rules.extend(entry),
                Err(reason) => {
                    let span = Span::new(file, start..start + line.trim_end().len());
                    mistakes.push(Diagnostic::error("malformed ignore pattern").at(span, reason));
                }
            }
            start += line.len();
        }
        if mistakes.is_empty() { Ok(Self { name: file.name.clone(), rules }) } else { Err(mistakes) }
    }

    /// Rules from single patterns, as `--exclude` gives them; the error names the pattern.
    pub(super) fn from_patterns(patterns: &[String]) -> Result<Self, (String, Malformed)> {
        let read = |(index, text): (usize, &String)| match entry(text, index + 1) {
            Ok(entry) => entry.map(Ok),
            Err(reason) => Some(Err((text.clone(), reason))),
        };
        let rules = patterns.iter().enumerate().filter_map(read).collect::<Result<_, _>>()?;
        Ok(Self { name: "--exclude".to_owned(), rules })
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Of its rules.
    pub(super) fn digest(&self) -> Digest {
        let mut hasher = FieldHasher::new("shipway ignore rules 1");
        for rule in &self.rules {
            hasher.field(&rule.text);
        }
        hasher.finish()
    }

    /// The rule that excludes `path` (relative, components separated by `/`), if one does.
    pub fn excluded_by(&self, path: &[u8]) -> Option<Rule> {
        self.decision(path).map(|index| self.rule(index))
    }

    /// Whether the source `path` of a COPY is left out by its text alone, as BuildKit's check
    /// `CopyIgnoredFile` asks. With a `!` rule the answer is no: what is brought back cannot be told from it.
    pub fn leaves_out(&self, path: &str) -> bool {
        self.rules.iter().all(|rule| !rule.negated) && self.excludes(clean(path).as_bytes())
    }

    /// Whether a rule excludes `path`, itself or by a folder above it.
    pub(super) fn excludes(&self, path: &[u8]) -> bool {
        self.decision(path).is_some()
    }

    fn decision(&self, path: &[u8]) -> Option<usize> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut matched: Option<Matched> = None;
        let mut decided = None;
        for end in ends.chain([path.len()]) {
            let verdict = self.verdict(&path[..end], matched.as_deref());
            decided = if verdict.excluded { verdict.decided_by } else { None };
            matched = Some(verdict.matched);
        }
        decided
    }

    fn rule(&self, index: usize) -> Rule {
        let entry = &self.rules[index];
        Rule { file: self.name.clone(), line: entry.line, text: entry.text.clone() }
    }

    /// What the rules say about `path`, given what they said about the folder that it is in (`None` at the
    /// root).
    pub(super) fn verdict(&self, path: &[u8], above: Option<&[bool]>) -> Verdict {
        let mut matched = vec![false; self.rules.len()].into_boxed_slice();
        let decided_by = self.decide(path, above, |index| matched[index] = true);
        Verdict { excluded: decided_by.is_some(), matched, decided_by }
    }

    /// Whether `path` is excluded, where nothing lies below it.
    pub(super) fn excludes_file(&self, path: &[u8], above: Option<&[bool]>) -> bool {
        self.decide(path, above, |_| ()).is_some()
    }

    /// The rule that excludes `path`, if one does; `matched` is told of every rule that matches. A rule is
    /// tried only where it could change the verdict (patternmatcher, `MatchesUsingParentResults`).
    fn decide(&self, path: &[u8], above: Option<&[bool]>, mut matched: impl FnMut(usize)) -> Option<usize> {
        let mut decided_by = None;
        for (index, rule) in self.rules.iter().enumerate() {
            let inherited = above.is_some_and(|above| above[index]);
            if inherited || (rule.negated == decided_by.is_some() && rule.pattern.matches(path)) {
                decided_by = (!rule.negated).then_some(index);
                matched(index);
            }
        }
        decided_by
    }

    /// Whether a rule that is not a `!` rule may match something below the folder `path`.
    pub(super) fn may_match_below(&self, path: &[u8]) -> bool {
        self.rules.iter().any(|rule| !rule.negated && rule.pattern.may_match_below(path))
    }

    /// Whether a `!` rule may bring back something below the excluded folder `path`.
    pub(super) fn may_reach_below(&self, path: &[u8]) -> bool {
        self.rules.iter().any(|rule| rule.negated && rule.pattern.may_match_below(path))
    }
}

/// One line: `None` if it is blank or a comment.
fn entry(line: &str, number: usize) -> Result<Option<Entry>, Malformed> {
    let text = line.trim();
    if line.starts_with('#') || text.is_empty() {
        return Ok(None);
    }
    let (negated, body) = match text.strip_prefix('!') {
        Some(body) => (true, body.trim()),
        None => (false, text),
    };
    let cleaned = if body.is_empty() { String::new() } else { clean(body) };
    let rooted = if cleaned.len() > 1 { cleaned.trim_start_matches('/') } else { &cleaned };
    if negated && (rooted.is_empty() || rooted == "/") {
        return Err("`!` needs a pattern");
    }
    let pattern = Pattern::compile(rooted, Dialect::Deep)?;
    Ok(Some(Entry { pattern, negated, line: number, text: text.to_owned() }))
}

/// The shortest path that means the same, by its text alone (Go's `filepath.Clean`).
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// The ignore file of a build: `<Dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore` in
/// the context, else none. Its shown name is its file name.
pub fn ignore_file(context: &Path, dockerfile: Option<&Path>) -> Result<Option<Arc<SourceFile>>, PathError> {
    let beside = dockerfile.map(|dockerfile| {
        let mut name = dockerfile.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in beside.into_iter().chain([context.join(".dockerignore")]) {
        match std::fs::read(&path) {
            Ok(bytes) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Ok(Some(SourceFile::new(name, String::from_utf8_lossy(&bytes))));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).at_path("read", path),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn ignore(text: &str) -> Ignore {
        Ignore::parse(&SourceFile::new(".dockerignore", text)).unwrap()
    }

    /// Golden folders: `ignore` and `paths` give `expected`, a line a path: kept, or the rule that excludes.
    #[test]
    fn golden_folders() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ignore");
        let mut cases: Vec<_> =
            std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
        cases.sort();
        for case in cases {
            let rules = ignore(&std::fs::read_to_string(case.join("ignore")).unwrap());
            let mut result = String::new();
            for path in std::fs::read_to_string(case.join("paths")).unwrap().lines() {
                match rules.excluded_by(path.as_bytes()) {
                    Some(rule) => writeln!(result, "{path}: line {} `{}`", rule.line, rule.text).unwrap(),
                    None => writeln!(result, "{path}: kept").unwrap(),
                }
            }
            let name = case.file_name().unwrap().to_str().unwrap();
            crate::base::testing::golden(&format!("testdata/ignore/{name}/expected"), &result);
        }
    }

    #[test]
    fn malformed_lines_are_all_reported() {
        let file = SourceFile::new(".dockerignore", "ok\n[a\n!\n# [b\nx[\n");
        let mistakes = Ignore::parse(&file).unwrap_err();
        let lines: Vec<_> =
            mistakes.iter().map(|mistake| mistake.place.as_ref().unwrap().0.position().0).collect();
        assert_eq!(lines, [2, 3, 5]);
    }

    #[test]
    fn sources_are_left_out_by_their_text() {
        let rules = ignore("*.log\nbuild\n");
        for source in ["a.log", "./a.log", "build", "build/x", "build/", "x/../a.log", "*.log"] {
            assert!(rules.leaves_out(source), "{source}");
        }
        for source in ["/a.log", "x/a.log", ".", "/", "builds"] {
            assert!(!rules.leaves_out(source), "{source}");
        }
        assert!(!ignore("*.log\n!a.log\n").leaves_out("b.log"));
    }

    #[test]
    fn paths_are_cleaned_as_in_go() {
        let cases = [
            ("a/b/", "a/b"),
            ("./a", "a"),
            ("a//b/../c", "a/c"),
            ("../x", "../x"),
            ("a/../..", ".."),
            ("/..", "/"),
            ("/../a", "/a"),
            (".", "."),
            ("a/..", "."),
        ];
        for (path, expected) in cases {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn folders_that_nothing_brings_back_are_known() {
        let rules = ignore("node_modules\n!node_modules/keep/*.js\ndist\n");
        assert!(rules.may_reach_below(b"node_modules"));
        assert!(rules.may_reach_below(b"node_modules/keep"));
        assert!(!rules.may_reach_below(b"node_modules/other"));
        assert!(!rules.may_reach_below(b"dist"));
    }

    #[test]
    fn the_ignore_file_of_the_dockerfile_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let dockerfile = root.join("app.Dockerfile");
        assert!(ignore_file(root, Some(&dockerfile)).unwrap().is_none());
        std::fs::write(root.join(".dockerignore"), "a").unwrap();
        assert_eq!(ignore_file(root, Some(&dockerfile)).unwrap().unwrap().name, ".dockerignore");
        std::fs::write(root.join("app.Dockerfile.dockerignore"), "b").unwrap();
        assert_eq!(ignore_file(root, Some(&dockerfile)).unwrap().unwrap().text, "b");
        assert_eq!(ignore_file(root, None).unwrap().unwrap().text, "a");
    }
}
