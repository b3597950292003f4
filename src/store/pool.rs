//! The connections of a process, and its view of the database's clock.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;

use super::connections::{Connections, Settings};
use super::{Clock, Options, StoreError, Transaction, schema};

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
    connections: Connections,
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
    /// Who answers there takes no writes now.
    #[error(
        "{0} leads to a standby, which takes no writes: is it being promoted, or is DATABASE_URL that of a replica?"
    )]
    Standby(String),
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
        let connect: PgConnectOptions = options.database_url.parse().map_err(|error| {
            let form = "postgres://user:password@host:port/database";
            NoStore::Unusable(format!("DATABASE_URL is not a PostgreSQL address ({form}): {error}"))
        })?;
        let place =
            format!("{}:{}/{}", connect.get_host(), connect.get_port(), connect.get_database().unwrap_or_default());
        let timeout_ms = options.database_timeout.as_millis().to_string();
        // Our transactions wait for nothing but the database. One of a role that stands still is that
        // of a process which was stopped or cut off, and others wait for the rows it has locked.
        let idle_ms = if purpose == Purpose::Role { timeout_ms.as_str() } else { "60000" };
        let connect = connect
            .application_name(&format!("callfleet {name}"))
            .options([("statement_timeout", timeout_ms.as_str()), ("idle_in_transaction_session_timeout", idle_ms)]);
        let connect = if purpose == Purpose::Role { connect.options(ROLE_SETTINGS) } else { connect };
        let (max, timeout) = (options.database_connections, options.database_timeout);
        let connections = Connections::new(Settings { connect, purpose, max, timeout });
        Ok(Self { connections, place: place.into(), clock: Clock::default() })
    }

    /// Waits until the database answers, for the time that it has for a statement, and reads its clock.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn answers(&self) -> Result<(), NoStore> {
        let connected = self.connections.acquire().await.map(drop);
        connected.map_err(|error| match error {
            _ if self.connections.lead_to_a_standby() => NoStore::Standby(self.place.to_string()),
            error => unusable(&self.place, &error),
        })?;
        self.sync_clock().await.map_err(|error| match error {
            error if error.is_transient() => NoStore::Away(self.place.to_string()),
            error => NoStore::Unusable(error.to_string()),
        })
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
        let database = sqlx::query_scalar!(r#"/* clock.sync */ SELECT clock_timestamp() AS "now!""#)
            .fetch_one(&self.connections)
            .await?;
        self.clock.set(asked, database);
        Ok(())
    }

    /// A transaction of statements; dropped without a commit it never was.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn begin(&self) -> Result<Transaction<'static>, StoreError> {
        Transaction::on(self.connections.acquire().await?, "BEGIN").await
    }

    /// Closes all connections, waiting at most `deadline` for those in use.
    pub async fn close(&self, deadline: Duration) {
        if tokio::time::timeout(deadline, self.connections.close()).await.is_err() {
            tracing::warn!("connections to PostgreSQL still in use at the end");
        }
    }

    pub(super) const fn pool(&self) -> &Connections {
        &self.connections
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
