//! A PostgreSQL of the run's own, and its standby when it is to fail over.

mod programs;
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::watch;

pub(crate) use programs::Programs;
use server::Server;

use crate::processes::Starter;
use crate::wait;

const USER: &str = "callfleet";
const DATABASE: &str = "callfleet";
/// Time for a standby to catch up, and for it to take over.
const STANDBY_DEADLINE: Duration = Duration::from_secs(30);

/// The database as the roles know it: whichever server is the primary.
pub(crate) struct Postgres {
    starter: Arc<Starter>,
    programs: Programs,
    primary: Server,
    standby: Option<Server>,
    serial: u32,
    port: watch::Sender<u16>,
    pool: PgPool,
}

impl Postgres {
    /// Makes a database and starts its server.
    pub(crate) async fn start(starter: &Arc<Starter>) -> anyhow::Result<Self> {
        let programs = Programs::find()?;
        let folder = data_folder(starter, &programs, 0)?;
        Server::make(&programs, &folder).await?;
        let mut primary = Server::new(folder, "postgres-0".to_owned())?;
        primary.start(&programs, starter).await?;
        let (port, _) = watch::channel(primary.port());
        execute_at(primary.port(), "postgres", &format!("CREATE DATABASE {DATABASE}")).await?;
        let pool = pool(primary.port());
        Ok(Self { starter: Arc::clone(starter), programs, primary, standby: None, serial: 0, port, pool })
    }

    /// The primary's port, as it changes.
    pub(crate) fn port(&self) -> watch::Receiver<u16> {
        self.port.subscribe()
    }

    /// The way to the primary past all wires.
    pub(crate) fn url(&self) -> String {
        url(self.primary.port())
    }

    /// The suite's own connections to the primary.
    pub(crate) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Whether the server is meant to run and does.
    pub(crate) fn is_up(&mut self) -> bool {
        self.primary.is_up()
    }

    /// Ends the server without a checkpoint, as `pg_ctl stop -m immediate` does.
    pub(crate) async fn stop_at_once(&mut self) -> anyhow::Result<()> {
        self.primary.stop_at_once().await
    }

    /// Ends it as a crash does.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.primary.kill().await
    }

    /// Starts the server again, and returns when it takes statements.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        self.primary.start(&self.programs, &self.starter).await
    }

    /// Adds a standby that streams, and makes every commit wait for it.
    pub(crate) async fn add_standby(&mut self) -> anyhow::Result<()> {
        self.serial += 1;
        let folder = data_folder(&self.starter, &self.programs, self.serial)?;
        Server::copy(&self.programs, self.primary.port(), &folder).await?;
        let mut standby = Server::new(folder, format!("postgres-{}", self.serial))?;
        standby.start(&self.programs, &self.starter).await?;
        self.standby = Some(standby);
        self.reach("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").await?;
        execute_at(self.primary.port(), "postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'").await?;
        execute_at(self.primary.port(), "postgres", "SELECT pg_reload_conf()").await?;
        self.reach("SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')").await
    }

    /// Makes the standby the primary, which has been killed before; whoever connects from now on
    /// reaches it.
    pub(crate) async fn promote(&mut self) -> anyhow::Result<()> {
        let standby = self.standby.take().context("there is no standby")?;
        let port = standby.port();
        execute_at(port, "postgres", "SELECT pg_promote(true, 30)").await.context("the standby is not promoted")?;
        let promoted = wait::until(STANDBY_DEADLINE, async || {
            count_at(port, "SELECT count(*) WHERE NOT pg_is_in_recovery()").await.is_ok_and(|count| count == 1)
        });
        anyhow::ensure!(promoted.await, "the standby does not become a primary");
        let former = std::mem::replace(&mut self.primary, standby);
        former.remove()?;
        self.pool = pool(port);
        self.port.send_replace(port);
        Ok(())
    }

    async fn reach(&self, count: &str) -> anyhow::Result<()> {
        let port = self.primary.port();
        let reached =
            wait::until(STANDBY_DEADLINE, async || count_at(port, count).await.is_ok_and(|count| count > 0)).await;
        anyhow::ensure!(reached, "the standby does not follow within {STANDBY_DEADLINE:?}: {count}");
        Ok(())
    }
}

fn data_folder(starter: &Starter, programs: &Programs, serial: u32) -> anyhow::Result<PathBuf> {
    // Each in a folder of the user that PostgreSQL runs as.
    let parent = starter.below(&format!("postgres-{:06x}", fastrand::u32(..1 << 24)))?;
    programs.give(&parent)?;
    Ok(parent.join(format!("data-{serial}")))
}

fn url(port: u16) -> String {
    format!("postgres://{USER}@127.0.0.1:{port}/{DATABASE}")
}

fn options(port: u16, database: &str) -> PgConnectOptions {
    PgConnectOptions::new().host("127.0.0.1").port(port).username(USER).database(database).application_name("chaos")
}

fn pool(port: u16) -> PgPool {
    let patience = Duration::from_secs(5);
    PgPoolOptions::new().max_connections(4).acquire_timeout(patience).connect_lazy_with(options(port, DATABASE))
}

async fn execute_at(port: u16, database: &str, statement: &str) -> anyhow::Result<()> {
    use sqlx::{ConnectOptions, Connection, Executor};
    let mut connection = options(port, database).connect().await.context("the suite cannot connect to PostgreSQL")?;
    let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    connection.execute(statement).await.context("PostgreSQL refuses the suite's statement")?;
    connection.close().await?;
    Ok(())
}

async fn count_at(port: u16, statement: &str) -> anyhow::Result<i64> {
    use sqlx::{ConnectOptions, Connection};
    let mut connection = options(port, "postgres").connect().await?;
    let count = sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(count)
}
