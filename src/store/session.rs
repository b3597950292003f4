//! One connection kept by one task, for work so frequent that asking the pool each time would cost
//! as much as the work.

use super::{Link, Store, StoreError, Transaction};

/// A connection that is replaced when it is no longer fit for use: it gave no answer, a statement or
/// transaction on it was left half-way, or others of its age have fallen silent.
#[derive(Debug)]
pub struct Session {
    store: Store,
    link: Option<Link>,
}

impl Session {
    /// A session that connects when it is first used.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store, link: None }
    }

    /// The database it is a session of.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Gives up the connection after an error, so that the next use takes another.
    pub fn reset(&mut self) {
        self.link = None;
    }

    /// The connection, for statements that commit by themselves.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn connection(&mut self) -> Result<&mut Link, StoreError> {
        let link = match self.link.take().filter(Link::is_usable) {
            Some(link) => link,
            None => self.store.pool().acquire().await?,
        };
        Ok(self.link.insert(link))
    }

    /// A transaction on it; dropped without a commit it never was.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        Transaction::of(self.connection().await?).await
    }
}
