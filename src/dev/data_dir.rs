//! The folder that holds everything one embedded instance keeps, locked by that instance.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Who runs this instance may read it.
const FOLDER_MODE: u32 = 0o700;
/// As root others may pass through (not list), because PostgreSQL runs as somebody else below it.
const FOLDER_MODE_AS_ROOT: u32 = 0o711;

/// A data folder, locked until this value is dropped (or the process dies in whatever way).
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the folder when it is missing, locks it, and removes the `env` file of the run before,
    /// so that whoever waits for that file sees this run's.
    ///
    /// # Errors
    /// When another instance holds the folder, or it cannot be written; the error names it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let mode = if nix::unistd::geteuid().is_root() { FOLDER_MODE_AS_ROOT } else { FOLDER_MODE };
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .and_then(|()| path.canonicalize())
            .map_err(anyhow::Error::from)
            .and_then(|path| Ok(Self { _lock: lock(&path)?, path }))
            .and_then(|dir| remove_if_there(&dir.path.join("env")).map(|()| dir).map_err(Into::into))
            .with_context(|| format!("cannot use the data directory {}", path.display()))
    }

    /// The folder, absolute and without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file `env` with a line `KEY=value` each, all of them or none.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write_env(&self, values: &[(&str, &str)]) -> anyhow::Result<()> {
        let text: String = values.iter().map(|(key, value)| [key, "=", value, "\n"].concat()).collect();
        let path = self.path.join("env");
        write_private(&path, &text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Takes the lock of the folder `path`; it is held as long as the file is open.
pub(super) fn lock(path: &Path) -> anyhow::Result<File> {
    let file =
        OpenOptions::new().create(true).append(true).mode(0o600).open(path.join("lock")).context("cannot open lock")?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another instance is using it: stop that one, or choose another folder with --data-dir")
        }
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock it"),
    }
}

/// Replaces `path` by a file that only its owner may read, in one step.
pub(super) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::DataDir;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_second_instance_is_refused_by_name_until_the_first_has_gone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep/data");
        let first = DataDir::open(&path).unwrap();
        let refused = format!("{:#}", DataDir::open(&path).unwrap_err());
        assert!(refused.contains(path.to_str().unwrap()) && refused.contains("another instance"), "{refused}");
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn env_is_private_and_gone_when_the_next_run_begins() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        dir.write_env(&[("A", "1"), ("B", "x=y")]).unwrap();
        let env = dir.path().join("env");
        assert_eq!(fs::read_to_string(&env).unwrap(), "A=1\nB=x=y\n");
        assert_eq!(fs::metadata(&env).unwrap().permissions().mode() & 0o777, 0o600);
        drop(dir);
        DataDir::open(parent.path()).unwrap();
        assert!(!env.exists());
    }
}
