//! The capability tests: each module is one capability, shown on the real program.
mod copy;
mod sandbox;
mod up;
