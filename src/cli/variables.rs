//! The variables of the environment that count, as one table: the reference and the manual pages are made of
//! it, and a test finds every variable in it that the sources read.
//!
//! Nothing is read here: [`settings`](super::settings) does that, and `compose::load` for what decides which
//! project it is.

/// One variable.
pub(super) struct Variable {
    /// Its name.
    pub(super) name: &'static str,
    /// Whose it is.
    pub(super) group: Group,
    /// The flag that beats it, if there is one: `--file`, or `image build --platform` of one command alone. One
    /// that stands before the command's name is that one only.
    pub(super) flag: Option<&'static str>,
    /// What it does, as one sentence.
    pub(super) meaning: &'static str,
}

/// Whose a variable is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Shipway's own.
    Own,
    /// Docker Compose's.
    Compose,
    /// Those of the docker command and of buildx.
    Docker,
    /// The machine's: other programs read them too.
    Machine,
    /// No variable of the environment but an argument of a build (`--build-arg`) that the builder reads.
    Argument,
}

impl Group {
    /// The groups in the order in which they are shown.
    pub(super) const ALL: [Self; 5] = [Self::Own, Self::Compose, Self::Docker, Self::Machine, Self::Argument];

    /// What stands above the group.
    pub(super) const fn heading(self) -> &'static str {
        match self {
            Self::Own => "Shipway's own variables",
            Self::Compose => "Docker Compose's variables",
            Self::Docker => "Docker's variables",
            Self::Machine => "Variables of the machine",
            Self::Argument => "Build arguments that the builder reads",
        }
    }
}

const fn row(group: Group, name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, group, flag: None, meaning }
}

const fn for_flag(group: Group, name: &'static str, flag: &'static str, meaning: &'static str) -> Variable {
    Variable { name, group, flag: Some(flag), meaning }
}

use Group::{Argument, Compose, Docker, Machine, Own};

/// Every variable, each group by name.
pub(super) const VARIABLES: &[Variable] = &[
    row(
        Own,
        "SHIPWAY_CACHE_LIMIT",
        "How large the store may become: `20GB`, `10%` of its file system (default: `25%`), or `none`.",
    ),
    for_flag(
        Own,
        "SHIPWAY_INSECURE_REGISTRIES",
        "--insecure-registry",
        "Registries that need not show a certificate that is trusted, with commas between them; added to those of the flag.",
    ),
    row(
        Own,
        "SHIPWAY_STORE",
        "Where the store lies (default: `/var/lib/shipway` for root, else `shipway` below `XDG_DATA_HOME`).",
    ),
    for_flag(Compose, "COMPOSE_ANSI", "--ansi", "Whether control sequences are printed."),
    for_flag(
        Compose,
        "COMPOSE_COMPATIBILITY",
        "--compatibility",
        "Whether `_` stands between the parts of names.",
    ),
    row(Compose, "COMPOSE_DISABLE_ENV_FILE", "Whether `.env` is left unread."),
    for_flag(
        Compose,
        "COMPOSE_ENV_FILES",
        "--env-file",
        "Environment files to read instead of `.env`, with commas between them.",
    ),
    row(
        Compose,
        "COMPOSE_EXPERIMENTAL_GIT_REMOTE",
        "Refused when true: compose files of git repositories are not supported yet.",
    ),
    row(
        Compose,
        "COMPOSE_EXPERIMENTAL_OCI_REMOTE",
        "Refused when true: compose files of registries are not supported yet.",
    ),
    for_flag(Compose, "COMPOSE_FILE", "--file", "Compose files, with `COMPOSE_PATH_SEPARATOR` between them."),
    row(
        Compose,
        "COMPOSE_IGNORE_ORPHANS",
        "Whether nothing is said about containers of services that the project does not have.",
    ),
    row(Compose, "COMPOSE_MENU", "Warned about when true: there is no menu."),
    for_flag(
        Compose,
        "COMPOSE_PARALLEL_LIMIT",
        "--parallel",
        "How many steps run at once and how many things the engine is asked to do, `-1` for no limit.",
    ),
    row(Compose, "COMPOSE_PATH_SEPARATOR", "What stands between the files of `COMPOSE_FILE` (default: `:`)."),
    for_flag(
        Compose,
        "COMPOSE_PROFILES",
        "--profile",
        "Profiles to enable, with commas between them; added to those of the flag.",
    ),
    for_flag(Compose, "COMPOSE_PROGRESS", "--progress", "How progress is shown."),
    for_flag(
        Compose,
        "COMPOSE_PROJECT_NAME",
        "--project-name",
        "The project's name; compose files may use it, however the name was given.",
    ),
    for_flag(
        Compose,
        "COMPOSE_REMOVE_ORPHANS",
        "--remove-orphans",
        "Whether containers of services that the project does not have are removed.",
    ),
    row(
        Compose,
        "COMPOSE_STATUS_STDOUT",
        "Whether progress goes to standard output instead of standard error.",
    ),
    for_flag(
        Docker,
        "BUILDKIT_PROGRESS",
        "--progress",
        "How progress is shown, where `COMPOSE_PROGRESS` does not say it.",
    ),
    row(
        Docker,
        "DOCKER_API_VERSION",
        "The version of the API that requests to the engine name (default: the engine's own).",
    ),
    row(
        Docker,
        "DOCKER_CERT_PATH",
        "The folder with `ca.pem`, `cert.pem` and `key.pem` for TLS (default: that of docker's configuration).",
    ),
    row(
        Docker,
        "DOCKER_CONFIG",
        "The folder of docker's configuration, with logins and contexts (default: `~/.docker`).",
    ),
    row(
        Docker,
        "DOCKER_CONTEXT",
        "The context of docker's that says where the engine is, where `DOCKER_HOST` does not.",
    ),
    for_flag(
        Docker,
        "DOCKER_DEFAULT_PLATFORM",
        "image build --platform",
        "The platform of images that name none.",
    ),
    row(Docker, "DOCKER_HOST", "Where the engine is: `unix://PATH`, `tcp://HOST:PORT` or `ssh://USER@HOST`."),
    row(Docker, "DOCKER_TLS", "If set, the engine is spoken to over TLS, whoever it is."),
    row(
        Docker,
        "DOCKER_TLS_VERIFY",
        "If set, the engine is spoken to over TLS and must show a certificate that is trusted.",
    ),
    row(Machine, "ALL_PROXY", "The proxy for registries and URLs that no other variable names one for."),
    row(
        Machine,
        "CI",
        "If set to anything but `false` or `0`, `--progress auto` shows lines, also on a terminal.",
    ),
    row(Machine, "HOME", "The user's folder: `~` in compose files, and where other folders are by default."),
    row(Machine, "HTTPS_PROXY", "The proxy for HTTPS, of registries and URLs."),
    row(Machine, "HTTP_PROXY", "The proxy for plain HTTP, of registries and URLs."),
    row(
        Machine,
        "NO_COLOR",
        "If set, no control sequences are printed unless flag or `COMPOSE_ANSI` ask for them.",
    ),
    row(Machine, "NO_PROXY", "Hosts that are reached without a proxy, with commas between them."),
    row(Machine, "PATH", "Where `git`, `ssh` and docker's credential helpers are found."),
    row(
        Machine,
        "PWD",
        "The working directory by the name that the shell knows it by, if it is that folder.",
    ),
    for_flag(
        Machine,
        "SOURCE_DATE_EPOCH",
        "--timestamp",
        "The time that images say they were made at, in seconds since 1970.",
    ),
    row(Machine, "SSH_AUTH_SOCK", "The socket of the ssh agent that `--ssh default` passes on to steps."),
    row(Machine, "SSL_CERT_DIR", "Folders with the authorities that are trusted, instead of the system's."),
    row(Machine, "SSL_CERT_FILE", "A file with the authorities that are trusted, instead of the system's."),
    row(Machine, "TERM", "If it is `dumb`, `--progress auto` shows lines."),
    row(Machine, "XDG_CONFIG_HOME", "Where the user's `docker/certs.d` lies (default: `~/.config`)."),
    row(
        Machine,
        "XDG_DATA_HOME",
        "Where the store of a user who is not root lies (default: `~/.local/share`).",
    ),
    row(Argument, "BUILDKIT_BUILD_NAME", "Without effect: steps are shown by service and stage."),
    row(Argument, "BUILDKIT_CACHE_MOUNT_NS", "The name space of the ids of cache mounts."),
    row(
        Argument,
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
        "Whether a git repository that is a build context keeps its `.git`.",
    ),
    row(
        Argument,
        "BUILDKIT_DOCKERFILE_CHECK",
        "Which build checks are skipped, and whether those that find something fail the build.",
    ),
    row(Argument, "BUILDKIT_INLINE_CACHE", "Without effect: no image carries a cache."),
    row(Argument, "BUILDKIT_MULTI_PLATFORM", "Without effect: an image is built for one platform."),
    row(Argument, "BUILDKIT_SANDBOX_HOSTNAME", "The hostname that RUN sees."),
    row(Argument, "BUILDKIT_SYNTAX", "Without effect: the grammar of the built-in frontend is used."),
    row(
        Argument,
        "FTP_PROXY",
        "Seen by RUN without a declaration and left out of keys, as are `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, `ALL_PROXY` and all in small letters.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    /// What only tests read.
    const OF_TESTS: &[&str] = &["SHIPWAY_TEST_", "SHIPWAY_STORE_TRIAL"];

    /// How the names of variables begin that are one wherever a literal begins with them.
    const FAMILIES: &[&str] = &["SHIPWAY_", "COMPOSE_", "DOCKER_", "BUILDKIT_", "XDG_"];

    /// What stands before the name of a variable where one is read.
    const READS: &[&str] =
        &["(environment, \"", "environment.get(\"", "variables.values.get(\"", "context.environment.get(\""];

    fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => rust_files(&path, found),
                false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
                false => {}
            }
        }
    }

    fn is_of_a_name(letter: char) -> bool {
        letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'
    }

    /// The variables that a source file mentions.
    fn mentioned(text: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let of_a_family =
            |name: &&str| FAMILIES.iter().any(|family| name.len() > family.len() && name.starts_with(family));
        let literals = text.split('"').filter_map(|rest| rest.split(|letter| !is_of_a_name(letter)).next());
        found.extend(literals.filter(of_a_family).map(str::to_owned));
        for read in READS {
            let after = text.split(read).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(
                after.filter(|name| !name.is_empty() && name.chars().all(is_of_a_name)).map(str::to_owned),
            );
        }
        found
    }

    #[test]
    fn every_variable_that_the_sources_mention_stands_in_the_table() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        rust_files(&source, &mut files);
        let mut unknown = BTreeSet::new();
        for file in files.iter().filter(|file| !file.ends_with("cli/variables.rs")) {
            for name in mentioned(&std::fs::read_to_string(file).unwrap()) {
                let of_tests = OF_TESTS.iter().any(|prefix| name.starts_with(prefix));
                if !of_tests && !VARIABLES.iter().any(|variable| variable.name == name) {
                    unknown.insert(format!("{name} of {}", file.strip_prefix(&source).unwrap().display()));
                }
            }
        }
        assert!(unknown.is_empty(), "src/cli/variables.rs lacks {unknown:#?}");
    }

    #[test]
    fn the_table_is_in_order() {
        for group in Group::ALL {
            let names = VARIABLES.iter().filter(|row| row.group == group).map(|row| row.name);
            assert!(names.is_sorted(), "{group:?}");
        }
        let once: BTreeSet<_> = VARIABLES.iter().map(|row| row.name).collect();
        assert_eq!(once.len(), VARIABLES.len());
        assert!(VARIABLES.iter().all(|row| row.meaning.ends_with('.')));
    }
}
