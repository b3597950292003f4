//! The way from whoever commits messages to the relay of the same process.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::wire::outgoing::Outgoing;

/// Messages that may wait for the relay; beyond that they wait in the outbox, where the sweep finds
/// them.
const QUEUE_MAX_MESSAGES: usize = 16_384;

/// Hands committed messages to the relay. A clone leads to the same relay.
#[derive(Clone, Debug)]
pub struct Handle {
    sender: mpsc::Sender<Handed>,
}

/// The relay's end.
#[derive(Debug)]
pub struct Receiver(mpsc::Receiver<Handed>);

/// A message, and since when it waits here.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) message: Outgoing,
    pub(super) since: Instant,
}

/// A relay's two ends.
#[must_use]
pub fn channel() -> (Handle, Receiver) {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX_MESSAGES);
    (Handle { sender }, Receiver(receiver))
}

impl Handle {
    /// Hands over messages whose transaction has committed; never waits. When there is no room for
    /// all of them they stay in the outbox.
    pub fn send(&self, messages: Vec<Outgoing>) {
        let since = Instant::now();
        let count = messages.len();
        match self.sender.try_reserve_many(count) {
            Ok(places) => {
                places.zip(messages).for_each(|(place, message)| place.send(Handed { message, since }));
            }
            Err(_full_or_closed) => {
                metrics::counter!("callfleet_relay_left_to_sweep_total", "why" => "queue_full").increment(count as u64);
            }
        }
    }
}

impl Receiver {
    /// What waits, at most `limit`, in the order in which it was handed over; nothing once every
    /// handle is gone.
    pub(super) async fn take(&mut self, limit: usize) -> Option<Vec<Handed>> {
        let mut handed = Vec::new();
        self.0.recv_many(&mut handed, limit).await;
        metrics::gauge!("callfleet_relay_queue_messages").set(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        (!handed.is_empty()).then_some(handed)
    }
}

#[cfg(test)]
mod tests {
    use super::{QUEUE_MAX_MESSAGES, channel};
    use crate::wire::outgoing::Outgoing;
    use bytes::Bytes;

    fn message(number: usize) -> Outgoing {
        Outgoing {
            msg_id: number.to_string(),
            subject: "call.work.live.t.k".to_owned(),
            payload: Bytes::new(),
            replaces: false,
        }
    }

    #[tokio::test]
    async fn messages_come_out_in_order_and_the_end_is_seen() {
        let (handle, mut receiver) = channel();
        handle.send((0..5).map(message).collect());
        handle.send(Vec::new());
        handle.send((5..7).map(message).collect());
        drop(handle);
        let first = receiver.take(6).await.unwrap();
        assert_eq!(
            first.iter().map(|handed| handed.message.msg_id.as_str()).collect::<Vec<_>>(),
            ["0", "1", "2", "3", "4", "5"]
        );
        assert_eq!(receiver.take(6).await.unwrap().len(), 1);
        assert!(receiver.take(6).await.is_none());
    }

    #[tokio::test]
    async fn a_full_queue_takes_nothing_and_does_not_wait() {
        let (handle, mut receiver) = channel();
        handle.send((0..QUEUE_MAX_MESSAGES).map(message).collect());
        handle.send(vec![message(0)]);
        drop(handle);
        assert_eq!(receiver.take(usize::MAX).await.unwrap().len(), QUEUE_MAX_MESSAGES);
        assert!(receiver.take(1).await.is_none());
    }
}
