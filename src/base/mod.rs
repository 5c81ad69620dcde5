//! L0: what every other layer stands on.
//!
//! [`digest`] has the content digests and the identifiers made of them, [`diag`] the mistakes in the
//! user's files with their excerpts, [`fs`] the file system primitives that must be right everywhere
//! (atomic publishing, locks, paths inside a foreign root), [`event`] what a running command reports,
//! [`cancel`] the flag that stops it, [`listing`] what a tree contains and how two trees differ,
//! [`memory`] the pages of the heap, [`secret`] bytes that nobody may see by accident, [`worktree`] what the
//! files of a git repository say of its work tree.
//! Nothing here knows Dockerfiles, compose files, images or engines.

pub mod cancel;
pub mod diag;
pub mod digest;
pub mod event;
pub mod fs;
pub mod listing;
pub mod memory;
pub mod secret;
#[cfg(test)]
pub(crate) mod testing;
pub mod worktree;
