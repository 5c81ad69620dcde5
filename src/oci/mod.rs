//! L2: image references, platforms, image documents, layers, registries and archives.
//!
//! The data of an image comes in by [`Reference`] and is described by [`Manifest`], [`ImageConfig`] and
//! [`Descriptor`]. [`write_layer`] and [`unpack_layer`] are the two ways between a snapshot's tree and a
//! layer's tar; [`publish_layer`] and [`measured_layer`] are the same for the store's snapshots.
//! [`import_rootfs`] makes an image of a root file system, [`write_archive`] and [`read_archive`] are the
//! two ways between images and what an engine loads and saves, [`Registry`] brings images from elsewhere.
//! [`unpack_archive`] unpacks a user's own archive for ADD; [`pack_files`] and [`unpack_files`] are the two
//! ways between the user's files and what an engine copies into and out of a container.
//! Nothing here decides what to build or what
//! to hand over, nothing mounts, and every path inside a layer goes through `base::fs::RootDir`.

mod added;
mod archive;
mod auth;
mod compress;
mod copied;
mod error;
mod form;
mod image;
mod import;
mod layer;
mod packed;
mod platform;
mod reference;
mod registry;
mod snapshot;
mod tarball;

pub use added::{is_archive, unpack_archive};
pub use archive::{
    ArchiveImage, ArchiveKind, ArchiveLayer, ArchivedImage, LayerContent, NamedLayout, WrittenImage,
    read_archive, read_layout, write_archive, write_layout,
};
pub use auth::{Credentials, Login};
pub use compress::{Encoding, GzipWriter, decompressed};
pub use copied::{pack_files, unpack_files};
pub use error::OciError;
pub use form::{Formed, ImageForm};
pub use image::{
    ContainerConfig, Descriptor, Healthcheck, History, ImageConfig, Index, Manifest, RootFs, is_later, media,
    timestamp,
};
pub use import::{Imported, import_rootfs};
pub use layer::{
    LayerOptions, LayerTar, Received, Times, UnpackLimits, copy_tree, unpack_layer, write_layer, write_tree,
};
pub use packed::{Packing, packed_layer};
pub use platform::{InvalidPlatform, Platform};
pub use reference::{InvalidReference, Reference};
pub use registry::{Document, Push, PushLayer, Pushed, Registry, RegistryOptions, Resolved, Sent, Upload};
pub use snapshot::{
    Adopted, adopt_layer, changed_layer, known_layer, layer_blob, layer_times, measured_layer, publish_layer,
};
pub use tarball::DamagedTar;
