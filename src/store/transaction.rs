//! Statements that count together or not at all.

use std::ops::{Deref, DerefMut};

use super::{Link, StoreError};

/// A transaction. Dropped without a commit it never was, and its connection is closed.
#[derive(Debug)]
pub struct Transaction<'a> {
    link: Held<'a>,
}

#[derive(Debug)]
enum Held<'a> {
    Taken(Box<Link>),
    Lent(&'a mut Link),
}

impl Transaction<'static> {
    /// A transaction with a connection of its own, begun with the statement `begin`.
    pub(super) async fn on(link: Link, begin: &'static str) -> Result<Self, StoreError> {
        let mut tx = Self { link: Held::Taken(Box::new(link)) };
        tx.begin(begin).await?;
        Ok(tx)
    }
}

impl<'a> Transaction<'a> {
    /// A transaction on a connection that is kept for the next one.
    pub(super) async fn of(link: &'a mut Link) -> Result<Self, StoreError> {
        let mut tx = Self { link: Held::Lent(link) };
        tx.begin("BEGIN").await?;
        Ok(tx)
    }

    /// Makes it count.
    ///
    /// # Errors
    /// When the database is away. Then nobody can tell whether it counts: the answer may have been
    /// lost behind the commit. Whoever tries again must find what is done already, by a key that is
    /// there, a version that has moved on, or a lease that is its own.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.end("COMMIT").await
    }

    /// Makes as if it had never been, and keeps the connection.
    ///
    /// # Errors
    /// When the database is away, which makes it so too.
    pub async fn rollback(mut self) -> Result<(), StoreError> {
        self.end("ROLLBACK").await
    }

    async fn begin(&mut self, statement: &'static str) -> Result<(), StoreError> {
        self.set_in_transaction(true);
        sqlx::raw_sql(statement).execute(&mut **self).await?;
        Ok(())
    }

    async fn end(&mut self, statement: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(statement).execute(&mut **self).await?;
        self.set_in_transaction(false);
        Ok(())
    }
}

impl Deref for Transaction<'_> {
    type Target = Link;

    fn deref(&self) -> &Link {
        match &self.link {
            Held::Taken(link) => link,
            Held::Lent(link) => link,
        }
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Link {
        match &mut self.link {
            Held::Taken(link) => link,
            Held::Lent(link) => link,
        }
    }
}
