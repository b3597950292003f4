//! Outbox to broker; the only room that knows both.
//!
//! Promises that a message that was committed is published at least once, soon when all is well and
//! late when not, and that its row goes only after the broker's acknowledgement. Messages of one
//! process go out in the order of their handing over. Never publishes what is not committed, and
//! never decides whether a message is still needed.

mod at_once;
mod forget;
mod handle;
mod run;
mod sweep;

use std::time::Duration;

pub use handle::{Handle, Receiver, channel};
pub use run::{run, run_once_connected};
pub use sweep::sweep;

/// Between a half of `pause` and one and a half, so that many relays do not act as one.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64())
}
