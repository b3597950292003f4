//! One connection whose every statement ends in time.
//!
//! The server's own limit (`statement_timeout`) does not help when nothing passes between it and us:
//! then a statement waits until TCP gives up, a quarter of an hour later. Here each has a deadline of
//! its own, applied where connections are handed out, so that no caller can forget it. A connection
//! on which a statement had no answer, or was dropped half-way, is closed and never used again: what
//! comes on it next may be the answer to the former question.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{
    PgConnection, PgDatabaseError, PgQueryResult, PgRow, PgSeverity, PgStatement, PgTypeInfo, Postgres,
};
use sqlx::{Describe, Either, Execute, Executor, SqlStr};
use tokio::time::{Instant, timeout_at};

use super::connections::Condition;

/// Refusals that are the connection's fault: another one may do better. It leads to a server that
/// only reads (25006), which was demoted or never was the primary; or it remembers a statement that
/// the server no longer knows (26000) or whose columns have changed since (0A000).
const OF_THE_CONNECTION: &[&str] = &["25006", "26000", "0A000"];

/// A connection, taken from the pool for as long as this lives.
pub struct Link {
    connection: PoolConnection<Postgres>,
    condition: Arc<Condition>,
    patience: Duration,
    /// A statement has begun and its answer has not come to its end.
    in_doubt: bool,
    in_transaction: bool,
}

impl Link {
    pub(super) const fn new(
        connection: PoolConnection<Postgres>,
        condition: Arc<Condition>,
        patience: Duration,
    ) -> Self {
        Self { connection, condition, patience, in_doubt: false, in_transaction: false }
    }

    /// Whether whoever kept this may go on using it.
    pub(super) fn is_usable(&self) -> bool {
        !self.in_doubt && !self.in_transaction && !self.condition.is_silent()
    }

    /// Lets the statements that follow take longer.
    pub(super) const fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Until it is told otherwise, this is not fit for another user.
    pub(super) const fn set_in_transaction(&mut self, in_transaction: bool) {
        self.in_transaction = in_transaction;
    }

    fn ask(&mut self) -> (&mut PgConnection, Asked<'_>) {
        self.in_doubt = true;
        let until = Instant::now() + self.patience;
        (&mut self.connection, Asked { until, in_doubt: &mut self.in_doubt, condition: &self.condition })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.is_usable() {
            // Without waiting here, and for some seconds at most there. The server rolls back.
            self.connection.close_on_drop();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("in_doubt", &self.in_doubt).finish_non_exhaustive()
    }
}

/// A statement under way.
struct Asked<'a> {
    until: Instant,
    in_doubt: &'a mut bool,
    condition: &'a Condition,
}

impl Asked<'_> {
    /// What comes next, if it comes in time.
    async fn next<T>(&self, answer: impl Future<Output = T>) -> Result<T, sqlx::Error> {
        timeout_at(self.until, answer).await.map_err(|_elapsed| {
            self.condition.fall_silent();
            sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))
        })
    }

    /// All of it, if it comes in time.
    async fn whole<T>(self, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        let answer = self.next(answer).await.flatten();
        *self.in_doubt = answer.as_ref().is_err_and(breaks);
        answer
    }
}

/// Whether the connection on which this happened is of no more use.
fn breaks(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(refusal) = error else { return true };
    let severity = refusal.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
    let has_ended = severity.is_none_or(|severity| matches!(severity, PgSeverity::Fatal | PgSeverity::Panic));
    has_ended || refusal.code().is_some_and(|code| OF_THE_CONNECTION.contains(&&*code))
}

impl<'c> Executor<'c> for &'c mut Link {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (connection, asked) = self.ask();
        Box::pin(stream::unfold((connection.fetch_many(query), asked), |(mut answers, asked)| async move {
            let answer = match asked.next(answers.next()).await {
                Ok(None) => {
                    *asked.in_doubt = false;
                    return None;
                }
                Ok(Some(answer)) => answer,
                Err(silence) => Err(silence),
            };
            if let Err(error) = &answer {
                *asked.in_doubt = breaks(error);
            }
            Some((answer, (answers, asked)))
        }))
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (connection, asked) = self.ask();
        Box::pin(asked.whole(connection.fetch_optional(query)))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        let (connection, asked) = self.ask();
        Box::pin(asked.whole(connection.prepare_with(sql, parameters)))
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        let (connection, asked) = self.ask();
        Box::pin(asked.whole(connection.describe(sql)))
    }
}
