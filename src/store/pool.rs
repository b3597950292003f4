//! The connections of a process, and its view of the database's clock.

use std::sync::Arc;
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
    /// Where it is, without credentials.
    place: Arc<str>,
    clock: Clock,
}

/// Why the database cannot be used, in one line that says what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoStore {
    /// Nobody answers there now.
    #[error("nothing answers at {0}: is PostgreSQL running, and is DATABASE_URL right?")]
    Away(String),
    /// Whoever answers does not want us, or is no PostgreSQL.
    #[error("{0}")]
    Unusable(String),
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
        let store = Self::open(options, name, purpose)?;
        store.answers().await?;
        Ok(store)
    }

    /// As [`Store::connect`], for roles that begin without a database: connects when it is asked.
    ///
    /// # Errors
    /// When the address is none.
    pub fn open(options: &Options, name: &str, purpose: Purpose) -> Result<Self, NoStore> {
        let timeout_ms = options.database_timeout.as_millis().to_string();
        let connect: PgConnectOptions = options.database_url.parse().map_err(|error| {
            let form = "postgres://user:password@host:port/database";
            NoStore::Unusable(format!("DATABASE_URL is not a PostgreSQL address ({form}): {error}"))
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
            .connect_lazy_with(connect);
        Ok(Self { pool, place: place.into(), clock: Clock::default() })
    }

    /// Waits until the database answers, for the time that it has for a statement, and reads its clock.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn answers(&self) -> Result<(), NoStore> {
        let connected = self.pool.acquire().await.map(drop);
        connected.map_err(|error| unusable(&self.place, &error))?;
        self.sync_clock().await.map_err(|error| NoStore::Unusable(error.to_string()))
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

fn unusable(place: &str, error: &sqlx::Error) -> NoStore {
    match error {
        // The pool tries again until its time is up, and then says only that it is.
        sqlx::Error::PoolTimedOut => NoStore::Away(place.to_owned()),
        sqlx::Error::Database(refusal) => {
            NoStore::Unusable(format!("PostgreSQL at {place} (DATABASE_URL) refuses: {}", refusal.message()))
        }
        error => NoStore::Unusable(format!("PostgreSQL at {place} (DATABASE_URL) cannot be used: {error}")),
    }
}
