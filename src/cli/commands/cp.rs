//! `cp`: files into and out of a service's containers.
//!
//! What is copied flows as a tar from one side to the other and is never held. Where it goes is decided by
//! `up::copy`, with docker's rules; here is asked what lies on either side. What a container sends is not
//! trusted: it is unpacked below one folder of the user's, cannot leave it and brings only what was asked for.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::base::event::{Event, Events};
use crate::base::fs::{AtPath, RootDir};
use crate::cli::args::Cp;
use crate::cli::failure::Failure;
use crate::engine::{Container, CopyRules, Docker, Engine, PathKind};
use crate::oci::{OciError, Received, pack_files, unpack_files};
use crate::up::copy::{
    Direction, Placement, There, direction, name_in_archive, only_content, place, split, wants_folder,
};
use crate::up::{Members, members, observe};

use super::session::not_running;
use super::{Context, Ended};

/// How often a link leads to another one before it leads nowhere, as in the kernel.
const MOST_LINKS: usize = 40;

/// What stands for a tar on standard input or output.
const STREAM: &str = "-";

/// Copies files between a service's containers and the user's folders.
pub(in crate::cli) fn cp(context: &mut Context<'_>, flags: &Cp) -> Ended {
    let direction = direction(&flags.source, &flags.destination).map_err(Failure::Usage)?;
    let (name, _) = context.named(&[])?;
    let engine = context.needed_engine()?;
    let containers = observe(&engine, &name)?.containers;
    let work = Work { context, engine: &engine, flags };
    match &direction {
        Direction::Out { service, from, to } => {
            let container = work.containers(&containers, service)?[0];
            let text = format!("{}:{from} to {to}", container.name);
            work.told(container, &text, || work.copy_out(container, from, to))?;
        }
        Direction::Into { from, service, to } => {
            let found = work.containers(&containers, service)?;
            if from == STREAM && found.len() > 1 {
                let text = format!(
                    "service {service} has {} containers\nhelp: choose one with --index",
                    found.len()
                );
                return Err(Failure::Usage(text));
            }
            for container in found {
                let text = format!("{from} to {}:{to}", container.name);
                work.told(container, &text, || work.copy_into(container, from, to))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Work<'w> {
    context: &'w Context<'w>,
    engine: &'w Docker,
    flags: &'w Cp,
}

impl Work<'_> {
    /// The containers of a service that are meant, running or not; at least one.
    fn containers<'c>(&self, all: &'c [Container], service: &str) -> Result<Vec<&'c Container>, Failure> {
        let index = self.flags.index;
        let found = members(all, service, &Members { one_off: self.flags.all, running: false, index });
        match (found.is_empty(), index) {
            (false, _) => Ok(found),
            (true, 0) => Err(Failure::Usage(format!("no container found for service \"{service}\""))),
            (true, index) => Err(Failure::Usage(not_running(service, index))),
        }
    }

    /// Copies and tells of it, or only tells.
    fn told(
        &self,
        container: &Container,
        text: &str,
        copy: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.context.settings.dry_run {
            self.context
                .screen
                .result(&format!("container {}: copy {text} (it was asked for)\n", container.name));
            return Ok(());
        }
        let what = format!("Container {}  Copy {text}", container.name);
        let events = self.context.screen;
        events.emit(Event::ActionStarted { what: what.clone(), cause: "it was asked for".to_owned() });
        let begun = Instant::now();
        let result = copy();
        events.emit(Event::ActionFinished { what, took: begun.elapsed(), ok: result.is_ok() });
        result
    }

    fn copy_out(&self, container: &Container, from: &str, to: &str) -> Result<(), Failure> {
        let (from, called) = self.source_in(container, from)?;
        if to == STREAM {
            let mut out = self.context.screen.output();
            let mut pass = |archive: &mut dyn Read| io::copy(archive, &mut out).and_then(|_| out.flush());
            return Ok(self.engine.copy_out(&container.name, &from, &mut pass)?);
        }
        let missing =
            || Failure::Usage(format!("Could not find the file {from} in container {}", container.name));
        let source = self.engine.stat_path(&container.name, &from)?.ok_or_else(missing)?;
        let (target, there) = destination(&self.context.folder, to).map_err(Failure::Path)?;
        let placement = place(source.kind == PathKind::Folder, &target, there).map_err(wrong(to))?;
        let folder = RootDir::open(Path::new(&placement.folder)).map_err(|error| {
            if error.source.kind() == io::ErrorKind::NotFound {
                let text = format!("invalid output path: directory \"{}\" does not exist", placement.folder);
                return Failure::Usage(text);
            }
            Failure::Path(error)
        })?;
        let base = name_in_archive(&from);
        let name = placement.name.or(called).unwrap_or_else(|| base.to_owned());
        // As root's, they would act for root.
        let set_ids = self.flags.archive || !rustix::process::geteuid().is_root();
        let received = Received { base: OsStr::new(base), name: OsStr::new(&name), set_ids };
        let mut failed = None;
        let copied = self.engine.copy_out(&container.name, &from, &mut |archive| {
            unpack_files(archive, &folder, &received).map_err(|error| kept(error, &mut failed))
        });
        failed.map_or(Ok(()), Err)?;
        Ok(copied?)
    }

    /// The path in the container, and the name that it has in the copy where that is another one: a link is
    /// followed if the flags say so, and keeps its name.
    fn source_in(&self, container: &Container, from: &str) -> Result<(String, Option<String>), Failure> {
        if !self.flags.follow_link {
            return Ok((from.to_owned(), None));
        }
        let link = self.engine.stat_path(&container.name, from)?.filter(|stat| stat.kind == PathKind::Link);
        let Some(link) = link.and_then(|stat| stat.link) else { return Ok((from.to_owned(), None)) };
        Ok((beside(from, &link), Some(split(from).1.to_owned())))
    }

    fn copy_into(&self, container: &Container, from: &str, to: &str) -> Result<(), Failure> {
        let rules = CopyRules { keep_kinds: true, container_owner: self.flags.archive };
        let (target, there) = self.destination_in(container, to)?;
        if from == STREAM {
            if there != There::Folder {
                let text = format!("destination \"{}:{to}\" must be a directory", container.name);
                return Err(Failure::Usage(text));
            }
            let mut pass = |out: &mut dyn Write| io::copy(&mut io::stdin().lock(), out).map(drop);
            return Ok(self.engine.copy_into(&container.name, &target, rules, &mut pass)?);
        }
        let source = self.source(from)?;
        let placement = place(source.is_folder, &target, there).map_err(wrong(to))?;
        let Placement { folder, name } = placement;
        let name = name.unwrap_or(source.name);
        let mut failed = None;
        let copied = self.engine.copy_into(&container.name, &folder, rules, &mut |out| {
            pack_files(&source.path, OsStr::new(&name), out).map_err(|error| kept(error, &mut failed))
        });
        failed.map_or(Ok(()), Err)?;
        Ok(copied?)
    }

    /// What lies at a path of a container, and the path with its last link followed.
    fn destination_in(&self, container: &Container, to: &str) -> Result<(String, There), Failure> {
        let mut path = to.to_owned();
        for _ in 0..MOST_LINKS {
            match self.engine.stat_path(&container.name, &path)? {
                None => return Ok((path, There::Nothing)),
                Some(stat) if stat.kind == PathKind::Folder => return Ok((path, There::Folder)),
                Some(stat) => match stat.link.filter(|_| stat.kind == PathKind::Link) {
                    Some(link) => path = beside(&path, &link),
                    None => return Ok((path, There::File)),
                },
            }
        }
        Ok((path, There::Nothing))
    }

    /// What the user copies.
    fn source(&self, from: &str) -> Result<Source, Failure> {
        let path = self.context.absolute(Path::new(from));
        let follows = self.flags.follow_link || wants_folder(from);
        let stat = if follows { path.metadata() } else { path.symlink_metadata() };
        let is_folder = stat.at_path("read", &path)?.is_dir();
        let real = if follows { path.canonicalize().at_path("read", &path)? } else { path.clone() };
        let own = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = match split(from).1 {
            _ if only_content(from) => ".".to_owned(),
            "." | ".." => path.canonicalize().ok().as_deref().and_then(own).unwrap_or_else(|| ".".to_owned()),
            name => name.to_owned(),
        };
        Ok(Source { path: real, name, is_folder })
    }
}

/// What the user copies: where it lies, what it is called in the container, whether it is a folder.
struct Source {
    path: PathBuf,
    name: String,
    is_folder: bool,
}

/// What lies at a path of the user's, and the path with its last link followed.
fn destination(folder: &Path, to: &str) -> Result<(String, There), crate::base::fs::PathError> {
    let mut path = folder.join(to).to_string_lossy().into_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::symlink_metadata(&path) {
            Ok(stat) if stat.is_symlink() => {
                let link = std::fs::read_link(&path).at_path("read", &path)?;
                path = beside(&path, &link.to_string_lossy());
            }
            Ok(stat) if stat.is_dir() => return Ok((path, There::Folder)),
            Ok(_) => return Ok((path, There::File)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((path, There::Nothing)),
            // Something with a slash behind it that is no folder.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok((path, There::File)),
            Err(error) => return Err(error).at_path("read", &path),
        }
    }
    Ok((path, There::Nothing))
}

/// Where a link at `path` leads.
fn beside(path: &str, link: &str) -> String {
    if link.starts_with('/') { link.to_owned() } else { format!("{}/{link}", split(path).0) }
}

fn wrong(to: &str) -> impl FnOnce(&'static str) -> Failure + '_ {
    move |problem| Failure::Usage(format!("{problem}: {to}"))
}

/// Keeps the error of our side, whose words would be lost in the transfer's. A stream that broke is the
/// engine's to explain.
fn kept(error: OciError, failed: &mut Option<Failure>) -> io::Error {
    match error {
        OciError::Write { source, .. } => source,
        error => {
            *failed = Some(error.into());
            io::Error::other("the copy was not finished")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_of_the_user_are_followed_to_where_nothing_is_yet() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(at("dir")).unwrap();
        std::fs::write(at("file"), "x").unwrap();
        symlink("dir", at("to-dir")).unwrap();
        symlink("new", at("to-nothing")).unwrap();
        symlink("circle", at("circle")).unwrap();
        let found = |name: &str| destination(folder.path(), name).unwrap();
        assert_eq!(found("dir"), (at("dir"), There::Folder));
        assert_eq!(found("to-dir"), (at("dir"), There::Folder));
        assert_eq!(found("file").1, There::File);
        assert_eq!(found("file/").1, There::File);
        assert_eq!(found("to-nothing"), (at("new"), There::Nothing));
        assert_eq!(found("circle").1, There::Nothing);
    }
}
