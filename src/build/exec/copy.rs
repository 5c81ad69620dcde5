//! A COPY or ADD: from contexts, from other stages, from the Dockerfile itself.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::PoisonError;

use super::super::error::StepError;
use super::super::selection::Taken;
use super::super::solve::Produced;
use super::super::users::Accounts;
use super::Executor;
use crate::base::digest::{BlobId, ResultId};
use crate::base::fs::{AtPath, RootDir};
use crate::context::{Chmod, Placement, Request, Selection, write_file};
use crate::graph::{Copy, NodeId, Op, Take};
use rustix::fs::{Mode, OFlags};

impl Executor<'_> {
    /// Copies onto `parent` and publishes what came of it.
    pub(super) fn copy(
        &self,
        id: NodeId,
        copy: &Copy,
        parent: Option<ResultId>,
    ) -> Result<Produced, StepError> {
        let upper = self.stage(parent)?;
        let mut listings = Vec::new();
        {
            let root = self.builder.sandbox.root(&upper.layers)?;
            let owner = match &copy.owner {
                Some(owner) => Some(Accounts::read(&root)?.owner(owner)?),
                None => None,
            };
            let chmod = chmod(copy.mode.as_deref())?;
            let placement = Placement { destination: copy.destination.clone(), owner, chmod };
            for (source, take) in copy.takes.iter().enumerate() {
                listings.push(self.take((id, source), take, &root, &placement)?);
            }
            for file in &copy.files {
                write_file(&root, &placement, &file.name, file.content.as_bytes())?;
            }
        }
        self.publish(upper, parent, listings)
    }

    /// Copies what is taken from one source. Returns the blob that lists it, if the source is a context.
    fn take(
        &self,
        taken: Taken,
        take: &Take,
        root: &RootDir,
        placement: &Placement,
    ) -> Result<Option<BlobId>, StepError> {
        let staged = self.stages.lock().unwrap_or_else(PoisonError::into_inner).remove(&taken);
        if let Some((context, selection)) = staged {
            context.copy(&selection, root, placement)?;
            return Ok(None);
        }
        let selection = self.selections.get(&taken).ok_or(StepError::NoResult)?;
        let number = self.context_number(taken).ok_or(StepError::NoResult)?;
        if take.unpack {
            refuse_archives(&self.graph.contexts[number].folder, selection)?;
        }
        let context = self.contexts.get(number).ok_or(StepError::NoResult)?;
        context.copy(selection, root, placement)?;
        self.keep(selection).map(Some)
    }

    /// Keeps what was copied, to explain the next difference.
    fn keep(&self, selection: &Selection) -> Result<BlobId, StepError> {
        let mut blob = self.builder.store.write_blob()?;
        blob.write_all(selection.listing().to_string().as_bytes())
            .at_path("write", "the listing of a copy")?;
        Ok(blob.finish(None)?.0)
    }

    fn context_number(&self, (id, source): Taken) -> Option<usize> {
        let source = *self.graph.node(id).sources.get(source)?;
        match &self.graph.node(source).op {
            Op::Local(local) => Some(local.context),
            _ => None,
        }
    }
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
    let Some(mode) = mode else { return Ok(None) };
    let parsed: Result<Chmod, _> = mode.parse();
    parsed.map(Some).map_err(|error| StepError::Mode { mode: mode.to_owned(), reason: error.to_string() })
}

/// `ADD` unpacks local archives; that is not there yet, and copying them instead would be wrong.
fn refuse_archives(folder: &Path, selection: &Selection) -> Result<(), StepError> {
    let root = RootDir::open(folder)?;
    for source in selection.sources().filter(|source| !source.folder) {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = std::fs::File::from(root.open_at(&source.path, flags, Mode::empty())?);
        let mut head = Vec::new();
        file.take(512).read_to_end(&mut head).at_path("read", &source.path)?;
        if is_archive(&head) {
            let name = source.path.display();
            return Err(StepError::Unsupported(format!(
                "`ADD` of the archive `{name}`, which would have to be unpacked (COPY copies it as it is)"
            )));
        }
    }
    Ok(())
}

/// gzip, bzip2, xz, zstd or plain tar by the first bytes (moby `pkg/archive.DetectCompression`).
fn is_archive(head: &[u8]) -> bool {
    let magic: [&[u8]; 4] =
        [&[0x1f, 0x8b, 0x08], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    magic.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
}
