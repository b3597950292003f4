//! What the operator's commands do.
//!
//! Promises one clear line and a failure for whatever is wrong with what it was given or whom it
//! asked. Never part of a running role.

pub mod simulate;
pub mod target;
pub mod topology;
pub mod watch;
