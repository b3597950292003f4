//! The folder of the private PostgreSQL, and the user it runs as: PostgreSQL refuses to run as root.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use nix::unistd::{Gid, Uid, User};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use super::super::data_dir::{self, DataDir};

/// Users that root runs PostgreSQL as, the first that exists.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];
/// Where the data go when the unprivileged user cannot get into the data folder.
const ELSEWHERE: &str = "/var/lib/callfleet";
/// In the data folder: says where the data went.
const POINTER: &str = "postgres.elsewhere";

/// A folder that the user PostgreSQL runs as owns and can reach.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    account: Option<Account>,
    /// Held when the folder is not below the data folder, whose own lock would not cover it.
    _lock: Option<File>,
}

/// The user to run as, when it is not the one who started this process.
#[derive(Clone, Debug)]
struct Account {
    uid: Uid,
    gid: Gid,
}

impl Place {
    /// Finds or makes the folder.
    pub(super) async fn find(data: &DataDir) -> anyhow::Result<Self> {
        let root = data.path().join("postgres");
        let elsewhere = elsewhere(data);
        if !Uid::effective().is_root() {
            if let Some(elsewhere) = elsewhere {
                bail!(
                    "the data are in {}, written as root: run as root, or use another --data-dir",
                    elsewhere.display()
                );
            }
            make_folder(&root)?;
            return Ok(Self { root, account: None, _lock: None });
        }
        if elsewhere.is_none() {
            let account = Account::owning(&root)?;
            let refused = match account.take(&root).await {
                Ok(()) => return Ok(Self { root, account: Some(account), _lock: None }),
                Err(refused) => refused,
            };
            if root.join("data").exists() {
                return Err(refused.context("the data can no longer be reached by the user that PostgreSQL runs as"));
            }
            tracing::info!(reason = format!("{refused:#}"), "PostgreSQL's data go to {ELSEWHERE}");
            // Empty, and in the way of whoever looks for the data; no matter if it stays.
            let _ = fs::remove_dir(&root);
        }
        Self::elsewhere(data, elsewhere.unwrap_or_else(|| root_elsewhere(data))).await
    }

    /// The folder that holds the cluster.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A command that runs in the folder as the user who owns it, without settings from outside.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(account) = &self.account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        command.current_dir(&self.root).env_remove("PGDATA").env("LC_ALL", "C").env("TZ", "UTC");
        command
    }

    async fn elsewhere(data: &DataDir, root: PathBuf) -> anyhow::Result<Self> {
        let parent = Path::new(ELSEWHERE);
        fs::create_dir_all(parent)
            .and_then(|()| fs::set_permissions(parent, Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot make {ELSEWHERE}"))?;
        let account = Account::owning(&root)?;
        account.take(&root).await?;
        let lock = data_dir::lock(&root).with_context(|| format!("cannot use {}", root.display()))?;
        data_dir::write_private(&data.path().join(POINTER), &format!("{}\n", root.display()))
            .with_context(|| format!("cannot write {POINTER}"))?;
        Ok(Self { root, account: Some(account), _lock: Some(lock) })
    }
}

/// Removes what is kept outside of the data folder, if anything is.
pub(super) fn remove_elsewhere(data: &DataDir) -> anyhow::Result<()> {
    let Some(root) = elsewhere(data) else { return Ok(()) };
    fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))
}

impl Account {
    /// The user who owns the data at `root` already, or the one to give them to.
    fn owning(root: &Path) -> anyhow::Result<Self> {
        if let Some(owner) = fs::metadata(root.join("data")).ok().filter(|data| data.uid() != 0) {
            return Ok(Self { uid: Uid::from_raw(owner.uid()), gid: Gid::from_raw(owner.gid()) });
        }
        for name in UNPRIVILEGED {
            if let Some(user) = User::from_name(name).with_context(|| format!("cannot look up the user {name}"))? {
                return Ok(Self { uid: user.uid, gid: user.gid });
            }
        }
        bail!("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody to run it as")
    }

    /// Makes `root` the account's own, and makes sure that it can get there.
    async fn take(&self, root: &Path) -> anyhow::Result<()> {
        make_folder(root)?;
        let shown = root.display();
        nix::unistd::chown(root, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give {shown} away"))?;
        // Trying says more than reading modes could: access lists and mounts have a say too.
        let mut enter = Command::new("/bin/sh");
        enter.args(["-c", ":"]).current_dir(root).uid(self.uid.as_raw()).gid(self.gid.as_raw());
        let entered = enter.stdin(Stdio::null()).status().await;
        entered.with_context(|| format!("user {} cannot get into {shown}", self.uid))?;
        Ok(())
    }
}

fn make_folder(root: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .with_context(|| format!("cannot make the folder {}", root.display()))
}

/// Where the data are, when they are not in the data folder.
fn elsewhere(data: &DataDir) -> Option<PathBuf> {
    let pointer = fs::read_to_string(data.path().join(POINTER)).ok()?;
    // Only root writes below it, so a pointer that was tampered with leads nowhere else.
    Some(PathBuf::from(pointer.trim_end())).filter(|root| root.parent() == Some(Path::new(ELSEWHERE)))
}

/// A folder of its own for every data folder.
fn root_elsewhere(data: &DataDir) -> PathBuf {
    let hash = Sha256::digest(data.path().as_os_str().as_encoded_bytes());
    let short = hash.first_chunk().copied().map_or(0, u64::from_be_bytes);
    Path::new(ELSEWHERE).join(format!("{short:016x}"))
}
