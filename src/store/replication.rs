//! What a failover to a standby would lose.

use super::{Store, StoreError};

/// Standbys that follow without being waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asynchronous {
    /// Their names.
    pub standbys: String,
    /// Why no commit waits for them.
    pub why: String,
    /// Bytes of changes that the slowest had not written down a moment ago.
    pub behind_bytes: i64,
}

/// Whether standbys follow asynchronously: then what was committed last is lost with the primary,
/// packets that were answered 202 and transcripts among it. None without standbys, and none where we
/// may not know: others' details are hidden from roles without `pg_read_all_stats`.
///
/// # Errors
/// When the database is away.
pub async fn asynchronous(store: &Store) -> Result<Option<Asynchronous>, StoreError> {
    let row = sqlx::query!(
        r#"/* replication.asynchronous */
        SELECT string_agg(COALESCE(NULLIF(application_name, ''), host(client_addr), 'one without a name'), ', '
                          ORDER BY application_name) AS standbys,
               max(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), flush_lsn))::bigint AS behind_bytes,
               current_setting('synchronous_standby_names') AS "names!",
               current_setting('synchronous_commit') AS "commit!"
          FROM pg_stat_replication r
         WHERE state = 'streaming'
           -- Subscribers of logical replication are nobody's standbys.
           AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')"#
    )
    .fetch_one(store.pool())
    .await?;
    let Some(standbys) = row.standbys else { return Ok(None) };
    let why = match row.commit.as_str() {
        _ if row.names.is_empty() => "synchronous_standby_names is empty".to_owned(),
        off @ ("off" | "local") => format!("synchronous_commit is {off}"),
        _ => return Ok(None),
    };
    Ok(Some(Asynchronous { standbys, why, behind_bytes: row.behind_bytes.unwrap_or(0) }))
}
