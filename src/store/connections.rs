//! The connections of a process: handed out when they answer, and replaced all together when one of
//! them has fallen silent.
//!
//! The library's pool tests a connection before it hands it out and after it has got it back, and
//! sets no limit to the second test: on a link that is dead and does not say so, each connection
//! would cost a deadline before it is found out, and its place for a quarter of an hour. So whoever
//! meets silence says so ([`Condition`]), and who asks next gets a connection of a new pool. The old
//! one is closed without waiting for anybody.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, TryStreamExt};
use futures_util::{FutureExt, TryFutureExt};
use sqlx::postgres::{
    PgConnectOptions, PgPool, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo, Postgres,
};
use sqlx::{Connection, Describe, Either, Execute, Executor, PgConnection, SqlStr};
use tokio::time::timeout;

use super::{Link, Purpose};

/// Time for an answer beyond the server's own limit for a statement: that one is to be met first,
/// because it leaves the connection as it was.
const GRACE: Duration = Duration::from_secs(1);

/// How to connect, how often at a time, and how long to wait for anything.
pub(super) struct Settings {
    pub(super) connect: PgConnectOptions,
    pub(super) purpose: Purpose,
    pub(super) max: u32,
    pub(super) timeout: Duration,
}

/// The connections. A clone is the same ones.
#[derive(Clone)]
pub struct Connections {
    settings: Arc<Settings>,
    current: Arc<RwLock<Generation>>,
}

/// The connections of one pool.
#[derive(Clone)]
struct Generation {
    pool: PgPool,
    condition: Arc<Condition>,
}

/// What was noticed of the connections of one pool.
#[derive(Debug, Default)]
pub(super) struct Condition {
    is_silent: AtomicBool,
    leads_to_a_standby: AtomicBool,
}

impl Condition {
    /// Nothing answered in time on one of them.
    pub(super) fn fall_silent(&self) {
        self.is_silent.store(true, Ordering::Release);
    }

    pub(super) fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Acquire)
    }
}

impl Connections {
    /// No connection yet.
    pub(super) fn new(settings: Settings) -> Self {
        let current = Generation::new(&settings);
        Self { settings: Arc::new(settings), current: Arc::new(RwLock::new(current)) }
    }

    /// A connection that answers, for as long as it is kept.
    pub(super) async fn acquire(&self) -> Result<Link, sqlx::Error> {
        let acquired = timeout(self.settings.timeout, async {
            loop {
                let Generation { pool, condition } = self.current();
                match pool.acquire().await {
                    Ok(connection) => {
                        return Ok(Link::new(connection, condition, self.settings.timeout + GRACE));
                    }
                    // Replaced while this waited for it.
                    Err(sqlx::Error::PoolClosed) if !Arc::ptr_eq(&condition, &self.current().condition) => {}
                    Err(error) => return Err(error),
                }
            }
        });
        match acquired.await {
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => Err(self.none()),
            Ok(acquired) => acquired,
        }
    }

    /// The pool itself, for statements that take their time and have no deadline: migrations.
    pub(super) fn without_deadline(&self) -> PgPool {
        self.current().pool
    }

    /// Closes all that are not in use, and the others as they come back.
    pub(super) async fn close(&self) {
        self.current().pool.close().await;
    }

    fn current(&self) -> Generation {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        if !current.is_to_be_replaced() {
            return current;
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Unless another was faster.
        if current.is_to_be_replaced() {
            tracing::warn!("PostgreSQL does not answer on a connection: all are replaced");
            metrics::counter!("callfleet_database_connections_replaced_total").increment(1);
            std::mem::replace(&mut *current, Generation::new(&self.settings)).give_up();
        }
        current.clone()
    }

    /// Whether the last new connection led to a standby.
    pub(super) fn lead_to_a_standby(&self) -> bool {
        self.current().condition.leads_to_a_standby.load(Ordering::Relaxed)
    }

    /// Why there was no connection in time.
    fn none(&self) -> sqlx::Error {
        if self.lead_to_a_standby() {
            return sqlx::Error::Io(io::Error::other("the address leads to a standby, which takes no writes"));
        }
        sqlx::Error::PoolTimedOut
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The settings hold the password.
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl Generation {
    fn new(settings: &Settings) -> Self {
        let condition = Arc::new(Condition::default());
        let mut options = PgPoolOptions::new()
            .max_connections(settings.max)
            .acquire_timeout(settings.timeout)
            // Instead of the pool's own test, which waits for as long as it may take.
            .test_before_acquire(false)
            .before_acquire({
                let (condition, patience) = (Arc::clone(&condition), settings.timeout / 2);
                move |connection, _| answers(connection, Arc::clone(&condition), patience).boxed()
            });
        if settings.purpose == Purpose::Role {
            let condition = Arc::clone(&condition);
            options =
                options.after_connect(move |connection, _| is_primary(connection, Arc::clone(&condition)).boxed());
        }
        Self { pool: options.connect_lazy_with(settings.connect.clone()), condition }
    }

    /// Not when the process closes it, at its end.
    fn is_to_be_replaced(&self) -> bool {
        self.condition.is_silent() && !self.pool.is_closed()
    }

    /// Waits for nobody: what is idle goes now, what is in use when it comes back.
    fn give_up(self) {
        while let Some(idle) = self.pool.try_acquire() {
            drop(idle.detach());
        }
        // Marks it closed; the rest of the future would wait for those in use.
        drop(self.pool.close());
    }
}

/// Whether an idle connection still answers. The library closes one that does not, and makes another.
async fn answers(
    connection: &mut PgConnection,
    condition: Arc<Condition>,
    patience: Duration,
) -> Result<bool, sqlx::Error> {
    match timeout(patience, connection.ping()).await {
        Ok(answer) => Ok(answer.is_ok()),
        Err(_elapsed) => {
            condition.fall_silent();
            Ok(false)
        }
    }
}

/// Makes sure that a new connection of a role can write. While a standby is being promoted behind the
/// same address some may reach it, or another that stays one: what they read may be old, and nothing
/// would ever replace them. The library tries again until its time is up.
async fn is_primary(connection: &mut PgConnection, condition: Arc<Condition>) -> Result<(), sqlx::Error> {
    let is_standby = sqlx::query_scalar!(r#"/* connections.is_standby */ SELECT pg_is_in_recovery() AS "standby!""#)
        .fetch_one(connection)
        .await?;
    condition.leads_to_a_standby.store(is_standby, Ordering::Relaxed);
    if is_standby { Err(sqlx::Error::PoolTimedOut) } else { Ok(()) }
}

/// Each statement on a connection of its own.
impl<'p> Executor<'p> for &'_ Connections {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let connections = self.clone();
        let answers = async move {
            let mut link = connections.acquire().await?;
            let answers: Vec<_> = link.fetch_many(query).try_collect().await?;
            Ok(stream::iter(answers.into_iter().map(Ok)))
        };
        Box::pin(answers.try_flatten_stream())
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let connections = self.clone();
        Box::pin(async move { connections.acquire().await?.fetch_optional(query).await })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        let connections = self.clone();
        Box::pin(async move { connections.acquire().await?.prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        let connections = self.clone();
        Box::pin(async move { connections.acquire().await?.describe(sql).await })
    }
}
