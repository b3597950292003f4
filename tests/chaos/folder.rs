//! The run's own folder, and what a killed run left behind.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

const PREFIX: &str = "callfleet-chaos-";
/// Others may pass through (not list): PostgreSQL runs as somebody else below it.
const MODE: u32 = 0o711;
/// Where a process's start is in what Linux says of it, from its state on.
const START_TIME: usize = 19;
const END_DEADLINE: Duration = Duration::from_secs(10);

/// A folder for one run, removed at its end with everything in it.
pub(crate) struct Folder {
    path: PathBuf,
    /// Every process that was started, so that the next run can end what a killed one left running.
    processes: File,
}

impl Folder {
    /// Ends and removes what killed runs left, and makes a folder for this one.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let parent = std::env::temp_dir();
        remove_left_behind(&parent);
        let path = parent.join(format!("{PREFIX}{}-{:06x}", std::process::id(), fastrand::u32(..1 << 24)));
        fs::DirBuilder::new()
            .mode(MODE)
            .create(&path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        let list = path.join("processes");
        let processes = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&list);
        let mut this = Self { path, processes: processes.with_context(|| format!("cannot write {}", list.display()))? };
        this.note(std::process::id())?;
        Ok(this)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder below it.
    pub(crate) fn below(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Keeps in mind that this run started the process.
    pub(crate) fn note(&mut self, pid: u32) -> anyhow::Result<()> {
        let began = began(pid).unwrap_or_default();
        writeln!(self.processes, "{pid} {began}").context("cannot write down which processes run")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        end_all(&self.path);
        remove(&self.path);
    }
}

/// Ends every process that a run started, but itself, and waits until they are gone.
fn end_all(folder: &Path) {
    let list = fs::read_to_string(folder.join("processes")).unwrap_or_default();
    let all: Vec<(&str, &str)> = list.lines().skip(1).filter_map(|line| line.split_once(' ')).collect();
    for (pid, began) in &all {
        if let (true, Ok(pid)) = (lives((pid, began)), pid.parse()) {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    if !wait::until_blocking(END_DEADLINE, || !all.iter().any(|process| lives(*process))) {
        eprintln!("some processes of {} do not end", folder.display());
    }
}

/// Unmounts and removes what is there; what cannot be removed is named and left.
fn remove(path: &Path) {
    unmount_below(path);
    if let Err(error) = fs::remove_dir_all(path) {
        eprintln!("{} is not removed: {error}", path.display());
    }
}

/// Where Linux lists them; elsewhere nothing is ever mounted.
fn unmount_below(path: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for mounted in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(mounted).starts_with(path) {
            let _tried = std::process::Command::new("umount").arg(mounted).status();
        }
    }
}

fn remove_left_behind(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let list = fs::read_to_string(entry.path().join("processes")).unwrap_or_default();
        let owner = list.lines().next().and_then(|line| line.split_once(' '));
        let Some(owner) = owner.filter(|_| is_ours) else { continue };
        // Without /proc nobody can be told from a successor to its number: nobody is ended.
        if lives(owner) || !Path::new("/proc/self/stat").exists() {
            continue;
        }
        end_all(&entry.path());
        remove(&entry.path());
    }
}

/// One that has ended and was not waited for yet lives no more.
fn lives((pid, since): (&str, &str)) -> bool {
    let Some(fields) = pid.parse().ok().and_then(fields) else { return false };
    !since.is_empty()
        && fields.get(START_TIME).is_some_and(|began| began == since)
        && fields.first().is_some_and(|state| state != "Z")
}

/// When a process began, in the kernel's ticks: with its number it names one process for good.
fn began(pid: u32) -> Option<String> {
    fields(pid)?.get(START_TIME).cloned()
}

/// What Linux says of a process, from its state on.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}
