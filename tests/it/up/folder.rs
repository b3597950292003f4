//! A data folder that is gone when the test is, with whatever ran on it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::processes;

/// The folder. Whatever still runs on it is killed when it is dropped.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        // PostgreSQL, which runs as somebody else where the tests run as root, passes through it.
        let mode = Permissions::from_mode(0o755);
        Self { folder: tempfile::Builder::new().prefix("callfleet-it-").permissions(mode).tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder in it.
    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// What the file `env` says, if it is there.
    pub(crate) fn env(&self) -> Option<BTreeMap<String, String>> {
        let text = fs::read_to_string(self.data().join("env")).ok()?;
        Some(
            text.lines().map(|line| line.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        )
    }

    /// The processes that run on it.
    pub(crate) fn processes(&self) -> Vec<i32> {
        processes::naming(self.path().to_str().unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for pid in self.processes() {
            processes::kill(pid);
        }
    }
}
