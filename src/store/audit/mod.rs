//! What does not balance, seen from one moment.
//!
//! Promises that all answers of one [`Snapshot`] are about the same moment, that nothing is written,
//! and that every finding names what it is about. Never decides what follows from a finding.

mod answers;
mod calls;
mod letters;
mod messages;
mod packets;

use std::time::Duration;

use serde::Serialize;

use super::counts::{self, Buckets, PacketTotals};
use super::{Store, StoreError, Transaction, snapshot};

/// Time that each question may take: a database of many millions of rows is read whole.
const PATIENCE: Duration = Duration::from_mins(10);

/// The database as it was at one moment.
#[derive(Debug)]
pub struct Snapshot {
    tx: Transaction<'static>,
}

/// Something that does not balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The call's id where there is one, else the packet's or message's own name.
    pub id: String,
    /// What is wrong with it.
    pub detail: String,
}

/// All that does not balance in one respect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// How many there are.
    pub count: i64,
    /// The first of them.
    pub first: Vec<Finding>,
}

/// A finding as the statements give it, each row with the number of all.
#[derive(Debug)]
struct Row {
    id: String,
    detail: String,
    total: i64,
}

impl From<Vec<Row>> for Findings {
    fn from(rows: Vec<Row>) -> Self {
        let count = rows.first().map_or(0, |row| row.total);
        let first = rows.into_iter().map(|row| Finding { id: row.id, detail: row.detail }).collect();
        Self { count, first }
    }
}

impl Snapshot {
    /// Keeps the present moment.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn take(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { tx: snapshot::begin(store, PATIENCE).await? })
    }

    /// Calls by bucket.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn buckets(&mut self) -> Result<Buckets, StoreError> {
        counts::buckets_of(&mut self.tx).await
    }

    /// Packets, copies and conflicts.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn packet_totals(&mut self) -> Result<PacketTotals, StoreError> {
        counts::packets_of(&mut self.tx).await
    }

    /// Lets the moment go.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn end(self) -> Result<(), StoreError> {
        self.tx.rollback().await
    }
}
