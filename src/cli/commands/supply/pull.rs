//! The engine's own pulls, several at once, with the user's logins.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use crate::base::cancel::Cancel;
use crate::base::event::{Events, Silent};
use crate::cli::commands::Context;
use crate::cli::failure::Failure;
use crate::engine::{Credentials, Docker, Engine, EngineError};
use crate::oci::{Login, Reference};

/// With what images are pulled.
pub(in crate::cli) struct Pulling<'p> {
    pub(in crate::cli) context: &'p Context<'p>,
    pub(in crate::cli) engine: &'p Docker,
    /// Show no progress.
    pub(in crate::cli) quiet: bool,
    pub(in crate::cli) cancel: &'p Cancel,
}

/// An image to pull and the platform that is asked for, if any.
pub(in crate::cli) type Wanted = (String, Option<String>);

/// Lets the engine pull images, several at once; what became of each. Logins that cannot be read are an error
/// before anything begins.
pub(in crate::cli) fn pull_all(
    with: &Pulling<'_>,
    wanted: &BTreeSet<Wanted>,
) -> Result<BTreeMap<Wanted, Result<(), EngineError>>, Failure> {
    let mut left = Vec::new();
    for image in wanted {
        left.push((image.clone(), credentials(with.context, &image.0)?));
    }
    left.reverse();
    let at_once = with.context.actions(with.engine).clamp(1, left.len().max(1));
    let (left, done) = (std::sync::Mutex::new(left), std::sync::Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some((image, login)) = locked(&left).pop() {
                    let result = pull(with, &image, login.as_ref());
                    locked(&done).insert(image, result);
                }
            });
        }
    });
    Ok(done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn pull(
    with: &Pulling<'_>,
    (name, platform): &Wanted,
    login: Option<&Credentials>,
) -> Result<(), EngineError> {
    let default = with.context.settings.default_platform.as_deref();
    let events: &dyn Events = if with.quiet { &Silent } else { with.context.screen };
    with.engine.pull(name, platform.as_deref().or(default), login, events, with.cancel)
}

/// The user's login at the registry of `name`, for the engine.
fn credentials(context: &Context<'_>, name: &str) -> Result<Option<Credentials>, Failure> {
    let (Some(folder), Ok(name)) = (&context.settings.docker_config, Reference::parse(name)) else {
        return Ok(None);
    };
    let login = crate::oci::Credentials::from_folder(folder).login(name.registry());
    Ok(match login.map_err(|error| Failure::Usage(error.to_string()))? {
        Login::Nobody => None,
        Login::Password { name: user, password } => Some(Credentials::Password { user, password }),
        Login::Identity(token) => Some(Credentials::Token(token)),
        Login::Bearer(token) => Some(Credentials::Bearer(token)),
    })
}
