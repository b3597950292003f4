//! What can go wrong with the database, in the terms that callers act on.

use crate::domain::CallKey;

/// A statement that did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, restarting, full or too slow: nothing was stored; later it may be.
    #[error("PostgreSQL is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The database refused; sending the same again will not help.
    #[error("PostgreSQL refused: {0}")]
    Refused(#[source] sqlx::Error),
    /// A row holds what no program of this version writes.
    #[error("call {key} has a row that cannot be read: {detail}")]
    Unreadable {
        /// Whose row.
        key: CallKey,
        /// What is wrong with it.
        detail: String,
    },
    /// Somebody else changed the call, three times over.
    #[error("call {0} was changed by others at the same time, three times over")]
    Conflict(CallKey),
}

impl StoreError {
    /// Whether the same statement may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Conflict(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // Classes 22 and 23 (data, constraint) and 42 (statement) say that the statement itself is
        // at fault; everything else (08 connection, 40 rollback, 53 resources, 57 operator, 58
        // system, and whatever never reached the server) may pass.
        let at_fault = match &error {
            sqlx::Error::Database(db) => {
                db.code().is_some_and(|code| ["22", "23", "42"].iter().any(|class| code.starts_with(class)))
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::RowNotFound => true,
            _ => false,
        };
        if at_fault { Self::Refused(error) } else { Self::Unavailable(error) }
    }
}
