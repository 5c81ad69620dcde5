//! Why a step had to run.
//!
//! [`Recipe::diff`] compares a step's recipe with the one of the last build that ran something, field by
//! field, and returns everything that differs, the most telling difference first. Whether a step was
//! forced, evicted or never built, the caller knows and says. [`MissReason`]'s text form is what users
//! read; it never contains secrets, because recipes never do.

use std::collections::BTreeMap;
use std::fmt;

use super::mount::RunMount;
use super::op::{Graph, NodeId};
use super::recipe::{Input, OpRecipe, Recipe, Role};
use crate::base::digest::BlobId;
use crate::base::listing::{Change, Listing};

/// One reason why no result served.
#[derive(Clone, PartialEq, Debug)]
pub enum MissReason {
    /// No build of this step is known.
    NeverBuilt,
    /// The user asked to build it again.
    Forced,
    /// It was built before and its result is gone.
    Evicted,
    /// The builder's own format changed.
    Format,
    /// The instruction says something else than before.
    Instruction {
        /// What it said.
        before: String,
        /// What it says.
        after: String,
    },
    /// A variable that the command sees changed.
    Variable {
        /// Its name.
        name: String,
        /// Its value before; `None` if it was not there.
        before: Option<String>,
        /// Its value now; `None` if it is gone.
        after: Option<String>,
    },
    /// A setting of the step changed: user, working directory, network, owner, mode, platform.
    Setting {
        /// Which.
        what: &'static str,
        /// Before.
        before: String,
        /// Now.
        after: String,
    },
    /// Something is mounted in another way.
    Mount {
        /// How it was; `None` if it was not there.
        before: Option<String>,
        /// How it is; `None` if it is gone.
        after: Option<String>,
    },
    /// The base image is another one.
    Base,
    /// What is copied changed; the files, where both listings are known.
    Files(Vec<Change>),
    /// The step that it starts from ran.
    Parent,
    /// The stage that it copies from ran.
    Stage,
}

impl Recipe {
    /// Everything in which `self` differs from `before`, differences of its own first, inputs last.
    /// `listings` answers with the listing that a blob holds, if it is still there.
    pub fn diff(&self, before: &Self, listings: &dyn Fn(BlobId) -> Option<Listing>) -> Vec<MissReason> {
        let mut reasons = Vec::new();
        if self.format != before.format {
            reasons.push(MissReason::Format);
        }
        setting(&mut reasons, "platform", &before.platform, &self.platform);
        self.op.diff(&before.op, &mut reasons);
        for (index, input) in self.inputs.iter().enumerate() {
            let same_role = |other: &&Input| other.role == input.role;
            let previous = before.inputs.get(index).filter(same_role);
            let previous = previous.or_else(|| before.inputs.iter().find(same_role));
            let same_definition = previous.is_some_and(|other| other.definition == input.definition);
            let other_result = previous
                .and_then(|other| other.canonical.zip(input.canonical))
                .is_some_and(|(before, after)| before != after);
            if !same_definition || other_result {
                reasons.push(input.reason(previous, listings));
            }
        }
        reasons
    }
}

impl Input {
    fn reason(&self, before: Option<&Self>, listings: &dyn Fn(BlobId) -> Option<Listing>) -> MissReason {
        match self.role {
            Role::Parent => MissReason::Parent,
            Role::Stage => MissReason::Stage,
            Role::Context => {
                let listing = |input: &Self| input.listing.and_then(listings);
                let both = before.and_then(listing).zip(listing(self));
                MissReason::Files(
                    both.map_or_else(Vec::new, |(before, after)| Listing::diff(&before, &after)),
                )
            }
        }
    }
}

impl OpRecipe {
    fn diff(&self, before: &Self, reasons: &mut Vec<MissReason>) {
        match (before, self) {
            (Self::Pull { chain: before }, Self::Pull { chain }) => {
                if before != chain {
                    reasons.push(MissReason::Base);
                }
            }
            (Self::Run { .. }, Self::Run { .. }) => self.diff_run(before, reasons),
            (Self::Copy { .. }, Self::Copy { .. }) => self.diff_copy(before, reasons),
            (Self::Directory { path: old_path, user: old_user }, Self::Directory { path, user }) => {
                setting(reasons, "directory", old_path, path);
                setting(reasons, "owner", old_user, user);
            }
            (before, now) if before == now => {}
            _ => reasons.push(MissReason::Instruction { before: before.text(), after: self.text() }),
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
        setting(reasons, "extra hosts", &format!("{old_hosts:?}"), &format!("{extra_hosts:?}"));
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
        setting(reasons, "unpacking", &format!("{old_unpack:?}"), &format!("{unpack:?}"));
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

fn setting(reasons: &mut Vec<MissReason>, what: &'static str, before: &str, after: &str) {
    if before != after {
        reasons.push(MissReason::Setting { what, before: before.to_owned(), after: after.to_owned() });
    }
}

fn optional_setting(
    reasons: &mut Vec<MissReason>,
    what: &'static str,
    before: Option<&String>,
    after: Option<&String>,
) {
    let text = |value: Option<&String>| value.map_or("default", String::as_str).to_owned();
    setting(reasons, what, &text(before), &text(after));
}

impl fmt::Display for MissReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverBuilt => formatter.write_str("never built"),
            Self::Forced => formatter.write_str("forced"),
            Self::Evicted => formatter.write_str("its result was evicted from the store"),
            Self::Format => formatter.write_str("the format of keys changed with this version"),
            Self::Instruction { before, after } => {
                write!(formatter, "instruction changed: `{}` → `{}`", cut(before), cut(after))
            }
            Self::Variable { name, before: None, after: Some(after) } => {
                write!(formatter, "variable {name} added: `{}`", cut(after))
            }
            Self::Variable { name, before: Some(_), after: None } => {
                write!(formatter, "variable {name} removed")
            }
            Self::Variable { name, before, after } => {
                let text = |value: &Option<String>| cut(value.as_deref().unwrap_or_default());
                write!(formatter, "variable {name} changed: `{}` → `{}`", text(before), text(after))
            }
            Self::Setting { what, before, after } => {
                write!(formatter, "{what} changed: `{}` → `{}`", cut(before), cut(after))
            }
            Self::Mount { before: None, after: Some(after) } => {
                write!(formatter, "mount added: `{}`", cut(after))
            }
            Self::Mount { before: Some(before), after: None } => {
                write!(formatter, "mount removed: `{}`", cut(before))
            }
            Self::Mount { before, after } => {
                let text = |mount: &Option<String>| cut(mount.as_deref().unwrap_or_default());
                write!(formatter, "mount changed: `{}` → `{}`", text(before), text(after))
            }
            Self::Base => formatter.write_str("base image changed"),
            Self::Files(changes) if changes.is_empty() => formatter.write_str("copied files changed"),
            Self::Files(changes) => write_changes(formatter, changes),
            Self::Parent => formatter.write_str("the step before it ran"),
            Self::Stage => formatter.write_str("a stage that it reads ran"),
        }
    }
}

/// The first changes by name, the rest as a number.
fn write_changes(formatter: &mut fmt::Formatter<'_>, changes: &[Change]) -> fmt::Result {
    const SHOWN: usize = 3;
    for (index, change) in changes.iter().take(SHOWN).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(formatter, "{comma}{change}")?;
    }
    match changes.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(formatter, " and {more} more"),
    }
}

/// Whether a reason lies in what the step stands on, not in the step itself.
const fn is_inherited(reason: &MissReason) -> bool {
    matches!(reason, MissReason::Parent | MissReason::Stage)
}

/// The reason of a step in one line, down to the first cause: a step that only stands on something that
/// ran is explained by what made *that* run. `reasons` has an entry for every step that ran or has to.
pub fn first_cause(graph: &Graph, reasons: &BTreeMap<NodeId, Vec<MissReason>>, id: NodeId) -> String {
    let mut at = id;
    loop {
        let own = reasons.get(&at).map_or(&[][..], Vec::as_slice);
        if let Some(reason) = own.iter().find(|reason| !is_inherited(reason)) {
            let text = reason.to_string();
            return if at == id { text } else { format!("`{}`: {text}", graph.node(at).text()) };
        }
        let node = graph.node(at);
        let inherited = own.iter().find_map(|reason| match reason {
            MissReason::Stage => node.sources.iter().copied().find(|source| reasons.contains_key(source)),
            MissReason::Parent => node.parent,
            _ => None,
        });
        match inherited.filter(|input| reasons.contains_key(input)) {
            Some(input) => at = input,
            None => return own.first().map_or_else(|| MissReason::Evicted.to_string(), ToString::to_string),
        }
    }
}

/// One line of at most sixty characters.
fn cut(text: &str) -> String {
    const LENGTH: usize = 60;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LENGTH {
        return line;
    }
    line.chars().take(LENGTH - 1).chain(['…']).collect()
}
