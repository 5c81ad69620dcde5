//! Files into and out of containers, as streams of tar: nothing is held beyond a few pieces.

use std::io::{self, Read};

use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::super::{CopyRules, EngineError, PathKind, PathStat, ReadArchive, Result, WriteArchive};
use super::streams::{AHEAD, upload};
use super::{Docker, failed, optional};

/// The bits by which the API marks folders and links (Go's `fs.FileMode`).
const FOLDER: u32 = 1 << 31;
const LINK: u32 = 1 << 27;

pub(super) fn copy_into(
    docker: &Docker,
    container: &str,
    path: &str,
    rules: CopyRules,
    archive: &mut WriteArchive<'_>,
) -> Result<()> {
    let flag = |set: bool| if set { "true" } else { "false" };
    let options = UploadToContainerOptionsBuilder::new()
        .path(path)
        .no_overwrite_dir_non_dir(flag(rules.keep_kinds))
        .copy_uidgid(flag(rules.container_owner))
        .build();
    let action = format!("copy files into {container}");
    let (api, name, doing) = (docker.api.clone(), container.to_owned(), action.clone());
    upload(docker, &action, &action, archive, |body| async move {
        let request = api.upload_to_container(&name, Some(options), bollard::body_try_stream(body));
        request.await.map_err(|error| failed(doing, error))
    })
}

pub(super) fn copy_out(
    docker: &Docker,
    container: &str,
    path: &str,
    take: &mut ReadArchive<'_>,
) -> Result<()> {
    let action = format!("copy files from {container}");
    let (sender, receiver) = mpsc::channel(AHEAD);
    let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
    let (api, name) = (docker.api.clone(), container.to_owned());
    let sent = docker.runtime.spawn(async move {
        let mut stream = std::pin::pin!(api.download_from_container(&name, Some(options)));
        while let Some(chunk) = stream.next().await {
            // Nobody takes any more.
            if sender.send(chunk?).await.is_err() {
                break;
            }
        }
        Ok(())
    });
    let mut pieces = Pieces { receiver, piece: Default::default() };
    let taken = take(&mut pieces);
    drop(pieces);
    // What the engine says is why nothing came.
    match docker.runtime.block_on(sent) {
        Ok(Err(error)) => return Err(failed(action, error)),
        Err(error) => return Err(EngineError::Broken { action, message: error.to_string() }),
        Ok(Ok(())) => {}
    }
    taken.map_err(|source| EngineError::Transfer { action, source })
}

/// The pieces of an answer as one stream.
struct Pieces<B> {
    receiver: mpsc::Receiver<B>,
    piece: io::Cursor<Vec<u8>>,
}

impl<B: AsRef<[u8]>> Read for Pieces<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = io::Cursor::new(piece.as_ref().to_vec()),
                None => return Ok(0),
            }
        }
    }
}

pub(super) fn stat(docker: &Docker, container: &str, path: &str) -> Result<Option<PathStat>> {
    let options = ContainerArchiveInfoOptionsBuilder::new().path(path).build();
    let request = docker.api.get_container_archive_info(container, Some(options));
    let found = optional(docker.ask(|| format!("look at {path} in {container}"), request))?;
    Ok(found.map(|found| PathStat {
        kind: kind(found.file_mode),
        link: Some(found.link_target).filter(|link| !link.is_empty()),
    }))
}

const fn kind(mode: u32) -> PathKind {
    match (mode & FOLDER != 0, mode & LINK != 0) {
        (true, _) => PathKind::Folder,
        (false, true) => PathKind::Link,
        (false, false) => PathKind::File,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_bits_of_the_mode() {
        assert_eq!(kind(0o755 | 1 << 31), PathKind::Folder);
        assert_eq!(kind(0o777 | 1 << 27), PathKind::Link);
        assert_eq!(kind(0o644), PathKind::File);
    }

    #[test]
    fn pieces_are_one_stream() {
        let (sender, receiver) = mpsc::channel(4);
        for piece in ["ab", "", "cde"] {
            sender.blocking_send(piece).unwrap();
        }
        drop(sender);
        let mut text = String::new();
        Pieces { receiver, piece: Default::default() }.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
    }
}
