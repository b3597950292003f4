//! Whether what the PBX sends is being stored: only then does silence mean anything.

use chrono::{DateTime, Utc};

use crate::broker::Broker;
use crate::spool;
use crate::store::{Store, StoreError, ingests};

/// How packets reach the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storing {
    /// Since when every ingest that can store packets could; none when there is no such ingest.
    pub(super) since: Option<DateTime<Utc>>,
    /// It is known that no packet waits in the spool.
    pub(super) is_spool_empty: bool,
}

impl Storing {
    /// Looks, before the calls are read: packets that leave the spool in between are in the database by
    /// then, and read with their calls. The other way round a call that speaks would look silent.
    pub(super) async fn look(store: &Store, broker: &Broker) -> Result<Self, StoreError> {
        let since = ingests::storing_since(store).await?;
        Ok(Self { since, is_spool_empty: spool::waiting(broker).await.is_nothing() })
    }
}
