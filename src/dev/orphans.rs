//! Servers that outlived the process that started them, because it was killed.

use std::time::Duration;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::child::Steps;

const POLL: Duration = Duration::from_millis(10);

/// Ends every process whose command line `is_ours` recognises: it names this data folder, which the
/// caller has locked, so nobody else's server can match.
///
/// The process table is asked rather than a pid file: a number in a file may belong to another
/// process by now, and a server killed early has not written its file yet.
pub(super) async fn end(name: &str, is_ours: impl Fn(&str) -> bool, steps: Steps<'_>) -> anyhow::Result<()> {
    for (signal, patience) in steps {
        let found = find(&is_ours)?;
        if found.is_empty() {
            return Ok(());
        }
        tracing::warn!(?found, %signal, "ending a {name} that a killed run left behind");
        for pid in found {
            match kill(pid, *signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => bail!("{name} is running as process {pid} on this data and cannot be ended: {error}"),
            }
        }
        let deadline = Instant::now() + *patience;
        while Instant::now() < deadline {
            if find(&is_ours)?.is_empty() {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }
    bail!("a {name} that a killed run left behind does not end")
}

fn find(is_ours: &impl Fn(&str) -> bool) -> anyhow::Result<Vec<Pid>> {
    let all = processes().context("cannot list the running processes")?;
    Ok(all.into_iter().filter(|(_, command)| is_ours(command)).map(|(pid, _)| pid).collect())
}

/// Every process with its arguments, joined by spaces and ended by one. Those that have ended but
/// were not waited for have none.
#[cfg(target_os = "linux")]
fn processes() -> std::io::Result<Vec<(Pid, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended since, or belong to somebody whose processes are hidden.
        let Ok(arguments) = std::fs::read(entry.path().join("cmdline")) else { continue };
        found.push((Pid::from_raw(pid), String::from_utf8_lossy(&arguments).replace('\0', " ")));
    }
    Ok(found)
}

/// As on Linux, from `ps`.
#[cfg(not(target_os = "linux"))]
fn processes() -> std::io::Result<Vec<(Pid, String)>> {
    let output = std::process::Command::new("ps").args(["-axww", "-o", "pid=,command="]).output()?;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let parse = |line: &str| {
        let (pid, command) = line.trim_start().split_once(' ')?;
        Some((Pid::from_raw(pid.parse().ok()?), format!("{} ", command.trim())))
    };
    Ok(lines.lines().filter_map(parse).collect())
}
