//! L2: image references, platforms, image documents, layers, registries and archives.
//!
//! The data of an image comes in by [`Reference`] and is described by [`Manifest`], [`ImageConfig`] and
//! [`Descriptor`]. Nothing here decides what to build or what to hand over, nothing mounts, and every
//! path inside a layer goes through `base::fs::RootDir`.

mod image;
mod platform;
mod reference;

pub use image::{
    ContainerConfig, Descriptor, Healthcheck, History, ImageConfig, Index, Manifest, RootFs, media, timestamp,
};
pub use platform::{InvalidPlatform, Platform};
pub use reference::{InvalidReference, Reference};
