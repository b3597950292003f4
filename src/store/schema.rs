//! The schema's version: made by `callfleet migrate` alone, checked by every role.

use anyhow::{Context, bail};
use sqlx::migrate::Migrator;

use super::{Store, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Brings the schema to this version and returns the versions that were applied now.
///
/// # Errors
/// When a migration fails, or the schema is newer than this program or was made by other migrations.
pub async fn migrate(store: &Store) -> anyhow::Result<Vec<i64>> {
    let before = applied(store).await?;
    MIGRATIONS
        .run(&store.pool().without_deadline())
        .await
        .context("the schema could not be brought to this version")?;
    let after = applied(store).await?;
    Ok(after.into_iter().filter(|version| !before.contains(version)).collect())
}

/// Makes sure that the schema is the one this program was built for.
///
/// # Errors
/// Says which side is older and what to do.
pub async fn check(store: &Store) -> anyhow::Result<()> {
    match unfit(store).await.context("the schema's version could not be read")? {
        None => Ok(()),
        Some(why) => bail!(why),
    }
}

/// Why the schema is not the one this program was built for, and what to do; none when it is.
///
/// # Errors
/// When the database is away.
pub async fn unfit(store: &Store) -> Result<Option<String>, StoreError> {
    let found = applied(store).await?.last().copied();
    let wanted = MIGRATIONS.iter().map(|m| m.version).max();
    Ok(match (found, wanted) {
        (found, wanted) if found == wanted => None,
        (None, _) => {
            Some("the database has no schema yet: run `callfleet migrate` with the same DATABASE_URL".to_owned())
        }
        (Some(found), Some(wanted)) if found < wanted => Some(format!(
            "the database's schema is old ({found}, this program needs {wanted}): run `callfleet migrate` first"
        )),
        (Some(found), _) => {
            Some(format!("the database's schema ({found}) is newer than this program: install the newer program"))
        }
    })
}

async fn applied(store: &Store) -> Result<Vec<i64>, StoreError> {
    // Not a checked macro: the table is the migrator's own and absent from a new database.
    let exists: Option<String> = sqlx::query_scalar("/* schema.exists */ SELECT to_regclass('_sqlx_migrations')::text")
        .fetch_one(store.pool())
        .await?;
    if exists.is_none() {
        return Ok(Vec::new());
    }
    let versions = "/* schema.applied */ SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
    Ok(sqlx::query_scalar(versions).fetch_all(store.pool()).await?)
}
