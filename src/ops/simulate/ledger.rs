//! A line for every 202, in a file before it is counted anywhere.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use chrono::{SecondsFormat, Utc};
use serde::Serialize;

/// The file of a run's 202s, or nothing when none was asked for.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    book: Option<Mutex<Book>>,
}

#[derive(Debug)]
struct Book {
    path: PathBuf,
    file: File,
    lines: u64,
}

/// What the operator finds in the outcome.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LedgerSummary {
    pub(super) file: PathBuf,
    /// Lines that this run wrote, those of the scenes included
    pub(super) lines: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    call_id: &'a str,
    sequence: u32,
    status: &'a str,
    at: String,
}

impl Ledger {
    /// Opens `path` for appending.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let file = File::options().append(true).create(true).open(path);
        let file = file.with_context(|| format!("cannot write the ledger {}", path.display()))?;
        Ok(Self { book: Some(Mutex::new(Book { path: path.to_owned(), file, lines: 0 })) })
    }

    /// Writes down that these packets of these calls were answered 202. Each call is one write, handed
    /// to the kernel before this returns: killing the process loses none of it.
    pub(super) fn write<'a>(&self, entries: impl Iterator<Item = (&'a str, u32, &'a str)>) -> anyhow::Result<()> {
        let Some(book) = &self.book else { return Ok(()) };
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut text = Vec::with_capacity(128);
        let mut lines = 0;
        for (call_id, sequence, status) in entries {
            serde_json::to_writer(&mut text, &Line { call_id, sequence, status, at: at.clone() })?;
            text.push(b'\n');
            lines += 1;
        }
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        let written = book.file.write_all(&text);
        written.with_context(|| format!("cannot write the ledger {}", book.path.display()))?;
        book.lines += lines;
        Ok(())
    }

    pub(super) fn summary(&self) -> Option<LedgerSummary> {
        let book = self.book.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(LedgerSummary { file: book.path.clone(), lines: book.lines })
    }
}

#[cfg(test)]
mod tests {
    use super::Ledger;
    use serde_json::Value;

    #[test]
    fn lines_are_appended_and_there_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        for run in 1..=2 {
            let ledger = Ledger::open(Some(&path)).unwrap();
            ledger.write([("a\"b", 1, "accepted"), ("c", 2, "duplicate")].into_iter()).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().count(), 2 * run);
            let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            assert_eq!(
                (&line["call_id"], &line["sequence"], &line["status"]),
                (&"a\"b".into(), &1.into(), &"accepted".into())
            );
            chrono::DateTime::parse_from_rfc3339(line["at"].as_str().unwrap()).unwrap();
            assert_eq!(ledger.summary().unwrap().lines, 2);
        }
    }
}
