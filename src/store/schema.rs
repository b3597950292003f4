//! The schema's version: made by `callfleet migrate` alone, checked by every role.

use anyhow::{Context, bail};
use sqlx::migrate::Migrator;

use super::Store;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Brings the schema to this version and returns the versions that were applied now.
///
/// # Errors
/// When a migration fails, or the schema is newer than this program or was made by other migrations.
pub async fn migrate(store: &Store) -> anyhow::Result<Vec<i64>> {
    let before = applied(store).await?;
    MIGRATIONS.run(store.pool()).await.context("the schema could not be brought to this version")?;
    let after = applied(store).await?;
    Ok(after.into_iter().filter(|version| !before.contains(version)).collect())
}

/// Makes sure that the schema is the one this program was built for.
///
/// # Errors
/// Says which side is older and what to do.
pub async fn check(store: &Store) -> anyhow::Result<()> {
    let applied = applied(store).await?;
    let built_for = MIGRATIONS.iter().map(|m| m.version).max();
    match (applied.last().copied(), built_for) {
        (found, wanted) if found == wanted => Ok(()),
        (None, _) => bail!("the database has no schema yet: run `callfleet migrate` with the same DATABASE_URL"),
        (Some(found), Some(wanted)) if found < wanted => {
            bail!("the database's schema is old ({found}, this program needs {wanted}): run `callfleet migrate` first")
        }
        (Some(found), _) => {
            bail!("the database's schema ({found}) is newer than this program: install the newer program")
        }
    }
}

async fn applied(store: &Store) -> anyhow::Result<Vec<i64>> {
    // Not a checked macro: the table is the migrator's own and absent from a new database.
    let exists: Option<String> = sqlx::query_scalar("/* schema.exists */ SELECT to_regclass('_sqlx_migrations')::text")
        .fetch_one(store.pool())
        .await
        .context("the schema's version could not be read")?;
    if exists.is_none() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("/* schema.applied */ SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
        .fetch_all(store.pool())
        .await
        .context("the schema's version could not be read")
}
