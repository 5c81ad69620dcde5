//! Which strings of a compose file are paths of the host, and how they become absolute.
//!
//! Pure text: nothing here looks at a disk, so links are not followed.

use std::path::Path;

/// Whether a build context is fetched from a network: a URL, or one of git's short forms.
pub(super) fn is_remote_context(context: &str) -> bool {
    const PREFIXES: &[&str] = &["https://", "http://", "git://", "ssh://", "github.com/", "git@"];
    PREFIXES.iter().any(|prefix| context.starts_with(prefix))
}

/// Whether a value of `additional_contexts` is anything but a folder.
pub(super) fn is_other_context(context: &str) -> bool {
    context.contains("://") || context.starts_with("service:") || is_remote_context(context)
}

/// A path, absolute and without `.` and `..` when it was relative; an absolute one stays as it is.
pub(super) fn absolute(path: &str, folder: &Path, home: Option<&str>) -> String {
    if let (Some(rest), Some(home)) = (path.strip_prefix('~'), home)
        && (rest.is_empty() || rest.starts_with('/'))
    {
        return clean(&format!("{home}{rest}"));
    }
    if path.starts_with('/') || is_windows(path) {
        return path.to_owned();
    }
    clean(&format!("{}/{path}", folder.display()))
}

/// Whether a path is absolute on Windows; such a path is passed on untouched.
fn is_windows(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.starts_with("\\\\")
        || matches!(bytes, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic())
}

/// Go's `path.Clean`: no empty parts, no `.`, `..` taken back; `.` when nothing is left.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute() {
        let absolute = |path| absolute(path, Path::new("/p/q"), Some("/h"));
        for (path, meant) in [
            ("a", "/p/q/a"),
            ("./a/../b", "/p/q/b"),
            ("..", "/p"),
            (".", "/p/q"),
            ("~/x", "/h/x"),
            ("~", "/h"),
            ("~x", "/p/q/~x"),
            ("/a/../b/", "/a/../b/"),
            ("C:\\a", "C:\\a"),
        ] {
            assert_eq!(absolute(path), meant, "{path}");
        }
        assert_eq!(clean("../a/./b/.."), "../a");
    }
}
