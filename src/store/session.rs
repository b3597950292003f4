//! One connection kept by one task, for work so frequent that asking the pool each time would cost
//! as much as the work.

use sqlx::pool::PoolConnection;
use sqlx::{Connection, PgConnection, Postgres, Transaction};

use super::{Store, StoreError};

/// A connection that is replaced after an error.
#[derive(Debug)]
pub struct Session {
    store: Store,
    connection: Option<PoolConnection<Postgres>>,
}

impl Session {
    /// A session that connects when it is first used.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store, connection: None }
    }

    /// The database it is a session of.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Gives up the connection after an error, so that the next use takes another.
    pub fn reset(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Not returned to the pool: whatever broke it may break its next user.
            drop(connection.detach());
        }
    }

    /// The connection, for statements that commit by themselves.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.store.pool().acquire().await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// A transaction on it; dropped without a commit it never was.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn begin(&mut self) -> Result<Transaction<'_, Postgres>, StoreError> {
        Ok(self.connection().await?.begin().await?)
    }
}
