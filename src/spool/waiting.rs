//! Whether packets wait in the spool, for whoever must not act before they are stored.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::broker::Broker;

/// Time for the answer: who asks has calls to look at.
const ASK_DEADLINE: Duration = Duration::from_secs(1);

/// What waits in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Nothing.
    Nothing,
    /// So many messages, the oldest since then (on the server's clock).
    Since(u64, DateTime<Utc>),
    /// Nobody can tell now.
    Unknown,
}

impl Waiting {
    /// Whether it is known that nothing waits.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::Nothing
    }
}

/// Asks JetStream what waits.
pub async fn waiting(broker: &Broker) -> Waiting {
    match tokio::time::timeout(ASK_DEADLINE, broker.spool_state()).await {
        Ok(Ok(state)) => {
            metrics::gauge!("callfleet_spool_messages").set(u32::try_from(state.messages).unwrap_or(u32::MAX));
            match state.oldest {
                None if state.messages == 0 => Waiting::Nothing,
                oldest => Waiting::Since(state.messages, oldest.unwrap_or(DateTime::<Utc>::MIN_UTC)),
            }
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "the spool cannot be looked at");
            Waiting::Unknown
        }
        Err(_elapsed) => Waiting::Unknown,
    }
}
