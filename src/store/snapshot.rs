//! Reading several tables as of one moment.

use std::time::Duration;

use super::{Store, StoreError, Transaction};

/// Time for an answer beyond the server's own limit for the statement.
const GRACE: Duration = Duration::from_secs(1);

/// A transaction that reads and sees the database as it was at its first statement; each statement
/// may take `patience`.
///
/// # Errors
/// When the database is away.
pub(super) async fn begin(store: &Store, patience: Duration) -> Result<Transaction<'static>, StoreError> {
    let link = store.pool().acquire().await?;
    let mut tx = Transaction::on(link, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    tx.be_patient(patience + GRACE);
    let patience_ms = patience.as_millis().to_string();
    sqlx::query!(
        "/* snapshot.patience */ SELECT set_config('statement_timeout', $1, true) AS statement,
                                        set_config('idle_in_transaction_session_timeout', $1, true) AS idle",
        patience_ms
    )
    .fetch_one(&mut *tx)
    .await?;
    Ok(tx)
}
