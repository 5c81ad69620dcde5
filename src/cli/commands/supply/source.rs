//! Where the image of a service comes from, by its file and the flags. Pure.
//!
//! Flags go before the file's `pull_policy`, as with compose: `--build` builds whatever can be built,
//! `--pull` holds for every service. Beside `build`, a policy that pulls is tried first and the build takes
//! its place when the pull fails.

use std::time::Duration;

use crate::cli::args::Pull;
use crate::cli::quantity;
use crate::compose::Service;

use super::Choice;

/// Where a service's image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The builder.
    Build,
    /// The engine, which pulls it then; the builder where that fails.
    EngineElseBuild(When),
    /// The engine, which pulls it then.
    Engine(When),
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Always.
    Always,
    /// If the engine has none of that name.
    Missing,
    /// Never.
    Never,
    /// If the engine has none of that name, or got it longer ago than that.
    Older(Duration),
}

impl When {
    /// Whether an image is to be pulled that the engine has or not, and has had under this name for so long.
    pub(super) fn due(self, present: bool, age: Option<Duration>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Missing => !present,
            Self::Older(limit) => !present || age.is_none_or(|age| age > limit),
        }
    }
}

/// Where the image of `service` comes from.
pub(super) fn source(service: &Service, choice: Choice) -> Source {
    let policy = policy(service, choice.pull);
    if service.build.is_none() {
        return Source::Engine(policy.unwrap_or(When::Missing));
    }
    match policy {
        // Without a name of its own the image is in no registry.
        _ if choice.no_build && service.image.is_none() => Source::Engine(When::Never),
        policy if choice.no_build => Source::Engine(policy.unwrap_or(When::Missing)),
        Some(when @ (When::Always | When::Older(_))) if !choice.build && service.image.is_some() => {
            Source::EngineElseBuild(when)
        }
        _ => Source::Build,
    }
}

/// When the image is to be pulled; none: nobody says so, or it is to be built (`build`). `refresh` without
/// a time is read as `missing`, as compose does.
fn policy(service: &Service, flag: Option<Pull>) -> Option<When> {
    match flag {
        Some(Pull::Always) => return Some(When::Always),
        Some(Pull::Missing) => return Some(When::Missing),
        Some(Pull::Never) => return Some(When::Never),
        Some(Pull::Build) => return None,
        None => {}
    }
    match service.pull_policy.as_deref()? {
        "build" => None,
        "always" => Some(When::Always),
        "never" => Some(When::Never),
        "daily" => Some(When::Older(hours(24))),
        "weekly" => Some(When::Older(hours(7 * 24))),
        other => {
            let every = other.strip_prefix("every_").and_then(|text| quantity::duration(text).ok());
            Some(every.map_or(When::Missing, When::Older))
        }
    }
}

const fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::Build;

    fn service(build: bool, policy: Option<&str>) -> Service {
        let build = build.then(Build::default);
        let image = Some("there/it:1".to_owned());
        Service { build, image, pull_policy: policy.map(str::to_owned), ..Service::default() }
    }

    fn chosen(build: bool, policy: Option<&str>, choice: Choice) -> Source {
        source(&service(build, policy), choice)
    }

    #[test]
    fn the_source_follows_the_file() {
        let (none, older) = (Choice::default(), |count| When::Older(hours(count)));
        for (policy, alone, beside_build) in [
            (None, When::Missing, Source::Build),
            (Some("missing"), When::Missing, Source::Build),
            (Some("build"), When::Missing, Source::Build),
            (Some("never"), When::Never, Source::Build),
            (Some("refresh"), When::Missing, Source::Build),
            (Some("always"), When::Always, Source::EngineElseBuild(When::Always)),
            (Some("daily"), older(24), Source::EngineElseBuild(older(24))),
            (Some("weekly"), older(168), Source::EngineElseBuild(older(168))),
            (Some("every_1d12h"), older(36), Source::EngineElseBuild(older(36))),
            (Some("every_2w"), older(336), Source::EngineElseBuild(older(336))),
        ] {
            assert_eq!(chosen(false, policy, none), Source::Engine(alone), "{policy:?}");
            assert_eq!(chosen(true, policy, none), beside_build, "{policy:?}");
        }
    }

    #[test]
    fn flags_go_before_the_file() {
        let pull = Choice { pull: Some(Pull::Never), ..Choice::default() };
        assert_eq!(chosen(false, Some("always"), pull), Source::Engine(When::Never));
        let no_build = Choice { no_build: true, ..Choice::default() };
        assert_eq!(chosen(true, Some("always"), no_build), Source::Engine(When::Always));
        let build = Choice { build: true, ..Choice::default() };
        assert_eq!(chosen(true, Some("always"), build), Source::Build);
        let always = Choice { pull: Some(Pull::Always), ..Choice::default() };
        assert_eq!(chosen(true, None, always), Source::EngineElseBuild(When::Always));
        let nameless = Service { image: None, ..service(true, Some("always")) };
        assert_eq!(source(&nameless, Choice::default()), Source::Build);
        assert_eq!(source(&nameless, no_build), Source::Engine(When::Never));
    }

    #[test]
    fn a_pull_is_due_when_the_image_is_missing_or_too_old() {
        let (hour, day) = (hours(1), hours(24));
        assert!(When::Always.due(true, Some(hour)) && !When::Never.due(false, None));
        assert!(When::Missing.due(false, None) && !When::Missing.due(true, None));
        let older = When::Older(hour);
        assert!(older.due(false, None) && older.due(true, Some(day)) && older.due(true, None));
        assert!(!older.due(true, Some(Duration::ZERO)));
    }
}
