//! The connections of a process, and its view of the database's clock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres, Transaction};

use super::{Clock, Options, StoreError, schema};

/// Settings of a role's sessions. Its statements find rows by their keys, in arrays whose length the
/// planner cannot know: planning each anew took a third of the database's time under load, and a
/// plan made while the tables were new and small must still be one by keys when they are large.
const ROLE_SETTINGS: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// What a process does with the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A role: the same few statements for ever, each about calls whose keys it has.
    Role,
    /// A command: looks at everything once.
    Command,
}

/// The database. A clone is the same pool.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
    clock: Clock,
}

impl Store {
    /// Connects under `name`, reads the clock and makes sure that the schema is of this version.
    ///
    /// # Errors
    /// One line that says what to do: nobody answers, the password is wrong, the schema is old.
    pub async fn connect(options: &Options, name: &str, purpose: Purpose) -> anyhow::Result<Self> {
        let store = Self::connect_unchecked(options, name, purpose).await?;
        schema::check(&store).await?;
        Ok(store)
    }

    /// As [`Store::connect`], for whoever is about to make the schema.
    ///
    /// # Errors
    /// As there, but for the schema.
    pub async fn connect_unchecked(options: &Options, name: &str, purpose: Purpose) -> anyhow::Result<Self> {
        let timeout_ms = options.database_timeout.as_millis().to_string();
        let connect: PgConnectOptions = options.database_url.parse().map_err(|error| {
            anyhow::anyhow!(
                "DATABASE_URL is not a PostgreSQL address (postgres://user:password@host:port/database): {error}"
            )
        })?;
        let place =
            format!("{}:{}/{}", connect.get_host(), connect.get_port(), connect.get_database().unwrap_or_default());
        let connect = connect
            .application_name(&format!("callfleet {name}"))
            .options([("statement_timeout", timeout_ms.as_str()), ("idle_in_transaction_session_timeout", "60000")]);
        let connect = if purpose == Purpose::Role { connect.options(ROLE_SETTINGS) } else { connect };
        let pool = PgPoolOptions::new()
            .max_connections(options.database_connections)
            .acquire_timeout(options.database_timeout)
            .connect_with(connect)
            .await
            .map_err(|error| unusable(&place, &error))?;
        let store = Self { pool, clock: Clock::default() };
        store.sync_clock().await?;
        Ok(store)
    }

    /// The database's present.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The clock itself.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Reads the database's clock again.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn sync_clock(&self) -> Result<(), StoreError> {
        let asked = Utc::now();
        let database =
            sqlx::query_scalar!(r#"/* clock.sync */ SELECT clock_timestamp() AS "now!""#).fetch_one(&self.pool).await?;
        self.clock.set(asked, database);
        Ok(())
    }

    /// A transaction of statements; dropped without a commit it never was.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(self.pool.begin().await?)
    }

    /// Closes all connections, waiting at most `deadline` for those in use.
    pub async fn close(&self, deadline: Duration) {
        if tokio::time::timeout(deadline, self.pool.close()).await.is_err() {
            tracing::warn!("connections to PostgreSQL still in use at the end");
        }
    }

    pub(super) const fn pool(&self) -> &PgPool {
        &self.pool
    }
}

/// Why the database at `place` cannot be used, and what to do.
fn unusable(place: &str, error: &sqlx::Error) -> anyhow::Error {
    match error {
        // The pool tries again until its time is up, and then says only that it is.
        sqlx::Error::PoolTimedOut => {
            anyhow::anyhow!("nothing answers at {place}: is PostgreSQL running, and is DATABASE_URL right?")
        }
        sqlx::Error::Database(refusal) => {
            anyhow::anyhow!("PostgreSQL at {place} (DATABASE_URL) refuses: {}", refusal.message())
        }
        error => anyhow::anyhow!("PostgreSQL at {place} (DATABASE_URL) cannot be used: {error}"),
    }
}
