//! The command line and the environment, resolved to one value: the flag, else the variable, else the
//! default. Pure; what must be said about a variable is returned with it.
//!
//! Variables are compose's (`COMPOSE_*`), docker's (`DOCKER_*`, `BUILDKIT_PROGRESS`), `NO_COLOR`, and
//! `SHIPWAY_STORE`, `SHIPWAY_CACHE_LIMIT` and `SHIPWAY_INSECURE_REGISTRIES`. Those that decide which project it is (`COMPOSE_FILE`, `COMPOSE_PROFILES` …) are read
//! by `compose::load`. A project's `.env` may set variables too: settings are resolved a second time once
//! it has been read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::args::{Ansi, EngineChoice, Global, Progress};
use super::endpoint::EngineVariables;
use super::quantity;

/// Everything that commands need to know about how they were called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Settings {
    /// How many steps run at once, and things that the engine does; `None`: one a core, and many.
    pub(super) parallel: Option<usize>,
    /// How progress is shown.
    pub(super) progress: Progress,
    /// Whether control sequences are printed.
    pub(super) ansi: Ansi,
    /// Whether progress goes to standard output.
    pub(super) status_on_stdout: bool,
    /// Show what would be done and do nothing.
    pub(super) dry_run: bool,
    /// Ask nobody on the network.
    pub(super) offline: bool,
    /// Which engine gets the images.
    pub(super) engine: EngineChoice,
    /// What the variables say about the engine.
    pub(super) engine_variables: EngineVariables,
    /// The folder of docker's own configuration.
    pub(super) docker_config: Option<PathBuf>,
    /// Folders with certificates of registries, the first to count first.
    pub(super) certificates: Vec<PathBuf>,
    /// Registries that need not show who they are.
    pub(super) insecure_registries: Vec<String>,
    /// The platform of images that name none.
    pub(super) default_platform: Option<String>,
    /// Remove containers of unknown services.
    pub(super) remove_orphans: bool,
    /// Say nothing about containers of unknown services.
    pub(super) ignore_orphans: bool,
    /// Where results are kept.
    pub(super) store: PathBuf,
    /// How large that may become.
    pub(super) cache_limit: CacheLimit,
    /// What the user should know about the variables.
    pub(super) warnings: Vec<String>,
}

/// How large the store may become by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheLimit {
    /// As large as the disk.
    None,
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of its file system.
    Share(u8),
}

impl Default for CacheLimit {
    fn default() -> Self {
        Self::Share(25)
    }
}

impl CacheLimit {
    /// The limit in bytes on a file system of this size; `None` if there is none.
    pub(super) const fn bytes(self, capacity: u64) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Bytes(bytes) => Some(bytes),
            Self::Share(share) => Some(capacity / 100 * share as u64),
        }
    }
}

/// Who calls: what decides about the store's place beside the variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    /// Whether it is root.
    pub(super) root: bool,
}

impl Caller {
    /// This process.
    pub(super) fn this() -> Self {
        Self { root: rustix::process::geteuid().is_root() }
    }
}

type Environment = BTreeMap<String, String>;

impl Settings {
    /// Resolves flags and variables; the error is a sentence for the user.
    pub(super) fn resolve(
        global: &Global,
        environment: &Environment,
        caller: Caller,
    ) -> Result<Self, String> {
        refuse(environment)?;
        Ok(Self {
            parallel: parallel(global, environment)?,
            progress: progress(global, environment)?,
            ansi: ansi(global, environment)?,
            status_on_stdout: is_true(environment, "COMPOSE_STATUS_STDOUT"),
            dry_run: global.dry_run,
            offline: global.offline,
            engine: global.engine.unwrap_or_default(),
            engine_variables: engine_variables(environment),
            docker_config: owned(environment, "DOCKER_CONFIG")
                .map(PathBuf::from)
                .or_else(|| Some(Path::new(get(environment, "HOME")?).join(".docker"))),
            certificates: certificates(environment),
            insecure_registries: insecure_registries(global, environment)?,
            default_platform: owned(environment, "DOCKER_DEFAULT_PLATFORM"),
            remove_orphans: is_true(environment, "COMPOSE_REMOVE_ORPHANS"),
            ignore_orphans: is_true(environment, "COMPOSE_IGNORE_ORPHANS"),
            store: store(environment, caller)?,
            cache_limit: cache_limit(environment)?,
            warnings: warnings(environment),
        })
    }

    /// Whether containers of unknown services go: the flag or the variable, which must not contradict.
    pub(super) fn orphans_go(&self, flag: bool) -> Result<bool, String> {
        if flag && self.ignore_orphans {
            return Err("cannot combine COMPOSE_IGNORE_ORPHANS and --remove-orphans".to_owned());
        }
        Ok(flag || self.remove_orphans)
    }
}

fn refuse(environment: &Environment) -> Result<(), String> {
    for name in ["COMPOSE_EXPERIMENTAL_GIT_REMOTE", "COMPOSE_EXPERIMENTAL_OCI_REMOTE"] {
        if is_true(environment, name) {
            return Err(format!("not supported yet: {name}"));
        }
    }
    Ok(())
}

/// Where Docker keeps certificates of registries: the user's own folder (of an Engine without root), then the
/// machine's.
fn certificates(environment: &Environment) -> Vec<PathBuf> {
    let home = || Some(Path::new(get(environment, "HOME")?).join(".config"));
    let own = get(environment, "XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    let own = own.map(|folder| folder.join("docker/certs.d"));
    own.into_iter().chain([PathBuf::from("/etc/docker/certs.d")]).collect()
}

/// Those of the flag and those of the variable, which has commas or spaces between them.
fn insecure_registries(global: &Global, environment: &Environment) -> Result<Vec<String>, String> {
    let variable = get(environment, "SHIPWAY_INSECURE_REGISTRIES").unwrap_or_default();
    let variable = variable.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned);
    let all: Vec<String> = global.insecure_registries.iter().cloned().chain(variable).collect();
    match all.iter().find(|name| name.is_empty() || name.contains(['/', '@', ' '])) {
        Some(wrong) => Err(format!("an insecure registry is named as HOST or HOST:PORT, not `{wrong}`")),
        None => Ok(all),
    }
}

fn engine_variables(environment: &Environment) -> EngineVariables {
    EngineVariables {
        host: owned(environment, "DOCKER_HOST"),
        context: owned(environment, "DOCKER_CONTEXT"),
        tls: get(environment, "DOCKER_TLS").is_some(),
        tls_verify: get(environment, "DOCKER_TLS_VERIFY").is_some(),
        cert_path: owned(environment, "DOCKER_CERT_PATH").map(PathBuf::from),
        api: owned(environment, "DOCKER_API_VERSION"),
    }
}

fn warnings(environment: &Environment) -> Vec<String> {
    let mut warnings = Vec::new();
    if is_true(environment, "COMPOSE_MENU") {
        warnings.push("COMPOSE_MENU has no effect: there is no menu yet".to_owned());
    }
    warnings
}

fn parallel(global: &Global, environment: &Environment) -> Result<Option<usize>, String> {
    let limit = match (global.parallel, get(environment, "COMPOSE_PARALLEL_LIMIT")) {
        (Some(limit), _) => limit,
        (None, None) => return Ok(None),
        (None, Some(text)) => text
            .parse()
            .map_err(|_| format!("COMPOSE_PARALLEL_LIMIT must be a whole number, not `{text}`"))?,
    };
    match limit {
        -1 => Ok(Some(usize::MAX)),
        0 => Ok(None),
        limit => usize::try_from(limit)
            .map(Some)
            .map_err(|_| format!("the parallel limit must be -1 or more, not {limit}")),
    }
}

fn progress(global: &Global, environment: &Environment) -> Result<Progress, String> {
    let named = ["COMPOSE_PROGRESS", "BUILDKIT_PROGRESS"];
    let progress = match global.progress {
        Some(progress) => progress,
        None => choice(environment, &named)?.unwrap_or_default(),
    };
    Ok(if progress == Progress::Auto { usual(environment) } else { progress })
}

/// Nobody watches a CI, and a dumb terminal cannot move its cursor.
fn usual(environment: &Environment) -> Progress {
    let ci = get(environment, "CI").is_some_and(|ci| !["false", "0"].contains(&ci));
    if ci || get(environment, "TERM") == Some("dumb") { Progress::Lines } else { Progress::Auto }
}

fn ansi(global: &Global, environment: &Environment) -> Result<Ansi, String> {
    if let Some(ansi) = global.ansi {
        return Ok(ansi);
    }
    let named = choice(environment, &["COMPOSE_ANSI"])?;
    let refused = get(environment, "NO_COLOR").is_some() || get(environment, "TERM") == Some("dumb");
    Ok(named.or(refused.then_some(Ansi::Never)).unwrap_or_default())
}

/// The value of the first of these variables that is set.
fn choice<T: ValueEnum>(environment: &Environment, names: &[&str]) -> Result<Option<T>, String> {
    let set = names.iter().find_map(|name| Some((*name, get(environment, name)?)));
    let Some((name, text)) = set else { return Ok(None) };
    T::from_str(text, true).map(Some).map_err(|_| {
        let known: Vec<_> = T::value_variants()
            .iter()
            .filter_map(|variant| Some(variant.to_possible_value()?.get_name().to_owned()))
            .collect();
        format!("{name} must be one of {}, not `{text}`", known.join(", "))
    })
}

/// `$SHIPWAY_STORE`, else `/var/lib/shipway` for root, else `$XDG_DATA_HOME/shipway`.
fn store(environment: &Environment, caller: Caller) -> Result<PathBuf, String> {
    if let Some(store) = get(environment, "SHIPWAY_STORE") {
        return Ok(PathBuf::from(store));
    }
    if caller.root {
        return Ok(PathBuf::from("/var/lib/shipway"));
    }
    if let Some(data) = get(environment, "XDG_DATA_HOME") {
        return Ok(Path::new(data).join("shipway"));
    }
    match get(environment, "HOME") {
        Some(home) => Ok(Path::new(home).join(".local/share/shipway")),
        None => Err("there is no place for the store\nhelp: set SHIPWAY_STORE or HOME".to_owned()),
    }
}

fn cache_limit(environment: &Environment) -> Result<CacheLimit, String> {
    match get(environment, "SHIPWAY_CACHE_LIMIT") {
        Some(text) => quantity::limit(text).map_err(|error| format!("SHIPWAY_CACHE_LIMIT: {error}")),
        None => Ok(CacheLimit::default()),
    }
}

/// A variable that is set to something.
fn get<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn owned(environment: &Environment, name: &str) -> Option<String> {
    get(environment, name).map(str::to_owned)
}

fn is_true(environment: &Environment, name: &str) -> bool {
    let value = get(environment, name).map(str::to_ascii_lowercase);
    matches!(value.as_deref(), Some("1" | "t" | "true" | "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Caller = Caller { root: true };

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn resolve(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::resolve(&Global::default(), &environment(pairs), ROOT)
    }

    #[test]
    fn variables_stand_in_for_flags() {
        let settings = resolve(&[
            ("COMPOSE_PARALLEL_LIMIT", "3"),
            ("COMPOSE_PROGRESS", "plain"),
            ("COMPOSE_ANSI", "always"),
            ("COMPOSE_STATUS_STDOUT", "1"),
            ("COMPOSE_REMOVE_ORPHANS", "true"),
            ("SHIPWAY_STORE", "/store"),
            ("SHIPWAY_CACHE_LIMIT", "10%"),
            ("COMPOSE_MENU", "true"),
        ]);
        let settings = settings.unwrap();
        assert_eq!((settings.parallel, settings.progress), (Some(3), Progress::Plain));
        assert_eq!((settings.ansi, settings.status_on_stdout), (Ansi::Always, true));
        assert!(settings.orphans_go(false).unwrap());
        assert_eq!(settings.store, Path::new("/store"));
        assert_eq!(settings.cache_limit.bytes(1000), Some(100));
        assert_eq!(settings.warnings.len(), 1);
    }

    #[test]
    fn flags_beat_variables() {
        let global = Global {
            parallel: Some(-1),
            progress: Some(Progress::Json),
            ansi: Some(Ansi::Auto),
            ..Global::default()
        };
        let variables = environment(&[
            ("COMPOSE_PARALLEL_LIMIT", "nonsense"),
            ("COMPOSE_PROGRESS", "plain"),
            ("NO_COLOR", "1"),
        ]);
        let settings = Settings::resolve(&global, &variables, ROOT).unwrap();
        assert_eq!((settings.parallel, settings.progress), (Some(usize::MAX), Progress::Json));
        assert_eq!(settings.ansi, Ansi::Auto);
    }

    #[test]
    fn nobody_watches_a_ci() {
        let progress = |pairs: &[(&str, &str)]| {
            let pairs = [pairs, &[("HOME", "/root")]].concat();
            Settings::resolve(&Global::default(), &environment(&pairs), ROOT).unwrap().progress
        };
        assert_eq!(progress(&[("TERM", "xterm")]), Progress::Auto);
        assert_eq!(progress(&[("CI", "false")]), Progress::Auto);
        assert_eq!(progress(&[("CI", "true")]), Progress::Lines);
        assert_eq!(progress(&[("CI", "1"), ("COMPOSE_PROGRESS", "auto")]), Progress::Lines);
        assert_eq!(progress(&[("CI", "1"), ("COMPOSE_PROGRESS", "tty")]), Progress::Tty);
        assert_eq!(progress(&[("TERM", "dumb")]), Progress::Lines);
    }

    #[test]
    fn values_that_mean_nothing_and_variables_that_are_missing_are_refused() {
        for (pair, expected) in [
            (("COMPOSE_PARALLEL_LIMIT", "many"), "COMPOSE_PARALLEL_LIMIT must be a whole number, not `many`"),
            (("COMPOSE_PARALLEL_LIMIT", "-7"), "the parallel limit must be -1 or more, not -7"),
            (
                ("COMPOSE_PROGRESS", "loud"),
                "COMPOSE_PROGRESS must be one of auto, tty, lines, plain, json, quiet, not `loud`",
            ),
            (
                ("SHIPWAY_CACHE_LIMIT", "much"),
                "SHIPWAY_CACHE_LIMIT: `much` is not a size such as 20GB, a share such as 20%, or `none`",
            ),
            (
                ("COMPOSE_EXPERIMENTAL_GIT_REMOTE", "true"),
                "not supported yet: COMPOSE_EXPERIMENTAL_GIT_REMOTE",
            ),
        ] {
            assert_eq!(resolve(&[pair]).unwrap_err(), expected);
        }
        let ignoring = resolve(&[("COMPOSE_IGNORE_ORPHANS", "true")]).unwrap();
        assert!(ignoring.orphans_go(true).is_err() && !ignoring.orphans_go(false).unwrap());
    }

    #[test]
    fn insecure_registries_are_named_and_certificates_lie_where_docker_has_them() {
        let global = Global { insecure_registries: vec!["a:5000".into()], ..Global::default() };
        let resolve = |pairs: &[(&str, &str)]| Settings::resolve(&global, &environment(pairs), ROOT);
        let settings = resolve(&[("SHIPWAY_INSECURE_REGISTRIES", "b, c:1"), ("HOME", "/h")]).unwrap();
        assert_eq!(settings.insecure_registries, ["a:5000", "b", "c:1"]);
        let folders = ["/h/.config/docker/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
        assert_eq!(settings.certificates, folders);
        let settings = resolve(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]).unwrap();
        assert_eq!(settings.certificates[0], Path::new("/x/docker/certs.d"));
        let error = resolve(&[("SHIPWAY_INSECURE_REGISTRIES", "http://b")]).unwrap_err();
        assert_eq!(error, "an insecure registry is named as HOST or HOST:PORT, not `http://b`");
    }

    #[test]
    fn the_store_lies_where_the_caller_may_write() {
        let store = |pairs: &[(&str, &str)], root| store(&environment(pairs), Caller { root });
        assert_eq!(store(&[("HOME", "/h")], true).unwrap(), Path::new("/var/lib/shipway"));
        assert_eq!(store(&[("HOME", "/h")], false).unwrap(), Path::new("/h/.local/share/shipway"));
        assert_eq!(store(&[("XDG_DATA_HOME", "/d")], false).unwrap(), Path::new("/d/shipway"));
        assert!(store(&[], false).is_err());
    }
}
