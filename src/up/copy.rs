//! Where `cp` puts things: docker's rules for what is there and what is not. Pure.
//!
//! A path is `SERVICE:PATH` or a path of the host; [`direction`] tells which way the copy goes.
//! [`place`] decides, from what the source is and what lies at the destination, in which folder an archive
//! is unpacked and under which name.

/// Which way a copy goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From a path in a service's container to one of the host.
    Out {
        /// The service.
        service: String,
        /// The path in the container.
        from: String,
        /// The path of the host.
        to: String,
    },
    /// From a path of the host to one in a service's containers.
    Into {
        /// The path of the host.
        from: String,
        /// The service.
        service: String,
        /// The path in the container.
        to: String,
    },
}

/// What lies at a destination, links followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum There {
    /// Nothing.
    Nothing,
    /// A folder.
    Folder,
    /// Anything else.
    File,
}

/// Where an archive goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The folder in which it is unpacked; it has to exist.
    pub folder: String,
    /// The name that what is copied gets there; `None`: its own.
    pub name: Option<String>,
}

/// Reads the two arguments of `cp`.
///
/// # Errors
/// Why they cannot be used together.
pub fn direction(source: &str, destination: &str) -> Result<Direction, String> {
    match (in_service(source), in_service(destination)) {
        (Some(_), Some(_)) => Err("copying between services is not supported".to_owned()),
        (Some((service, from)), None) => {
            Ok(Direction::Out { service: service.to_owned(), from: rooted(from), to: destination.to_owned() })
        }
        (None, Some((service, to))) => {
            Ok(Direction::Into { from: source.to_owned(), service: service.to_owned(), to: rooted(to) })
        }
        (None, None) => Err("unknown copy direction: one of the two must be SERVICE:PATH".to_owned()),
    }
}

/// `SERVICE:PATH`; what begins like a path is one, colons in it or not.
fn in_service(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) {
        return None;
    }
    text.split_once(':').filter(|(service, _)| !service.is_empty())
}

/// Paths in a container begin at its root.
fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Where what is copied goes. `source_is_folder`: links followed as the flags say.
///
/// # Errors
/// Why it goes nowhere, in docker's words.
pub fn place(source_is_folder: bool, destination: &str, there: There) -> Result<Placement, &'static str> {
    let (folder, name) = split(destination);
    let renamed = Placement { folder: folder.to_owned(), name: Some(name.to_owned()) };
    match there {
        There::Folder => Ok(Placement { folder: destination.to_owned(), name: None }),
        There::File if source_is_folder => Err("cannot copy directory"),
        There::File if wants_folder(destination) => Err("not a directory"),
        There::Nothing if !source_is_folder && wants_folder(destination) => Err("no such directory"),
        There::File | There::Nothing => Ok(renamed),
    }
}

/// Whether a path can only be a folder's.
pub fn wants_folder(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.") || path == "."
}

/// Whether a source means the content of a folder and not the folder.
pub fn only_content(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// The folder of a path and its last component, trailing slashes aside.
pub fn split(path: &str) -> (&str, &str) {
    let mut bare = path;
    while let Some(shorter) = bare.strip_suffix("/.").or_else(|| bare.strip_suffix('/')) {
        bare = shorter;
    }
    match bare.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None if bare.is_empty() => ("/", "."),
        None => (".", bare),
    }
}

/// The first component of the names in the archive that an engine makes of a path; `.`: none of its own.
pub fn name_in_archive(path: &str) -> &str {
    if only_content(path) {
        return ".";
    }
    let mut names = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.last().unwrap_or(&".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_called_after_what_was_asked_for() {
        let names = ["/etc/hosts", "/x/", "/x/.", "/", "/a/b/..", "/a/..", "/d/../x"].map(name_in_archive);
        assert_eq!(names, ["hosts", "x", ".", ".", "a", ".", "x"]);
    }

    #[test]
    fn one_side_is_a_service() {
        let out =
            Direction::Out { service: "web".to_owned(), from: "/etc/hosts".to_owned(), to: "-".to_owned() };
        assert_eq!(direction("web:etc/hosts", "-"), Ok(out));
        let into =
            Direction::Into { from: "./a:b".to_owned(), service: "web".to_owned(), to: "/x".to_owned() };
        assert_eq!(direction("./a:b", "web:/x"), Ok(into));
        assert!(direction("a", "b").is_err() && direction("a:/x", "b:/y").is_err());
    }

    #[test]
    fn the_place_follows_what_is_there() {
        let at = |folder: &str, name: Option<&str>| {
            Ok(Placement { folder: folder.to_owned(), name: name.map(str::to_owned) })
        };
        assert_eq!(place(true, "/d", There::Folder), at("/d", None));
        assert_eq!(place(false, "/d/", There::Folder), at("/d/", None));
        assert_eq!(place(true, "/d/new", There::Nothing), at("/d", Some("new")));
        assert_eq!(place(true, "/new/", There::Nothing), at("/", Some("new")));
        assert_eq!(place(false, "new", There::Nothing), at(".", Some("new")));
        assert_eq!(place(false, "/d/old", There::File), at("/d", Some("old")));
        assert_eq!(place(true, "/d/old", There::File), Err("cannot copy directory"));
        assert_eq!(place(false, "/d/old/", There::File), Err("not a directory"));
        assert_eq!(place(false, "/d/new/", There::Nothing), Err("no such directory"));
    }

    #[test]
    fn paths_are_taken_apart_without_their_slashes() {
        assert_eq!(split("/a/b/"), ("/a", "b"));
        assert_eq!(split("/a/."), ("/", "a"));
        assert_eq!(split("a"), (".", "a"));
        assert_eq!(split("/"), ("/", "."));
        assert!(only_content("a/.") && only_content(".") && !only_content("a/"));
    }
}
