//! Outbox to broker; the only room that knows both.
//!
//! Promises that a message that was committed is published at least once, soon when all is well and
//! late when not, and that its row goes only after the broker's acknowledgement. Never publishes
//! what is not committed, and never decides whether a message is still needed.

mod handle;
mod run;

pub use handle::{Handle, Receiver, channel};
pub use run::{run, run_connecting, sweep};
