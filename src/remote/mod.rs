//! L2: what builds take from elsewhere: files behind URLs and git repositories.
//!
//! [`GitSource`] is the pure reading of the ways in which a repository is named. [`Http`] downloads a
//! file, or learns that it is still the one that it was; [`Git`] asks a repository for a commit and checks
//! it out. Both are given everything that they need and remember nothing: pins, keys and the store are
//! `build`'s. Registries of images are `oci`'s.

mod error;
mod git;
mod http;
mod source;

pub use error::RemoteError;
pub use git::{Checkout, Commit, Git};
pub use http::{Answer, Http, Validators};
pub use source::{GitSource, file_name, is_http, shown_url};
