//! What tests of every module need: golden files and skipping what this machine cannot run.
//!
//! Only tests are compiled with it. Two variables of the environment matter: `UPDATE_GOLDEN` rewrites
//! expected files, `SHIPWAY_TEST_ALL` turns a skipped test into a failed one.

use std::path::Path;

use super::fs::PathError;

/// Whether a variable is set to something.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment how to run")]
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// `condition`, having said what is missing if it does not hold; the test returns then.
///
/// # Panics
/// With `SHIPWAY_TEST_ALL` set, where every test has to run.
pub(crate) fn available(condition: bool, what: &str) -> bool {
    if !condition {
        assert!(!is_set("SHIPWAY_TEST_ALL"), "this test needs {what}");
        eprintln!("skipped: needs {what}");
    }
    condition
}

/// Whether the test runs as root; see [`available`].
pub(crate) fn as_root() -> bool {
    available(rustix::process::geteuid().is_root(), "root")
}

/// Compares `actual` with the file at `path` below the package's folder, or rewrites that file.
///
/// # Panics
/// If they differ or the file cannot be used.
#[track_caller]
pub(crate) fn golden(path: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if is_set("UPDATE_GOLDEN") {
        std::fs::write(&path, actual)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
    let expected = std::fs::read_to_string(&path);
    let expected = expected.unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    assert!(actual == expected, "{} expects\n{expected}\nbut this came:\n{actual}", path.display());
}

/// Gives an enum of errors `samples()`: samples of its variants, each headed by `Type::Variant`. A variant
/// that has none does not compile; one that speaks in several ways may have several.
macro_rules! samples {
    ($type:ident: $($variant:ident $(($($value:expr),*))? $({$($field:ident: $of:expr),* $(,)?})?),* $(,)?) => {
        impl $type {
            /// At least one of each variant.
            pub(crate) fn samples() -> Vec<(&'static str, Self)> {
                let all = vec![$((
                    concat!(stringify!($type), "::", stringify!($variant)),
                    Self::$variant $(($($value),*))? $({$($field: $of),*})?,
                )),*];
                #[allow(unreachable_patterns, reason = "a variant may have several samples")]
                all.iter().for_each(|(_, sample)| match sample {
                    $(Self::$variant { .. } => {})*
                });
                all
            }
        }
    };
}
pub(crate) use samples;

/// What the system says where it denies something, as a sample.
pub(crate) fn denied() -> std::io::Error {
    rustix::io::Errno::ACCESS.into()
}

/// The same of a file.
pub(crate) fn no_access() -> PathError {
    PathError::new("open", "/srv/app/notes.txt", denied())
}

/// The variable's value, where a test needs an address from outside: `SHIPWAY_TEST_REGISTRY`.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment how to run")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Runs git in a folder, away from the user's settings; false, having said so, where there is no git.
///
/// # Panics
/// If git fails.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment how to run")]
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> bool {
    let mut command = std::process::Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "safe.directory=*"]);
    command.args(arguments).current_dir(folder).env_clear();
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent");
    let output = command.output();
    if let Ok(output) = &output {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {}: {said}", arguments.join(" "));
    }
    available(output.is_ok(), "git")
}
