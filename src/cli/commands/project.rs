//! The project that a command is about: loaded, its warnings shown, its services chosen.

use std::collections::BTreeSet;

use crate::cli::Caller;
use crate::cli::failure::Failure;
use crate::cli::settings::Settings;
use crate::compose::{Disk, Loaded, Options, Project, has_file, load};

use super::Context;

impl Context<'_> {
    /// The project, for a command that carries out what it says. `services` are those that the command
    /// names. Whatever nothing honours yet is refused.
    pub(super) fn project(&mut self, services: &[String]) -> Result<Project, Failure> {
        let loaded = self.described(services)?;
        if loaded.unsupported.is_empty() {
            Ok(loaded.project)
        } else {
            Err(Failure::Mistakes(loaded.unsupported))
        }
    }

    /// The project, for a command that only speaks about it. Variables that its `.env` sets act from here on.
    pub(super) fn described(&mut self, services: &[String]) -> Result<Loaded, Failure> {
        self.described_with(self.load_options(services))
    }

    /// As [`Self::described`], with options of the caller's own.
    pub(super) fn described_with(&mut self, options: Options) -> Result<Loaded, Failure> {
        let loaded = load(&options, &Disk).map_err(Failure::Mistakes)?;
        let settings = Settings::resolve(&self.global, &loaded.project.environment, Caller::this())
            .map_err(Failure::Usage)?;
        // Whom to trust is the caller's to say, not the project's.
        let (certificates, insecure) = (&self.settings.certificates, &self.settings.insecure_registries);
        let settings = Settings {
            certificates: certificates.clone(),
            insecure_registries: insecure.clone(),
            ..settings
        };
        let look = |settings: &Settings| (settings.progress, settings.ansi, settings.status_on_stdout);
        if look(&settings) != look(&self.settings) {
            self.screen.change(settings.progress, settings.ansi, settings.status_on_stdout);
        }
        self.settings = settings;
        self.screen.diagnostics(&loaded.warnings);
        Ok(loaded)
    }

    /// The project's name, and the project unless only its name is known: `-p` serves without a file where
    /// the engine's labels say the rest.
    pub(super) fn named(&mut self, services: &[String]) -> Result<(String, Option<Project>), Failure> {
        let options = self.load_options(services);
        let variable = self.environment.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty());
        match options.project_name.as_ref().or(variable) {
            Some(name) if !has_file(&options, &Disk) => Ok((name.clone(), None)),
            _ => {
                let project = self.described(services)?.project;
                Ok((project.name.clone(), Some(project)))
            }
        }
    }

    /// What a project is loaded with, as the global options say.
    pub(super) fn load_options(&self, services: &[String]) -> Options {
        Options {
            environment: self.environment.clone(),
            files: self.global.files.clone(),
            project_name: self.global.project_name.clone(),
            project_directory: self.global.project_directory.clone(),
            env_files: self.global.env_files.clone(),
            profiles: self.global.profiles.clone(),
            services: services.to_vec(),
            compatibility: self.global.compatibility,
            all_resources: self.global.all_resources,
            ..Options::new(&self.folder)
        }
    }
}

/// The named services (none: all), and with `dependencies` everything that they need, in the order of
/// their names.
pub(super) fn chosen(project: &Project, named: &[String], dependencies: bool) -> Vec<String> {
    if named.is_empty() {
        return project.services.keys().cloned().collect();
    }
    let mut chosen = BTreeSet::new();
    let mut left = named.to_vec();
    while let Some(name) = left.pop() {
        let Some(service) = project.services.get(&name) else { continue };
        if chosen.insert(name) && dependencies {
            left.extend(service.depends_on.keys().cloned());
        }
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::{Dependency, Service};

    #[test]
    fn dependencies_are_followed_to_the_end() {
        let mut project = Project::default();
        for (name, needs) in [("a", vec!["b"]), ("b", vec!["c", "missing"]), ("c", vec![]), ("d", vec![])] {
            let dependency = |name: &str| (name.to_owned(), Dependency::default());
            let depends_on = needs.into_iter().map(dependency).collect();
            project.services.insert(name.to_owned(), Service { depends_on, ..Service::default() });
        }
        let named = ["a".to_owned()];
        assert_eq!(chosen(&project, &named, true), ["a", "b", "c"]);
        assert_eq!(chosen(&project, &named, false), ["a"]);
        assert_eq!(chosen(&project, &[], false), ["a", "b", "c", "d"]);
    }
}
