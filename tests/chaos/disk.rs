//! A small file system of its own, which the suite can fill.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Room for what a stack's streams hold, with plenty to spare.
const SIZE: &str = "size=256m";
const FILLER: &str = "filler";
const PIECE_BYTES: usize = 64 * 1024;
/// More pieces than the disk has room for: this ends however large it turned out.
const PIECES_MAX: usize = 100_000;

/// A mounted file system in memory; unmounted with the run's folder.
pub(crate) struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one at `path`, where this process may: on Linux as root.
    pub(crate) fn mount(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(path).stdout(Stdio::null()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self { path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves no room on it.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::create(self.path.join(FILLER)).context("cannot fill the disk")?;
        for _ in 0..PIECES_MAX {
            // The last piece may fit in part.
            match file.write(&[0; PIECE_BYTES]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("cannot fill the disk"),
            }
        }
        bail!("the disk does not fill up")
    }

    /// Frees what [`Disk::fill`] took.
    pub(crate) fn free(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.path.join(FILLER)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("cannot free the disk"),
            _ => Ok(()),
        }
    }
}
