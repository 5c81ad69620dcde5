//! L4: makes the engine's containers what the project says.
//!
//! [`Files::read`] and [`observe`] collect what is; [`reconcile`] (or [`down`] …) compares it with the
//! project and returns a [`Plan`], which is a value with a text form; [`execute`] carries it out and
//! decides nothing. There is no state file: the engine's labels are the state, and they are Docker
//! Compose's, so that either can go on where the other stopped. Building images is not known here: each
//! service comes with the id of its image.

mod files;
mod identity;
mod names;
mod observe;
mod plan;
mod reconcile;
mod spec;

pub use files::Files;
pub use observe::{Observed, observe};
pub use plan::{Action, Cause, Creation, Handle, Plan, Step, StepId, Target, Until};
pub use reconcile::{Image, Images, Options, Recreate, reconcile};
