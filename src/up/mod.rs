//! L4: makes the engine's containers what the project says.
//!
//! [`Files::read`] and [`observe`] collect what is; [`reconcile`] (or [`down`] …) compares it with the
//! project and returns a [`Plan`], which is a value with a text form; [`execute`] carries it out and
//! decides nothing. There is no state file: the engine's labels are the state, and they are Docker
//! Compose's, so that either can go on where the other stopped. Building images is not known here: each
//! service comes with the id of its image.

pub mod copy;
mod down;
mod error;
mod execute;
mod files;
mod follow;
mod foreground;
mod identity;
mod lists;
mod logs;
mod names;
mod observe;
mod one_off;
mod plan;
mod ps;
mod reconcile;
mod spec;
mod watch;

pub use down::{
    DownOptions, StartOptions, down, kill, pause, removable_images, remove, restart, start, stop, unpause,
};
pub use error::UpError;
pub use execute::{Execution, Started, execute};
pub use files::Files;
pub use follow::{Following, follow};
pub use foreground::{Abort, Finished, Foreground, foreground};
pub use lists::{
    ANY_PROJECT, ServiceEvent, Stack, WantedPort, project_label, published, service_event, stacks, volumes,
};
pub use logs::{Ended, LineKind, LineSink, LogLine, Source, label_width, logs, sources};
pub use observe::{Members, Observed, members, observe};
pub use one_off::{OneOff, post_start};
pub use plan::{Action, Cause, Creation, Handle, Plan, Preparation, Step, StepId, Target, Until};
pub use ps::{Row, human_duration, ports_text, ps};
pub use reconcile::{Image, Images, Options, Recreate, reconcile, reconcile_one_off};
pub use watch::{ContainerProcesses, Sample, Watched, containers, follow_usage, processes, usage, wait_all};
