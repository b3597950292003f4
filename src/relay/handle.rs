//! The way from whoever commits messages to the relay of the same process.

use tokio::sync::mpsc;

use crate::wire::outgoing::Outgoing;

/// Batches that may wait for the relay; beyond that they wait in the outbox, where the sweep finds
/// them.
const QUEUE_MAX: usize = 4096;

/// Hands committed messages to the relay. A clone leads to the same relay.
#[derive(Clone, Debug)]
pub struct Handle {
    sender: mpsc::Sender<Vec<Outgoing>>,
}

/// The relay's end.
pub type Receiver = mpsc::Receiver<Vec<Outgoing>>;

/// A relay's two ends.
#[must_use]
pub fn channel() -> (Handle, Receiver) {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    (Handle { sender }, receiver)
}

impl Handle {
    /// Hands over messages whose transaction has committed; never waits. What finds no room stays
    /// in the outbox.
    pub fn send(&self, messages: Vec<Outgoing>) {
        let count = messages.len() as u64;
        if count > 0 && self.sender.try_send(messages).is_err() {
            metrics::counter!("callfleet_relay_left_to_sweep_total").increment(count);
        }
    }
}
