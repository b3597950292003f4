//! One server program as a child of this process: its signals, its end, and what it said last.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A log beyond this is put aside (one is kept) when its server starts again.
const LOG_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// As much of a log as fits an error message.
const TAIL_LINES: usize = 8;

/// Signals in the order in which they are tried, each with the time it gets to work.
pub(super) type Steps<'a> = &'a [(Signal, Duration)];

/// A running server, outside the terminal's process group; killed when this value is dropped.
pub(super) struct Child {
    name: &'static str,
    pid: u32,
    said: Said,
    signals: mpsc::Sender<Signal>,
    ended: watch::Receiver<Option<ExitStatus>>,
    _watch: JoinSet<()>,
}

/// What a server wrote to its log since it was started.
#[derive(Clone, Debug)]
pub(super) struct Said {
    log: PathBuf,
    from: u64,
}

impl Child {
    /// Starts `command` with its output appended to the file `log`.
    pub(super) fn spawn(name: &'static str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let (file, said) = open_log(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.process_group(0).kill_on_drop(true).stdin(Stdio::null());
        command.stdout(file.try_clone().context("no second handle on the log")?).stderr(file);
        let program = command.as_std().get_program().to_owned();
        let mut process = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let pid = process.id().context("ended before it began")?;
        let (signals, mut asked) = mpsc::channel(4);
        let (end, ended) = watch::channel(None);
        let mut watch = JoinSet::new();
        // One task owns the process, so that no signal can hit a process number that was given on.
        watch.spawn(async move {
            loop {
                tokio::select! {
                    status = process.wait() => {
                        end.send_replace(Some(status.unwrap_or_default()));
                        return;
                    }
                    Some(signal) = asked.recv() => send(process.id(), signal),
                }
            }
        });
        tracing::debug!(name, pid, "started");
        Ok(Self { name, pid, said, signals, ended, _watch: watch })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn said(&self) -> &Said {
        &self.said
    }

    /// Ready when the process has ended, for whatever reason.
    pub(super) fn ended(&self) -> impl Future<Output = ExitStatus> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            let status = ended.wait_for(Option::is_some).await.ok().and_then(|status| *status);
            match status {
                Some(status) => status,
                // Dropped, which is an end that nobody needs to be told of.
                None => std::future::pending().await,
            }
        }
    }

    /// [`Child::ended`] as an error for whoever did not ask for that end.
    pub(super) fn died(&self) -> impl Future<Output = anyhow::Error> + Send + use<> {
        let (name, said, ended) = (self.name, self.said.clone(), self.ended());
        async move {
            let status = ended.await;
            anyhow!("{name} ended unasked ({status}); the end of {}:\n{}", said.log.display(), said.tail())
        }
    }

    /// Sends the signals of `steps` in turn until the process has ended.
    pub(super) async fn stop(&self, steps: Steps<'_>) -> anyhow::Result<()> {
        for (signal, patience) in steps {
            // A full or closed queue means that an earlier signal is under way or the process gone.
            let _ = self.signals.try_send(*signal);
            if timeout(*patience, self.ended()).await.is_ok() {
                return Ok(());
            }
            tracing::warn!(name = self.name, %signal, "still running after {patience:?}");
        }
        bail!("{} (process {}) does not end", self.name, self.pid)
    }
}

impl Said {
    /// Everything since the start; empty when the log is gone.
    pub(super) fn text(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.from).unwrap_or(usize::MAX);
        String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
    }

    /// The last lines of it.
    pub(super) fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
    }
}

/// Sends `signal` to a process that has not been waited for yet.
fn send(pid: Option<u32>, signal: Signal) {
    let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) else { return };
    if let Err(error) = nix::sys::signal::kill(Pid::from_raw(pid), signal) {
        tracing::warn!(pid, %signal, %error, "signal not sent");
    }
}

fn open_log(log: &Path) -> std::io::Result<(File, Said)> {
    if fs::metadata(log).is_ok_and(|log| log.len() > LOG_MAX_BYTES) {
        fs::rename(log, log.with_added_extension("old"))?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
    let from = file.metadata()?.len();
    Ok((file, Said { log: log.to_owned(), from }))
}
