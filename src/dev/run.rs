//! `callfleet servers`: a command run with both private servers beside it, as the tests are.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::data_dir::DataDir;
use super::programs::Programs;
use super::servers::{Durability, Servers};
use super::{nats, postgres};

/// Folders for one run begin with this, so that the next run finds what a killed one left.
const TEMPORARY: &str = "callfleet-servers-";
/// Time the command gets to end after SIGTERM.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);

/// Which command to run, beside what.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// Where the servers keep their data [default: a folder for this run only]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Let the servers write to disk when they like: for tests, where no power cut has to be survived
    #[arg(long)]
    pub fast: bool,
    /// The server programs
    #[command(flatten)]
    pub programs: Programs,
    /// The command; it finds the servers in `DATABASE_URL` and `NATS_URL`
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Starts both servers, runs the command, stops the servers, and gives the command's exit code
/// (128 and the signal when a signal ended it, as shells do).
///
/// # Errors
/// When a server does not start or dies, when the command cannot be run, or when `shutdown` ended it.
pub async fn run(options: &RunOptions, shutdown: CancellationToken) -> anyhow::Result<u8> {
    let durability = if options.fast { Durability::None } else { Durability::Full };
    let data = match &options.data_dir {
        Some(path) => DataDir::open(path)?,
        None => temporary().await?,
    };
    let began = Instant::now();
    let mut servers = Servers::start(&data, &options.programs, durability).await?;
    tracing::info!(data_dir = %data.path().display(), took = ?began.elapsed(), "servers are ready");
    let ended = beside(&servers, &options.command, shutdown).await;
    servers.stop().await?;
    drop(servers);
    if options.data_dir.is_none() {
        remove(data).await?;
    }
    ended
}

async fn beside(servers: &Servers, command: &[OsString], shutdown: CancellationToken) -> anyhow::Result<u8> {
    let Some((program, arguments)) = command.split_first() else { bail!("no command to run") };
    let mut child = Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", servers.postgres.url())
        .env("NATS_URL", servers.nats.url())
        .env("CALLFLEET_TEST_SERVERS", "1")
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let error = tokio::select! {
        status = child.wait() => return Ok(exit_code(status.context("no exit status")?)),
        error = servers.died() => error,
        () = shutdown.cancelled() => anyhow::anyhow!("stopped by a signal"),
    };
    end(&mut child).await?;
    Err(error)
}

/// SIGTERM, and force when that does not do.
async fn end(child: &mut Child) -> anyhow::Result<()> {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended between: then there is nothing to signal.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if timeout(COMMAND_PATIENCE, child.wait()).await.is_err() {
        child.kill().await.context("the command does not end")?;
    }
    Ok(())
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// A data folder for this run only. Those of killed runs are removed first.
async fn temporary() -> anyhow::Result<DataDir> {
    let parent = std::env::temp_dir();
    for entry in fs::read_dir(&parent).with_context(|| format!("cannot list {}", parent.display()))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            remove_if_left_behind(&entry.path()).await;
        }
    }
    DataDir::open(&parent.join(format!("{TEMPORARY}{}", Uuid::new_v4().simple())))
}

async fn remove_if_left_behind(path: &Path) {
    // The parent is shared: what another user put there under our name is not to be followed.
    let is_own =
        fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == Uid::effective().as_raw());
    // Not to be opened means in use.
    let Some(data) = is_own.then(|| DataDir::open(path).ok()).flatten() else { return };
    if let Err(error) = remove(data).await {
        tracing::warn!(path = %path.display(), error = format!("{error:#}"), "not removed");
    }
}

async fn remove(data: DataDir) -> anyhow::Result<()> {
    nats::end_orphans(&data).await?;
    postgres::remove_data(&data).await?;
    fs::remove_dir_all(data.path()).with_context(|| format!("cannot remove {}", data.path().display()))
}
