//! Whether what the PBX sends is being stored: only then does silence mean anything.

use chrono::{DateTime, Utc};

use crate::broker::Broker;
use crate::domain::{Call, State};
use crate::spool;
use crate::store::{Store, StoreError, ingests};

/// How packets reach the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Storing {
    /// Since when every ingest that can store packets could; none when there is no such ingest.
    pub(super) since: Option<DateTime<Utc>>,
    /// It is known that no packet waits in the spool.
    pub(super) is_spool_empty: bool,
}

impl Storing {
    /// Looks, if any of `calls` depends on it.
    pub(super) async fn look(store: &Store, broker: &Broker, calls: &[Call]) -> Result<Self, StoreError> {
        if !calls.iter().any(|call| call.state == State::InProgress) {
            return Ok(Self::default());
        }
        // The spool last: one that begins to spool meanwhile was storing until then.
        let since = ingests::storing_since(store).await?;
        Ok(Self { since, is_spool_empty: spool::waiting(broker).await.is_nothing() })
    }
}
