//! What must hold for any input: the fuzz targets look for inputs where it does not, and an ordinary test
//! replays the saved ones (`fuzz/seeds/TARGET/`). Each input is plain text, so that it can be read and
//! written by hand.

use std::collections::BTreeMap;
use std::path::PathBuf;

use shipway::base::diag::SourceFile;
use shipway::base::worktree::Tracked;
use shipway::compose::{Options, load, outline as uninterpolated, to_json, to_yaml};
use shipway::context::Ignore;
use shipway::dockerfile::{Facts, lint, outline, parse, targets, words};

/// Any text parses or is refused with places inside it; what parses can be checked and outlined.
pub(crate) fn dockerfile_parse(text: &str) {
    let file = SourceFile::new("Dockerfile", text);
    let shown = match parse(&file) {
        Ok(dockerfile) => {
            let facts = Facts::of_file(&dockerfile);
            let last = dockerfile.stages.len() - 1;
            assert_eq!(targets(&dockerfile).len(), last + 1);
            let outline = outline(&dockerfile, &facts, last);
            let places = outline.arguments.iter().map(|argument| &argument.span);
            assert!(places.into_iter().all(|span| text.get(span.range.clone()).is_some()));
            lint::check(&dockerfile, &facts, &|path| path.len() % 2 == 0)
        }
        Err(mistakes) => mistakes,
    };
    for diagnostic in shown {
        if let Some((span, _)) = &diagnostic.place {
            assert!(span.file.text.get(span.range.clone()).is_some(), "{:?}", span.range);
        }
        assert!(!diagnostic.render(false).is_empty());
    }
}

/// Any word expands or is refused, as a whole and as a list alike. The lines of the input: a word, the value
/// of every variable but `unset`, and anything at all for a backtick as the escape character.
pub(crate) fn dockerfile_words(text: &str) {
    let mut lines = text.split('\n');
    let (word, value) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let escape = if lines.next().is_some() { '`' } else { '\\' };
    let lookup = |name: &str| (name != "unset").then(|| value.to_owned());
    let whole = words::expand(word, &lookup, escape);
    let list = words::expand_to_list(word, &lookup, escape);
    assert_eq!(whole.is_ok(), list.is_ok());
    if !words::has_variable(word, escape) {
        assert_eq!(whole, words::expand(word, &|_| None, escape));
    }
    let _ = words::expand_heredoc(text, &lookup);
}

/// Any ignore file is read or refused with places inside it, and any path is decided; without a `!` rule
/// nothing comes back below what is excluded. The first line of the input is a path, the rest the file.
pub(crate) fn ignore_file(text: &str) {
    let (path, rules) = text.split_once('\n').unwrap_or((text, ""));
    let file = SourceFile::new(".dockerignore", rules);
    let ignore = match Ignore::parse(&file) {
        Ok(ignore) => ignore,
        Err(mistakes) => {
            let mut places = mistakes.iter().filter_map(|mistake| mistake.place.as_ref());
            assert!(places.all(|(span, _)| rules.get(span.range.clone()).is_some()));
            return;
        }
    };
    let excluded = ignore.excluded_by(path.as_bytes());
    if let Some(rule) = &excluded {
        assert!(!rule.text.starts_with('!') && rule.line >= 1 && rule.line <= rules.lines().count());
    }
    if excluded.is_some() && !rules.contains('!') {
        assert!(ignore.excluded_by(format!("{path}/below").as_bytes()).is_some());
    }
    let _ = ignore.leaves_out(path);
}

/// Any compose file loads or is refused with places inside it, and what is printed loads to the same
/// project.
pub(crate) fn compose_yaml(text: &str) {
    let files = |text: String| BTreeMap::from([(PathBuf::from("/p/compose.yaml"), text)]);
    let options = Options::new("/p");
    let _ = uninterpolated(&options, &files(text.to_owned()));
    let loaded = match load(&options, &files(text.to_owned())) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| assert!(!mistake.render(false).is_empty()));
            return;
        }
    };
    let mut again = Options::new("/p");
    again.profiles.push("*".to_owned());
    if let Ok(reloaded) = load(&again, &files(to_yaml(&loaded.project))) {
        assert_eq!(to_json(&reloaded.project), to_json(&loaded.project));
    }
}

/// Any text can stand where a value with variables stands; one whose dollars are doubled comes back as it
/// was.
pub(crate) fn compose_interpolation(text: &str) {
    let project = |value: &str| {
        let value = serde_json::Value::String(value.to_owned());
        let text = format!("services: {{a: {{image: x, labels: {{l: {value}}}}}}}");
        let files = BTreeMap::from([(PathBuf::from("/p/compose.yaml"), text)]);
        let mut options = Options::new("/p");
        options.environment.insert("A".to_owned(), "value".to_owned());
        options.environment.insert("B".to_owned(), String::new());
        load(&options, &files)
    };
    let _ = project(text);
    // Slashes are written bare and control characters escaped: any text can be a value.
    if let Ok(loaded) = project(&text.replace('$', "$$")) {
        assert_eq!(loaded.project.services["a"].labels["l"], text);
    }
}

/// Any text is read or refused as `.env`, as an `env_file`, and as one of the raw kind.
pub(crate) fn compose_env_file(text: &str) {
    let project = "services:\n  a: {image: 'x${A}', env_file: e}\n  b: {image: x, env_file: [{path: e, format: raw}]}\n";
    for name in [".env", "e"] {
        let files = BTreeMap::from([
            (PathBuf::from("/p/compose.yaml"), project.to_owned()),
            (PathBuf::from("/p/e"), String::new()),
            (PathBuf::from("/p").join(name), text.to_owned()),
        ]);
        let _ = load(&Options::new("/p"), &files);
    }
}

/// Any index is read or refused; in what is read every folder has its parent, and every name is found. The
/// input is the index in hexadecimal, broken into lines anywhere.
pub(crate) fn git_index(text: &str) {
    let digits: Vec<u8> =
        text.chars().filter_map(|letter| letter.to_digit(16)).map(|digit| digit as u8).collect();
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    for tracked in [20, 32].into_iter().filter_map(|id| Tracked::read(&bytes, id).ok()) {
        for (path, names) in tracked.folders() {
            let parent = path.iter().rposition(|byte| *byte == b'/').map_or(b"".as_slice(), |at| &path[..at]);
            assert!(tracked.folder(parent).is_some());
            assert!(names.all().all(|(name, executable)| names.file(name) == Some(executable)));
        }
    }
}
