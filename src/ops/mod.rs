//! What the operator's commands do.
//!
//! Promises one clear line and a failure for whatever is wrong with what it was given or whom it
//! asked. Never part of a running role.

pub mod audit;
pub mod call;
pub mod dlq;
pub mod migrate;
pub mod servers;
pub mod simulate;
pub mod status;
pub mod target;
mod terminal;
pub mod topology;
pub mod watch;
