//! A COPY or ADD: from contexts, from other stages, from the Dockerfile itself.

use std::io::Write as _;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use super::super::Builder;
use super::super::error::StepError;
use super::super::explain::stored_listing;
use super::super::selection::Taken;
use super::super::solve::Produced;
use super::super::users::Accounts;
use super::{ALONE, Executor};
use crate::base::digest::{BlobId, Digest, ResultId};
use crate::base::event::Event;
use crate::base::fs::{AtPath, PathError, RootDir};
use crate::base::listing::Content;
use crate::context::{
    Chmod, Context, ContextError, Earlier, Mapping, Placement, Request, Selection, destination_folder,
    write_file,
};
use crate::graph::{Copy, NodeId, Take};
use crate::oci::{UnpackLimits, is_archive, unpack_archive};
use crate::store::{Snapshot, Store};

/// The note beside a snapshot that is the content of one folder of a context and nothing else. Its number
/// changes with what a copy makes of the same files, so that nothing is shared with what another version wrote.
const COPIED: &str = "copied-1";

/// What that note says.
#[derive(Serialize, Deserialize)]
struct Copied {
    /// From where to where.
    mapping: Mapping,
    /// What was copied.
    listing: BlobId,
}

impl Copied {
    fn of(store: &Store, snapshot: ResultId) -> Option<Self> {
        serde_json::from_slice(&store.note(snapshot, COPIED)?).ok()
    }
}

/// The digest of a file of a snapshot that is not what was copied there, if it is known what that was. What is
/// gone has the digest of nothing.
pub(in crate::build) fn changed_copy(
    store: &Store,
    snapshot: &Snapshot,
) -> Result<Option<Digest>, PathError> {
    let Some(copied) = Copied::of(store, snapshot.id) else { return Ok(None) };
    let Some(listing) = stored_listing(store, copied.listing) else { return Ok(None) };
    let context = Context::rootfs(RootDir::open(&snapshot.tree)?);
    let all = Request { sources: vec![".".to_owned()], ..Request::default() };
    let found = match context.select(&all) {
        Ok(selection) => selection.listing(),
        Err(ContextError::Path(error)) => return Err(error),
        // It changes while it is read: another process removes it.
        Err(_) => return Ok(None),
    };
    let Mapping { from, to } = &copied.mapping;
    let to = if to.is_empty() { String::new() } else { format!("{to}/") };
    let changed = listing.items().iter().find_map(|item| {
        let Content::Bytes(digest) = item.content else { return None };
        let there = item.path.strip_prefix(from).and_then(|path| found.get(&format!("{to}{path}")));
        match there.map(|there| &there.content) {
            Some(Content::Bytes(other)) => (*other != digest).then_some(*other),
            _ => Some(Digest::of("")),
        }
    });
    Ok(changed)
}

/// What one source of a copy gives.
enum Found<'a> {
    /// From a build context.
    Context(&'a Context, &'a Selection),
    /// From another stage.
    Stage(Box<(Context, Selection)>),
}

impl Found<'_> {
    fn both(&self) -> (&Context, &Selection) {
        match self {
            Self::Context(context, selection) => (context, selection),
            Self::Stage(both) => (&both.0, &both.1),
        }
    }
}

impl Executor<'_> {
    /// Copies onto `parent` and publishes what came of it.
    pub(super) fn copy(
        &self,
        id: NodeId,
        copy: &Copy,
        parent: Option<ResultId>,
        sources: &[Option<ResultId>],
    ) -> Result<Produced, StepError> {
        let found: Vec<Found<'_>> =
            (0..copy.takes.len()).map(|source| self.found((id, source))).collect::<Result<_, _>>()?;
        let upper = self.stage(parent)?;
        let root = self.builder.sandbox.root(&upper.layers)?;
        let owner = match (&copy.owner, sources.get(copy.takes.len())) {
            (None, _) => None,
            (Some(owner), None) => Some(self.owner(owner, &root, parent.is_none())?),
            (Some(owner), Some(accounts)) => {
                let root = self.builder.sandbox.root(&self.layers(*accounts)?)?;
                Some(self.owner(owner, &root, false)?)
            }
        };
        let chmod = chmod(copy.mode.as_deref())?;
        let placement = Placement { destination: copy.destination.clone(), owner, chmod };
        let mut rest = None;
        for (number, (found, take)) in found.iter().zip(&copy.takes).enumerate() {
            let is_last = number + 1 == copy.takes.len() && copy.files.is_empty();
            let (context, selection) = found.both();
            match is_last && !take.unpack {
                true => rest = Some(context.begin_copy(selection, &root, &placement)?),
                false => place(context, selection, take, &root, &placement)?,
            }
        }
        for file in &copy.files {
            write_file(&root, &placement, &file.name, file.content.as_bytes())?;
        }
        drop(root);
        let listings: Vec<_> = found.iter().map(|found| self.kept(found)).collect::<Result<_, _>>()?;
        if let Some(rest) = rest {
            let copied = match listings.as_slice() {
                // Nothing else can have written to the same place.
                [Some(listing)] if copy.files.is_empty() => {
                    rest.mapping().map(|mapping| Copied { mapping, listing: *listing })
                }
                _ => None,
            };
            let earlier = copied.as_ref().and_then(|copied| self.earlier(id, &copied.mapping));
            rest.write(&RootDir::open(&upper.staging.tree())?, earlier.as_ref())?;
            if let Some(copied) = copied {
                upper.staging.note(COPIED, &serde_json::to_vec(&copied).map_err(StepError::Recipe)?)?;
            }
        }
        self.publish(upper, parent, listings)
    }

    /// What the step wrote in the last build, if it copied from and to the same folders.
    fn earlier(&self, id: NodeId, mapping: &Mapping) -> Option<Earlier> {
        let store = self.builder.store;
        let snapshot = store.snapshot((self.before)(id)?)?;
        let copied = Copied::of(store, snapshot.id).filter(|copied| copied.mapping == *mapping)?;
        let tree = RootDir::open(&snapshot.tree).ok()?;
        Some(Earlier { tree, listing: stored_listing(store, copied.listing)? })
    }

    /// Whom `--chown` means. A name that nobody knows is told, and a mistake where there is no file system
    /// at all yet to know it.
    fn owner(&self, owner: &str, root: &RootDir, empty: bool) -> Result<(u32, u32), StepError> {
        let (uid, gid, stranger) = Accounts::read(root)?.owner(owner);
        match stranger {
            Some(stranger) if empty => return Err(stranger),
            Some(stranger) => {
                let text = format!("the owner is {uid}:{gid}: --chown={owner}: {stranger}");
                self.builder.events.emit(Event::Notice(text));
            }
            None => {}
        }
        Ok((uid, gid))
    }

    /// Lays the files of the only source over those of `parent`.
    pub(super) fn merge(
        &self,
        parent: Option<ResultId>,
        sources: &[Option<ResultId>],
    ) -> Result<Produced, StepError> {
        let &[Some(files)] = sources else { return Err(StepError::NoResult) };
        let files = self.builder.store.snapshot(files).ok_or(StepError::Vanished)?;
        let upper = self.stage(parent)?;
        upper.staging.share(&files)?;
        upper.staging.note(ALONE, b"")?;
        self.publish(upper, parent, Vec::new())
    }

    /// What is taken from one source.
    fn found(&self, taken: Taken) -> Result<Found<'_>, StepError> {
        let staged = self.stages.lock().unwrap_or_else(PoisonError::into_inner).remove(&taken);
        if let Some((context, selection)) = staged {
            return Ok(Found::Stage(Box::new((context, selection))));
        }
        let (context, selection) = self.selections.of(taken)?;
        Ok(Found::Context(context, selection))
    }

    /// Keeps what was copied from a context as a blob, to explain the next difference.
    fn kept(&self, found: &Found<'_>) -> Result<Option<BlobId>, StepError> {
        let Found::Context(_, selection) = found else { return Ok(None) };
        keep_listing(self.builder, selection).map(Some)
    }
}

/// Writes what was selected, archives unpacked where the instruction does that.
fn place(
    context: &Context,
    selection: &Selection,
    take: &Take,
    root: &RootDir,
    placement: &Placement,
) -> Result<(), StepError> {
    if !take.unpack {
        return Ok(context.copy(selection, root, placement)?);
    }
    for one in selection.split() {
        match context.open_file(&one)?.is_some_and(is_archive) {
            true => unpack(context, &one, root, placement)?,
            false => context.copy(&one, root, placement)?,
        }
    }
    Ok(())
}

/// Unpacks an archive into the destination, which is a folder then; `--chmod` changes nothing about that.
fn unpack(
    context: &Context,
    archive: &Selection,
    root: &RootDir,
    placement: &Placement,
) -> Result<(), StepError> {
    let Some(mut file) = context.open_file(archive)? else { return Err(StepError::NoResult) };
    let placement = Placement { chmod: None, ..placement.clone() };
    let folder = RootDir::from_fd(destination_folder(root, &placement)?);
    let unpacked = unpack_archive(&mut file, &folder, placement.owner, &UnpackLimits::default());
    // Bytes that are not those that were selected are the reason of any error in them.
    file.finish()?;
    Ok(unpacked?)
}

/// What a COPY selects from one of its sources, as `context` takes it.
pub(in crate::build) fn request(copy: &Copy, source: usize) -> Result<Request, StepError> {
    let take = copy.takes.get(source).ok_or(StepError::NoResult)?;
    Ok(Request {
        sources: take.patterns.clone(),
        chmod: chmod(copy.mode.as_deref())?,
        chown: copy.owner.is_some(),
        excludes: copy.excludes.clone(),
        parents: copy.parents,
    })
}

fn chmod(mode: Option<&str>) -> Result<Option<Chmod>, StepError> {
    Ok(mode.map(str::parse).transpose()?)
}

/// Keeps what is copied from a context as a blob.
pub(in crate::build) fn keep_listing(
    builder: &Builder<'_>,
    selection: &Selection,
) -> Result<BlobId, StepError> {
    let mut blob = builder.store.write_blob()?;
    blob.write_all(selection.listing().to_string().as_bytes()).at_path("write", "the listing of a copy")?;
    Ok(blob.finish(None)?.0)
}
