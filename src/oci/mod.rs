//! L2: image references, platforms, image documents, layers, registries and archives.
//!
//! The data of an image comes in by [`Reference`] and is described by [`Manifest`], [`ImageConfig`] and
//! [`Descriptor`]. [`write_layer`] and [`unpack_layer`] are the two ways between a snapshot's tree and a
//! layer's tar. Nothing here decides what to build or what to hand over, nothing mounts, and every path
//! inside a layer goes through `base::fs::RootDir`.

mod error;
mod image;
mod layer;
mod platform;
mod reference;
mod tarball;

pub use error::OciError;
pub use image::{
    ContainerConfig, Descriptor, Healthcheck, History, ImageConfig, Index, Manifest, RootFs, media, timestamp,
};
pub use layer::{LayerOptions, LayerTar, UnpackLimits, unpack_layer, write_layer};
pub use platform::{InvalidPlatform, Platform};
pub use reference::{InvalidReference, Reference};
pub use tarball::DamagedTar;
