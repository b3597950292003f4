//! Where PostgreSQL's programs are, and whom they run as: never root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use nix::unistd::{Gid, Uid, User};
use tokio::process::Command;

/// The users that root runs PostgreSQL as, the first that exists.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// PostgreSQL's programs of one version.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    bin: PathBuf,
    account: Option<(Uid, Gid)>,
}

impl Programs {
    /// Those that `CALLFLEET_PG_BIN` names, or the newest where systems put them.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let bin = match std::env::var_os("CALLFLEET_PG_BIN") {
            Some(bin) => Some(PathBuf::from(bin)),
            None => newest(),
        };
        let bin = bin.filter(|bin| ["postgres", "initdb", "pg_basebackup"].iter().all(|name| bin.join(name).is_file()));
        let bin = bin.context("no PostgreSQL server programs: run scripts/chaos, which installs them")?;
        Ok(Self { bin, account: account()? })
    }

    /// A command that runs as the user PostgreSQL may run as.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        if let Some((uid, gid)) = self.account {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command.current_dir("/").env_clear().env("LC_ALL", "C").env("TZ", "UTC").kill_on_drop(true);
        command
    }

    /// Makes a folder that user's own.
    pub(crate) fn give(&self, folder: &Path) -> anyhow::Result<()> {
        if let Some((uid, gid)) = self.account {
            nix::unistd::chown(folder, Some(uid), Some(gid))
                .with_context(|| format!("cannot give {} away", folder.display()))?;
        }
        Ok(())
    }

    /// Runs a program to its end.
    pub(crate) async fn run(&self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = self.command(name);
        let output = command.args(arguments).stdin(Stdio::null()).output().await;
        let output = output.with_context(|| format!("{name} cannot be run"))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&said).trim_end());
        }
        Ok(())
    }
}

fn account() -> anyhow::Result<Option<(Uid, Gid)>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in UNPRIVILEGED {
        if let Some(user) = User::from_name(name).with_context(|| format!("cannot look up the user {name}"))? {
            return Ok(Some((user.uid, user.gid)));
        }
    }
    bail!("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody")
}

fn newest() -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = installed.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())));
    let newest = versions.max_by_key(|(version, _)| *version).map(|(_, folder)| folder.join("bin"));
    newest.or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file())
    })
}
