//! What lowering needs from outside, and what has been found of it.
//!
//! Lowering asks for whatever a Dockerfile names and nobody has handed in; the caller finds it and lowers
//! again with a larger [`Known`]. All of it is remembered by the caller as pins, so that this costs no
//! network the second time.

use std::collections::BTreeMap;

use super::named::Layout;
use super::op::BaseImage;
use crate::base::digest::Digest;
use crate::oci::{Platform, Reference};
use crate::remote::{Commit, GitSource};

/// Base images by name and platform.
pub type Images = BTreeMap<ImageName, BaseImage>;

/// An image as a Dockerfile names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ImageName {
    /// Its normalised name.
    pub name: Reference,
    /// For which platform.
    pub platform: Platform,
}

/// Something that a Dockerfile names and nobody has handed in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wanted {
    /// An image.
    Image(ImageName),
    /// An image in an OCI layout.
    Layout(Layout),
    /// What lies behind a URL.
    File(FileSource),
    /// What a repository's branch or tag means.
    Commit(GitSource),
}

/// A file behind a URL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileSource {
    /// Where.
    pub url: String,
    /// The digest that it must have.
    pub checksum: Option<Digest>,
}

/// A file that was found behind a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownFile {
    /// The digest of its bytes, which are a blob of the store.
    pub digest: Digest,
    /// Its modification time in seconds since 1970; 0 where the server names none.
    pub modified: i64,
}

/// Everything that has been found.
#[derive(Clone, Default, Debug)]
pub struct Known {
    /// Images.
    pub images: Images,
    /// Images in layouts.
    pub layouts: BTreeMap<Layout, BaseImage>,
    /// Files.
    pub files: BTreeMap<FileSource, KnownFile>,
    /// Commits.
    pub commits: BTreeMap<GitSource, Commit>,
}
