//! One program as a process of its own: signals, its end, and what it said last.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::folder::Folder;
use crate::wait;

/// As much of a log as is shown.
const TAIL_BYTES: usize = 64 * 1024;
/// Time for a killed process to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Starts processes and remembers them in the run's folder.
pub(crate) struct Starter {
    folder: Mutex<Folder>,
    logs: PathBuf,
}

/// A running program; killed when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    pid: Pid,
    log: PathBuf,
}

impl Starter {
    pub(crate) fn new(folder: Folder, logs: PathBuf) -> Self {
        Self { folder: Mutex::new(folder), logs }
    }

    /// A folder below the run's folder.
    pub(crate) fn below(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner).below(name)
    }

    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    /// Starts `command`; what it says is added to the log of that name.
    pub(crate) fn start(&self, name: &str, mut command: Command) -> anyhow::Result<Process> {
        let log = self.logs.join(format!("{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        // A group of its own: Ctrl-C reaches the suite alone, which ends everything in order.
        command.process_group(0).kill_on_drop(true).stdin(Stdio::null());
        command.stdout(file.try_clone().context("no second handle on a log")?).stderr(file);
        let child = command.spawn().with_context(|| format!("{name} cannot be run"))?;
        let pid = child.id().context("it ended before it began")?;
        self.folder.lock().unwrap_or_else(PoisonError::into_inner).note(pid)?;
        let pid = Pid::from_raw(i32::try_from(pid).context("no process number")?);
        Ok(Process { name: name.to_owned(), child, pid, log })
    }
}

impl Process {
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(self.pid, signal).with_context(|| format!("{signal} cannot be sent to {}", self.name))
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// How it ended, unless it takes too long.
    pub(crate) async fn ended(&mut self, deadline: Duration) -> Option<ExitStatus> {
        wait::within(deadline, self.child.wait()).await?.ok()
    }

    /// Ends it as a crash does.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        // It may have ended by itself.
        let _gone = self.signal(Signal::SIGKILL);
        self.ended(KILL_DEADLINE).await.with_context(|| format!("{} does not end", self.name))?;
        Ok(())
    }

    /// The last lines of what it said.
    pub(crate) fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(bytes.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default());
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
