//! What was offered and what was answered 202, on disk, a line each, outside of the product's code.
//!
//! A packet is written down before it is sent for the first time, an answer right after it came. One
//! pair of files for each round; the lines of answers are what `callfleet audit --ledger` reads.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A packet as it was offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offered {
    pub(crate) call_id: String,
    pub(crate) sequence: i64,
    pub(crate) data: String,
    pub(crate) end: bool,
}

/// A 202.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) call_id: String,
    pub(crate) sequence: i64,
    /// `accepted` or `duplicate`, as the answer said
    pub(crate) status: String,
    pub(crate) at: DateTime<Utc>,
    /// Which try it was
    pub(crate) tries: u32,
    /// `spooled`, where the answer said so
    pub(crate) durability: Option<String>,
}

/// The ledger of a stack's rounds.
pub(crate) struct Ledger {
    folder: PathBuf,
    book: Mutex<Option<Book>>,
}

/// The open pair of files, and what of them is needed while the round runs.
struct Book {
    offered: File,
    answered: File,
    /// Every call with an answer, and when its end signal was first answered.
    calls: HashMap<String, Option<DateTime<Utc>>>,
}

/// One round's files, read back.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) offered: BTreeMap<(String, i64), Offered>,
    pub(crate) answered: Vec<Answered>,
}

impl Ledger {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, book: Mutex::new(None) }
    }

    /// Opens the files of a round.
    pub(crate) fn begin(&self, round: usize) -> anyhow::Result<()> {
        let open = |kind: &str| {
            let path = self.path(round, kind);
            let file = OpenOptions::new().create_new(true).append(true).open(&path);
            file.with_context(|| format!("cannot write the ledger {}", path.display()))
        };
        let book = Book { offered: open("offered")?, answered: open("answered")?, calls: HashMap::new() };
        *self.book() = Some(book);
        Ok(())
    }

    pub(crate) fn offer(&self, packet: &Offered) -> anyhow::Result<()> {
        let mut book = self.book();
        let book = book.as_mut().context("a packet outside of any round")?;
        write_line(&mut book.offered, packet)
    }

    pub(crate) fn answer(&self, answer: &Answered, is_end: bool) -> anyhow::Result<()> {
        let mut book = self.book();
        let book = book.as_mut().context("an answer outside of any round")?;
        write_line(&mut book.answered, answer)?;
        let ended_at = book.calls.entry(answer.call_id.clone()).or_default();
        if is_end {
            ended_at.get_or_insert(answer.at);
        }
        Ok(())
    }

    /// How many calls of the round have an answer.
    pub(crate) fn calls(&self) -> usize {
        self.book().as_ref().map_or(0, |book| book.calls.len())
    }

    /// The round's calls whose end signal was answered before `at`.
    pub(crate) fn ended_before(&self, at: DateTime<Utc>) -> Vec<String> {
        let book = self.book();
        let calls = book.iter().flat_map(|book| &book.calls);
        calls.filter(|(_, ended)| ended.is_some_and(|ended| ended < at)).map(|(call_id, _)| call_id.clone()).collect()
    }

    /// Reads a round back from the disk.
    pub(crate) fn read(&self, round: usize) -> anyhow::Result<Read> {
        let offered: Vec<Offered> = read_lines(&self.path(round, "offered"))?;
        let offered = offered.into_iter().map(|packet| ((packet.call_id.clone(), packet.sequence), packet)).collect();
        Ok(Read { offered, answered: read_lines(&self.path(round, "answered"))? })
    }

    /// All answers so far in one file, for the audit.
    pub(crate) fn join(&self, rounds: impl Iterator<Item = usize>) -> anyhow::Result<PathBuf> {
        let path = self.folder.join("all.answered");
        let mut all = File::create(&path).context("cannot write the joined ledger")?;
        for round in rounds {
            let mut part = File::open(self.path(round, "answered")).context("cannot read the ledger")?;
            std::io::copy(&mut part, &mut all)?;
        }
        Ok(path)
    }

    pub(crate) fn path(&self, round: usize, kind: &str) -> PathBuf {
        self.folder.join(format!("round-{round:04}.{kind}"))
    }

    fn book(&self) -> MutexGuard<'_, Option<Book>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_line(file: &mut File, line: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text).context("cannot write the ledger")
}

fn read_lines<T: for<'a> Deserialize<'a>>(path: &Path) -> anyhow::Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("cannot read the ledger {}", path.display()))?;
    let lines = BufReader::new(file).lines();
    lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}
