//! What differs between two recipes, as reasons. Pure.
//!
//! Field by field, so that whatever enters a key has a reason of its own. What a context's selection
//! differs in is not known here: recipes hold its digest alone, and the caller has the lists.

use std::collections::BTreeMap;

use super::super::mount::RunMount;
use super::super::recipe::{Input, OpRecipe, Recipe, Role};
use super::{MissReason, Untold};
use crate::remote::shown_url;

impl Recipe {
    /// Everything in which `self` differs from `before`, differences of its own first, inputs last. Never
    /// empty where the definition keys differ. `files` answers what differs in what is selected from a
    /// context: it is given the number of the input and what that was before.
    pub fn diff(
        &self,
        before: &Self,
        files: &dyn Fn(usize, Option<&Input>) -> MissReason,
    ) -> Vec<MissReason> {
        let mut reasons = Vec::new();
        if self.format != before.format {
            reasons.push(MissReason::Format);
        }
        setting(&mut reasons, "platform", &before.platform, &self.platform);
        self.op.diff(&before.op, &mut reasons);
        for (index, input) in self.inputs.iter().enumerate() {
            let previous = before.counterpart(index, input.role);
            let same_definition = previous.is_some_and(|other| other.definition == input.definition);
            let other_result = previous
                .and_then(|other| other.canonical.zip(input.canonical))
                .is_some_and(|(before, after)| before != after);
            if !same_definition || other_result {
                reasons.push(match input.role {
                    Role::Parent => MissReason::Parent,
                    Role::Stage => MissReason::Stage,
                    Role::Context => files(index, previous),
                });
            }
        }
        self.gone(before, &mut reasons);
        if reasons.is_empty() && self.definition_key() != before.definition_key() {
            // The inputs are the same ones in another order.
            reasons.push(MissReason::FilesUntold { why: Untold::SameFiles });
        }
        reasons
    }

    /// The input that an input of another recipe was: of the same role, in the same place if it can be.
    fn counterpart(&self, index: usize, role: Role) -> Option<&Input> {
        let same_role = |other: &&Input| other.role == role;
        self.inputs.get(index).filter(same_role).or_else(|| self.inputs.iter().find(same_role))
    }

    /// Inputs that are there no more.
    fn gone(&self, before: &Self, reasons: &mut Vec<MissReason>) {
        let count = |recipe: &Self, role| recipe.inputs.iter().filter(|input| input.role == role).count();
        let fewer = |role| count(self, role) < count(before, role);
        if fewer(Role::Parent) {
            reasons.push(MissReason::OtherParent { before: None, after: None });
        }
        if fewer(Role::Stage) {
            reasons.push(MissReason::OtherStage);
        }
        if fewer(Role::Context) {
            reasons.push(MissReason::FilesUntold { why: Untold::SameFiles });
        }
    }
}

impl OpRecipe {
    fn diff(&self, before: &Self, reasons: &mut Vec<MissReason>) {
        match (before, self) {
            (Self::Pull { chain: before }, Self::Pull { chain }) => {
                if before != chain {
                    let (before, after) = (before.short(), chain.short());
                    reasons.push(MissReason::Base { image: None, before, after });
                }
            }
            (Self::Run { .. }, Self::Run { .. }) => self.diff_run(before, reasons),
            (Self::Copy { .. }, Self::Copy { .. }) => self.diff_copy(before, reasons),
            (Self::Directory { path: old_path, user: old_user }, Self::Directory { path, user }) => {
                setting(reasons, "directory", old_path, path);
                setting(reasons, "owner", old_user, user);
            }
            (before, now) if before == now => {}
            (Self::FetchFile { .. }, Self::FetchFile { .. })
            | (Self::FetchGit { .. }, Self::FetchGit { .. })
            | (Self::FetchArchive { .. }, Self::FetchArchive { .. }) => self.diff_fetch(before, reasons),
            _ => reasons.push(MissReason::Instruction { before: before.text(), after: self.text() }),
        }
    }

    fn diff_fetch(&self, before: &Self, reasons: &mut Vec<MissReason>) {
        let mut fetched = |what: &str, before: String, after: String| {
            if before != after {
                reasons.push(MissReason::Fetched { what: what.to_owned(), before, after });
            }
        };
        match (before, self) {
            (
                Self::FetchFile { name: old_name, digest: old, modified: old_time },
                Self::FetchFile { name, digest, modified },
            ) => {
                fetched(&format!("file {name}"), old.short(), digest.short());
                setting(reasons, "name of the file", old_name, name);
                setting(reasons, "Last-Modified", &old_time.to_string(), &modified.to_string());
            }
            (
                Self::FetchGit {
                    commit: old,
                    folder: old_folder,
                    keeps_git_of: old_git,
                    submodules: old_sub,
                },
                Self::FetchGit { commit, folder, keeps_git_of, submodules },
            ) => {
                fetched("commit", old.clone(), commit.clone());
                setting(reasons, "folder of the repository", old_folder, folder);
                setting(reasons, "submodules", yes(*old_sub), yes(*submodules));
                // The address may hold a password.
                if old_git != keeps_git_of {
                    let kept = |from: &Option<String>| from.as_deref().map_or("not kept".into(), shown_url);
                    setting(reasons, ".git", &kept(old_git), &kept(keeps_git_of));
                }
            }
            (Self::FetchArchive { digest: old }, Self::FetchArchive { digest }) => {
                fetched("archive", old.short(), digest.short());
            }
            _ => {}
        }
    }

    fn diff_run(&self, before: &Self, reasons: &mut Vec<MissReason>) {
        let (
            Self::Run {
                argv: old_argv,
                environment: old_environment,
                directory: old_directory,
                user: old_user,
                network: old_network,
                extra_hosts: old_hosts,
                shm_size: old_shm,
                hostname: old_hostname,
                mounts: old_mounts,
                insecure: old_insecure,
            },
            Self::Run {
                argv,
                environment,
                directory,
                user,
                network,
                extra_hosts,
                shm_size,
                hostname,
                mounts: new_mounts,
                insecure,
            },
        ) = (before, self)
        else {
            return;
        };
        if old_argv != argv {
            reasons.push(MissReason::Instruction { before: before.text(), after: self.text() });
        }
        variables(reasons, old_environment, environment);
        setting(reasons, "working directory", old_directory, directory);
        setting(reasons, "user", old_user, user);
        setting(reasons, "network", old_network.name(), network.name());
        setting(reasons, "hostname", old_hostname, hostname);
        setting(reasons, "extra hosts", &hosts(old_hosts), &hosts(extra_hosts));
        setting(reasons, "shm size", &old_shm.to_string(), &shm_size.to_string());
        setting(reasons, "security", security(*old_insecure), security(*insecure));
        mounts(reasons, old_mounts, new_mounts);
    }

    fn diff_copy(&self, before: &Self, reasons: &mut Vec<MissReason>) {
        let (
            Self::Copy {
                destination: old_destination,
                owner: old_owner,
                mode: old_mode,
                unpack: old_unpack,
                files: old_files,
            },
            Self::Copy { destination, owner, mode, unpack, files },
        ) = (before, self)
        else {
            return;
        };
        setting(reasons, "destination", old_destination, destination);
        optional_setting(reasons, "owner", old_owner.as_ref(), owner.as_ref());
        optional_setting(reasons, "mode", old_mode.as_ref(), mode.as_ref());
        setting(reasons, "unpacking", &unpacked(old_unpack), &unpacked(unpack));
        if old_files != files {
            reasons.push(MissReason::Instruction { before: before.text(), after: self.text() });
        }
    }

    /// The operation in a few words.
    fn text(&self) -> String {
        match self {
            Self::Pull { chain } => format!("base image {}", chain.short()),
            Self::Run { argv, .. } => match argv.as_slice() {
                [shell, flag, command] if shell == "/bin/sh" && flag == "-c" => command.clone(),
                _ => argv.join(" "),
            },
            Self::Copy { destination, files, .. } => match files.first() {
                None => format!("a copy to {destination}"),
                Some(file) => format!("{} written to {destination}: {}", file.0, file.1),
            },
            Self::Merge => "files laid over a file system".to_owned(),
            Self::FetchFile { name, digest, .. } => format!("the file {name} ({})", digest.short()),
            Self::FetchGit { commit, .. } => format!("the commit {commit}"),
            Self::FetchArchive { digest } => format!("the archive {}", digest.short()),
            Self::Directory { path, .. } => format!("directory {path}"),
        }
    }
}

fn variables(
    reasons: &mut Vec<MissReason>,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) {
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (before, after) = (before.get(name).cloned(), after.get(name).cloned());
        if before != after {
            reasons.push(MissReason::Variable { name: name.clone(), before, after });
        }
    }
}

/// Names with their addresses, as a user gives them.
fn hosts(hosts: &[(String, String)]) -> String {
    let words: Vec<_> = hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(" ") }
}

/// For each source whether archives in it are unpacked.
fn unpacked(sources: &[bool]) -> String {
    sources.iter().map(|unpack| yes(*unpack)).collect::<Vec<_>>().join(", ")
}

const fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

const fn security(insecure: bool) -> &'static str {
    if insecure { "insecure" } else { "sandbox" }
}

/// Mounts by their place in the list; what no key contains makes no difference.
fn mounts(reasons: &mut Vec<MissReason>, before: &[RunMount], after: &[RunMount]) {
    for number in 0..before.len().max(after.len()) {
        let (before, after) = (before.get(number), after.get(number));
        let same = before.zip(after).is_some_and(|(before, after)| before.counts_as(after));
        if !same {
            let text = |mount: Option<&RunMount>| mount.map(ToString::to_string);
            reasons.push(MissReason::Mount { before: text(before), after: text(after) });
        }
    }
}

fn setting(reasons: &mut Vec<MissReason>, what: &str, before: &str, after: &str) {
    if before != after {
        reasons.push(MissReason::Setting {
            what: what.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
        });
    }
}

fn optional_setting(
    reasons: &mut Vec<MissReason>,
    what: &str,
    before: Option<&String>,
    after: Option<&String>,
) {
    let text = |value: Option<&String>| value.map_or("default", String::as_str).to_owned();
    setting(reasons, what, &text(before), &text(after));
}
