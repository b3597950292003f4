//! A message on its way from the outbox to the broker.

use bytes::Bytes;

/// A message that was committed with the change it announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its name: the outbox row and the `Nats-Msg-Id`.
    pub msg_id: String,
    /// Its subject, without an environment's prefix.
    pub subject: String,
    /// Its body.
    pub payload: Bytes,
    /// The holder of the subject's former message is known to be dead: that message goes first.
    pub replaces: bool,
}
