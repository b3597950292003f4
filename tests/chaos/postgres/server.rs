//! One PostgreSQL server on one data folder.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use super::{Programs, USER, count_at};
use crate::ports;
use crate::processes::{Process, Starter};
use crate::wait;

/// Recovery after a crash reads the log since the last checkpoint.
const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// Starts tried, while what a killed server left behind is still going away.
const START_TRIES: u32 = 50;

const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=64MB",
    "wal_level=replica",
    "max_wal_senders=4",
    "wal_keep_size=256MB",
    "hot_standby=on",
    "max_wal_size=2GB",
    "checkpoint_timeout=15min",
    "autovacuum_naptime=15s",
    // Kills are recovered from: all that makes a commit durable is on.
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    // When a transaction was committed is asked afterwards: by this clock, not by the roles'.
    "track_commit_timestamp=on",
    "jit=off",
    "logging_collector=off",
    "log_destination=stderr",
    "log_timezone=UTC",
    "TimeZone=UTC",
];

pub(super) struct Server {
    folder: PathBuf,
    log: String,
    port: u16,
    process: Option<Process>,
}

impl Server {
    /// Makes a data folder.
    pub(super) async fn make(programs: &Programs, folder: &PathBuf) -> anyhow::Result<()> {
        let folder = folder.to_string_lossy();
        let options = [
            "--no-instructions",
            "--no-sync",
            "--locale=C",
            "--encoding=UTF8",
            "--auth=trust",
            "-U",
            USER,
            "-D",
            &folder,
        ];
        programs.run("initdb", &options).await
    }

    /// Copies the data of a running server, so as to follow it.
    pub(super) async fn copy(programs: &Programs, from: u16, folder: &PathBuf) -> anyhow::Result<()> {
        let (port, folder) = (from.to_string(), folder.to_string_lossy());
        let source = ["--host=127.0.0.1", "--port", &port, "--username", USER];
        let how =
            ["--wal-method=stream", "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata", &folder];
        programs.run("pg_basebackup", &[&source[..], &how[..]].concat()).await
    }

    pub(super) fn new(folder: PathBuf, log: String) -> anyhow::Result<Self> {
        Ok(Self { folder, log, port: ports::free()?, process: None })
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn is_up(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.has_ended().is_none())
    }

    /// Starts it, and returns when it takes statements.
    pub(super) async fn start(&mut self, programs: &Programs, starter: &Starter) -> anyhow::Result<()> {
        for _ in 0..START_TRIES {
            let mut command = programs.command("postgres");
            command.arg("-D").arg(&self.folder).arg("-c").arg(format!("port={}", self.port));
            for setting in SETTINGS {
                command.args(["-c", setting]);
            }
            let mut process = starter.start(&self.log, command)?;
            let port = self.port;
            let mut ended = false;
            let ready = wait::until(START_DEADLINE, async || {
                ended = process.has_ended().is_some();
                ended || count_at(port, "SELECT count(*) FROM pg_class").await.is_ok()
            });
            let ready = ready.await;
            if ready && !ended {
                self.process = Some(process);
                return Ok(());
            }
            // The connections of a killed server notice within moments that they are alone.
            let said = process.tail(6);
            if !ended || !said.contains("still in use") {
                bail!("PostgreSQL does not start on port {port}; it said:\n{said}");
            }
            wait::hold(Duration::from_millis(100)).await;
        }
        bail!("PostgreSQL does not start: a killed server's connections do not go away")
    }

    pub(super) async fn stop_at_once(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::SIGQUIT)?;
        process.ended(STOP_DEADLINE).await.context("PostgreSQL does not end")?;
        Ok(())
    }

    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Removes the data of a server that has ended.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        drop(self.process);
        fs::remove_dir_all(&self.folder).with_context(|| format!("cannot remove {}", self.folder.display()))
    }
}
