//! What every binary needs first: options, telemetry, shutdown, health, HTTP connections.
//!
//! Promises that a role gets its listener, its shutdown token and its health as arguments, that a
//! dead task ends the process with an error, and that SIGTERM ends it cleanly within a deadline.
//! Never knows what a role does.

pub mod duration;
pub mod health;
pub mod http;
pub mod life;
pub mod listen;
pub mod problem;
pub mod start;
pub mod tasks;
pub mod telemetry;
