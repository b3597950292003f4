//! The machine's processes, as `ps` shows them.

use std::collections::BTreeSet;
#[cfg(target_os = "linux")]
use std::fs;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// No process.
pub(crate) const NONE: [i32; 0] = [];

struct Process {
    pid: i32,
    parent: i32,
    command: String,
}

/// All that run; those that have ended and wait to be noticed do not.
#[cfg(target_os = "linux")]
fn all() -> Vec<Process> {
    let read = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_alive = !field("State:")?.starts_with(['Z', 'X']);
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        is_alive.then_some(Process { pid, parent: field("PPid:")?.parse().ok()?, command })
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(|e| read(e.file_name().to_str()?.parse().ok()?)).collect()
}

#[cfg(not(target_os = "linux"))]
fn all() -> Vec<Process> {
    let output = std::process::Command::new("ps").args(["-axww", "-o", "pid=,ppid=,stat=,command="]).output().unwrap();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (pid, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let is_alive = !words.next()?.starts_with('Z');
        is_alive.then(|| Process { pid, parent, command: words.collect::<Vec<_>>().join(" ") })
    };
    String::from_utf8_lossy(&output.stdout).lines().filter_map(parse).collect()
}

/// Those whose command line holds `text`.
pub(crate) fn naming(text: &str) -> Vec<i32> {
    all().into_iter().filter(|process| process.command.contains(text)).map(|process| process.pid).collect()
}

/// The children of `pid`, theirs, and so on.
pub(crate) fn below(pid: u32) -> BTreeSet<i32> {
    let all = all();
    let mut found = BTreeSet::from([i32::try_from(pid).unwrap()]);
    loop {
        let before = found.len();
        found.extend(all.iter().filter(|p| found.contains(&p.parent)).map(|p| p.pid).collect::<Vec<_>>());
        if found.len() == before {
            found.remove(&i32::try_from(pid).unwrap());
            return found;
        }
    }
}

/// Those of `pids` that still run.
pub(crate) fn alive(pids: &BTreeSet<i32>) -> Vec<i32> {
    all().into_iter().map(|process| process.pid).filter(|pid| pids.contains(pid)).collect()
}

pub(crate) fn terminate(pid: i32) {
    signal::kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
}

/// Stops it where it is, until [`resume`].
pub(crate) fn pause(pid: u32) {
    signal::kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGSTOP).unwrap();
}

pub(crate) fn resume(pid: u32) {
    signal::kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGCONT).unwrap();
}

/// Kills, unless it has ended by itself.
pub(crate) fn kill(pid: i32) {
    let _ended = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
}
