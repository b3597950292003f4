//! The data of the private PostgreSQL: made once, whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::super::programs::PostgresPrograms;
use super::super::servers::Durability;
use super::place::Place;
use super::{DATABASE, USER};

/// Nobody gets in but over loopback and with the password.
const WHO_MAY_CONNECT: &str = "host all all 127.0.0.1/32 scram-sha-256\n";
/// What a making that was cut short leaves behind begins with this.
const UNFINISHED: &str = "unfinished-";

/// The folder of the data.
pub(super) fn path(place: &Place) -> PathBuf {
    place.root().join("data")
}

/// The major version that wrote the data; nothing when there are none yet.
pub(super) fn major(place: &Place) -> anyhow::Result<Option<u32>> {
    let path = path(place).join("PG_VERSION");
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => {
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Some(text.trim().parse().with_context(|| format!("{} has no version", path.display()))?))
        }
    }
}

/// Makes the data under another name and renames them when they are complete and on disk.
pub(super) async fn make(
    place: &Place,
    programs: &PostgresPrograms,
    password: &str,
    durability: Durability,
) -> anyhow::Result<()> {
    remove_unfinished(place)?;
    let new = place.root().join(format!("{UNFINISHED}{}", std::process::id()));
    let mut initdb = place.command(&programs.bin.join("initdb"));
    initdb.args(["--no-instructions", "--no-sync", "--locale=C", "--encoding=UTF8", "--auth=trust", "-U", USER, "-D"]);
    run(initdb.arg(&new), "").await.context("initdb failed")?;
    fs::write(new.join("pg_hba.conf"), WHO_MAY_CONNECT).context("cannot write pg_hba.conf")?;
    let statements = format!("CREATE DATABASE {DATABASE}\n{}", set_password_statement(password));
    single_user(place, programs, &new, &["fsync=off"], &statements).await?;
    if durability == Durability::Full {
        let mut sync = place.command(&programs.bin.join("initdb"));
        run(sync.arg("--sync-only").arg("-D").arg(&new), "").await.context("the new data are not on disk")?;
    }
    fs::rename(&new, path(place))
        .and_then(|()| File::open(place.root())?.sync_all())
        .context("cannot name the new data")
}

/// Gives the data a new password, for when the old one is lost; the server must not be running.
pub(super) async fn set_password(place: &Place, programs: &PostgresPrograms, password: &str) -> anyhow::Result<()> {
    single_user(place, programs, &path(place), &[], &set_password_statement(password)).await
}

/// Lets a server start although the pid file of a killed one names a process that lives.
///
/// That process is somebody else: the caller has ended every server on these data. PostgreSQL takes
/// a pid in this variable for its own starter's, and goes on to check what else might hold the data.
pub(super) fn ignore_stale_pid(command: &mut Command, data: &Path) {
    let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    if let Some(pid) = pid_file.lines().next().filter(|pid| !pid.is_empty()) {
        command.env("PG_GRANDPARENT_PID", pid);
    }
}

fn set_password_statement(password: &str) -> String {
    format!("ALTER ROLE {USER} PASSWORD '{password}'\n")
}

/// Runs statements, one a line, on data that no server holds.
async fn single_user(
    place: &Place,
    programs: &PostgresPrograms,
    data: &Path,
    settings: &[&str],
    statements: &str,
) -> anyhow::Result<()> {
    let mut postgres = place.command(&programs.bin.join("postgres"));
    ignore_stale_pid(&mut postgres, data);
    // Without exit_on_error a statement that fails would go unnoticed.
    postgres.arg("--single");
    for setting in ["exit_on_error=on", "log_checkpoints=off"].iter().chain(settings) {
        postgres.args(["-c", setting]);
    }
    postgres.arg("-D").arg(data).arg("postgres");
    run(&mut postgres, statements).await.context("PostgreSQL did not take its first statements")
}

async fn run(command: &mut Command, input: &str) -> anyhow::Result<()> {
    command.process_group(0).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.as_std().get_program().to_owned();
    let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.with_context(|| format!("{} takes no input", program.display()))?;
    }
    let Output { status, stdout, stderr } = child.wait_with_output().await.context("no output")?;
    if !status.success() {
        let said = [stdout, stderr].concat();
        bail!("{}: {status}\n{}", program.display(), String::from_utf8_lossy(&said).trim_end());
    }
    Ok(())
}

fn remove_unfinished(place: &Place) -> anyhow::Result<()> {
    for entry in fs::read_dir(place.root()).context("cannot list PostgreSQL's folder")?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            tracing::info!(path = %entry.path().display(), "removing data whose making was cut short");
            fs::remove_dir_all(entry.path()).context("cannot remove unfinished data")?;
        }
    }
    Ok(())
}
