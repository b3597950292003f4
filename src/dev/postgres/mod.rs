//! A private PostgreSQL.

mod cluster;
mod place;

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use self::place::Place;
use super::access::{Access, free_port, new_password};
use super::child::{Child, Steps};
use super::data_dir::DataDir;
use super::orphans;
use super::programs::{PostgresPrograms, Programs};
use super::servers::Durability;

const NAME: &str = "PostgreSQL";
const USER: &str = "callfleet";
const DATABASE: &str = "callfleet";
/// Recovery after a crash reads the log written since the last checkpoint, which takes its time.
const START_DEADLINE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(10);
/// A port found free may be taken a moment later; more often than this is no coincidence.
const PORT_TRIES: u32 = 5;
/// Fast shutdown; then immediate, which is recovered from at the next start; then by force.
const STOP: Steps<'_> = &[
    (Signal::SIGINT, Duration::from_secs(6)),
    (Signal::SIGQUIT, Duration::from_secs(2)),
    (Signal::SIGKILL, Duration::from_secs(2)),
];
const KILL: Steps<'_> = &[(Signal::SIGKILL, Duration::from_secs(5))];
/// `postmaster.pid` says on this line what the server is doing.
const PID_FILE_STATUS_LINE: usize = 7;

/// Settings that differ from PostgreSQL's own.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "cluster_name=callfleet",
    "max_connections=200",
    "shared_buffers=128MB",
    // Many small commits: fewer checkpoints, less log written twice, no replication.
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_logical_replication_workers=0",
    "wal_buffers=16MB",
    "min_wal_size=256MB",
    "max_wal_size=2GB",
    "checkpoint_timeout=15min",
    // Queue-like tables grow dead rows all the time.
    "autovacuum_naptime=15s",
    // Statements are short: compiling them would take longer than running them.
    "jit=off",
    "logging_collector=off",
    "log_destination=stderr",
    "log_checkpoints=off",
    "log_timezone=UTC",
    "TimeZone=UTC",
];

/// A PostgreSQL that belongs to this process: on loopback, behind its own password, its data in the
/// data folder. Killed when dropped (the data stand that); [`PrivatePostgres::stop`] is the clean end.
pub struct PrivatePostgres {
    programs: PostgresPrograms,
    place: Place,
    durability: Durability,
    access: Access,
    access_file: PathBuf,
    log: PathBuf,
    url: String,
    child: Option<Child>,
}

impl PrivatePostgres {
    /// Starts it and returns when it takes connections; the first start makes the data.
    ///
    /// # Errors
    /// When there are no server programs, or the server does not come up; with the end of its log.
    pub async fn start(data: &DataDir, programs: &Programs, durability: Durability) -> anyhow::Result<Self> {
        Self::prepare(data, programs, durability).await.context("the private PostgreSQL does not start")
    }

    /// `postgres://…` of the database `callfleet`, as a user who may do everything.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ready, with what it said last, when the server has ended without having been asked to (by
    /// [`PrivatePostgres::stop`] and the like, after which an older future of this is to be ignored).
    pub fn died(&self) -> impl Future<Output = anyhow::Error> + Send + use<> {
        let died = self.child.as_ref().map(Child::died);
        async move {
            match died {
                Some(died) => died.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Ends it cleanly, by force when it does not heed. Nothing to do when it is not running.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.end(STOP).await
    }

    /// Ends it as a crash would, with nothing written first.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.end(KILL).await
    }

    /// Stops it if it runs, and starts it with the same port and data.
    ///
    /// # Errors
    /// As [`PrivatePostgres::start`], and when the port has been taken meanwhile.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.launch(1).await.context("the private PostgreSQL does not start again")
    }

    async fn prepare(data: &DataDir, programs: &Programs, durability: Durability) -> anyhow::Result<Self> {
        let place = Place::find(data).await?;
        end_orphans(&place).await?;
        let major = cluster::major(&place)?;
        let programs = programs.postgres(major).await?;
        let access_file = data.path().join("postgres.access");
        let former = Access::load(&access_file)?;
        let password = former.as_ref().map_or_else(new_password, |former| former.password.clone());
        if major.is_none() {
            tracing::info!(folder = %place.root().display(), "making a new database");
            cluster::make(&place, &programs, &password, durability).await?;
        } else if former.is_none() {
            cluster::set_password(&place, &programs, &password).await?;
        }
        let access = Access { port: former.as_ref().map_or(0, |former| former.port), password };
        let log = data.path().join("postgres.log");
        let mut this = Self { programs, place, durability, access, access_file, log, url: String::new(), child: None };
        this.settle_on_a_port()?;
        this.launch(PORT_TRIES).await?;
        Ok(this)
    }

    fn settle_on_a_port(&mut self) -> anyhow::Result<()> {
        self.access.port = free_port(Some(self.access.port).filter(|port| *port != 0))?;
        self.access.save(&self.access_file)?;
        let Access { port, password } = &self.access;
        self.url = format!("postgres://{USER}:{password}@127.0.0.1:{port}/{DATABASE}");
        Ok(())
    }

    /// Starts the server on one of up to `ports` ports.
    async fn launch(&mut self, mut ports: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let child = Child::spawn(NAME, self.command(), &self.log)?;
            let error = tokio::select! {
                () = self.ready(&child) => {
                    self.child = Some(child);
                    return Ok(());
                }
                error = child.died() => error,
                () = tokio::time::sleep_until(deadline) => {
                    child.stop(STOP).await?;
                    bail!("not ready within {START_DEADLINE:?}; the end of its log:\n{}", child.said().tail());
                }
            };
            let said = child.said().text();
            if said.contains("Address already in use") && ports > 1 {
                ports -= 1;
                self.settle_on_a_port()?;
            } else if said.contains("is still in use") {
                // The connections of a killed server notice within moments that they are alone.
                sleep(POLL).await;
            } else {
                return Err(error);
            }
        }
    }

    fn command(&self) -> Command {
        let data = cluster::path(&self.place);
        let mut command = self.place.command(&self.programs.bin.join("postgres"));
        cluster::ignore_stale_pid(&mut command, &data);
        command.arg("-D").arg(data).arg("-c").arg(format!("port={}", self.access.port));
        for setting in SETTINGS.iter().chain(self.durability.postgres_settings()) {
            command.args(["-c", setting]);
        }
        command
    }

    /// Returns when the server has written that it takes connections.
    async fn ready(&self, child: &Child) {
        let pid_file = cluster::path(&self.place).join("postmaster.pid");
        let pid = child.pid().to_string();
        loop {
            let text = fs::read_to_string(&pid_file).unwrap_or_default();
            let mut lines = text.lines();
            let is_ours = lines.next() == Some(pid.as_str());
            if is_ours && text.lines().nth(PID_FILE_STATUS_LINE).is_some_and(|status| status.trim() == "ready") {
                return;
            }
            sleep(POLL).await;
        }
    }

    async fn end(&mut self, steps: Steps<'_>) -> anyhow::Result<()> {
        if let Some(child) = self.child.take() {
            child.stop(steps).await?;
        }
        Ok(())
    }
}

/// Removes the data of a folder that is about to be removed itself, wherever they are.
pub(super) async fn remove_data(data: &DataDir) -> anyhow::Result<()> {
    end_orphans(&Place::find(data).await?).await?;
    place::remove_elsewhere(data)
}

async fn end_orphans(place: &Place) -> anyhow::Result<()> {
    // The server, and what a making that was cut short was running.
    let programs = ["/postgres ", "/initdb "];
    let below_root = format!(" -D {}/", place.root().display());
    let is_ours =
        |command: &str| command.contains(&below_root) && programs.iter().any(|program| command.contains(program));
    orphans::end(NAME, is_ours, STOP).await
}
