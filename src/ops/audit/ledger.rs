//! The ledger: every 202 that somebody was given, compared with what is stored.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, anyhow};
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::report::LedgerTotals;
use crate::domain::{CallId, CallKey, Ranges, Tenant};
use crate::store::audit::{Finding, Findings, Snapshot};

/// Packets that are looked up in one statement.
const BATCH: usize = 10_000;
/// Calls whose packets are counted in one statement.
const COUNT_BATCH: usize = 1_000;
/// Bytes of the longest line: a call id of 255 bytes, each escaped, and the rest.
const LINE_MAX_BYTES: u64 = 8 * 1024;

/// What the comparison came to.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) totals: LedgerTotals,
    /// Packets that were answered 202 and are not stored.
    pub(super) lost: Findings,
    /// Packets that were answered `accepted` more than once.
    pub(super) accepted_twice: Findings,
}

#[derive(Deserialize)]
struct Line {
    call_id: String,
    sequence: i64,
    status: Status,
}

/// How a packet was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Accepted,
    Duplicate,
    /// Accepted while nobody could tell whether it is a duplicate.
    Spooled,
}

/// A line as it is looked up.
struct Entry {
    call_id: CallId,
    key: CallKey,
    sequence: i64,
    line: u64,
}

/// The sequences of one call that the ledger names: a few ranges, however many millions of lines.
#[derive(Debug, Default)]
struct Answered {
    accepted: Sequences,
    others: Sequences,
}

/// Reads `path` line by line and looks every packet up in `snapshot`.
///
/// # Errors
/// When the file cannot be read, a line is no ledger line (named by its number), or the database is
/// away.
pub(super) async fn compare(path: &Path, snapshot: &mut Snapshot, limit: usize) -> anyhow::Result<Compared> {
    let mut reader = Reader::open(path).await?;
    let mut compared = Compared::default();
    let mut calls: HashMap<CallKey, Answered> = HashMap::new();
    let mut batch: Vec<Entry> = Vec::with_capacity(BATCH);
    while let Some((entry, status)) = reader.next().await? {
        compared.totals.lines += 1;
        let answered = calls.entry(entry.key).or_default();
        match status {
            Status::Accepted => {
                compared.totals.accepted += 1;
                if !answered.accepted.insert(entry.sequence) {
                    let detail = format!("packet {} was accepted again on line {}", entry.sequence, entry.line);
                    found(&mut compared.accepted_twice, limit, &entry.call_id, detail);
                }
            }
            Status::Duplicate => {
                compared.totals.duplicates += 1;
                answered.others.insert(entry.sequence);
            }
            Status::Spooled => {
                compared.totals.spooled += 1;
                answered.others.insert(entry.sequence);
            }
        }
        batch.push(entry);
        if batch.len() == BATCH {
            look_up(&mut batch, snapshot, limit, &mut compared.lost).await?;
        }
    }
    look_up(&mut batch, snapshot, limit, &mut compared.lost).await?;
    compared.totals.calls = calls.len() as u64;
    compared.totals.stored_beyond = beyond(&calls, snapshot, compared.lost.count).await?;
    Ok(compared)
}

async fn look_up(
    batch: &mut Vec<Entry>,
    snapshot: &mut Snapshot,
    limit: usize,
    lost: &mut Findings,
) -> anyhow::Result<()> {
    let packets: Vec<(CallKey, i64)> = batch.iter().map(|entry| (entry.key, entry.sequence)).collect();
    for place in snapshot.not_stored(&packets).await? {
        if let Some(entry) = batch.get(place) {
            let detail = format!("packet {} was answered 202 on line {} and is not stored", entry.sequence, entry.line);
            found(lost, limit, &entry.call_id, detail);
        }
    }
    batch.clear();
    Ok(())
}

/// Packets that are stored of the ledger's calls beyond those it names.
async fn beyond(calls: &HashMap<CallKey, Answered>, snapshot: &mut Snapshot, lost: i64) -> anyhow::Result<i64> {
    let keys: Vec<CallKey> = calls.keys().copied().collect();
    let mut stored: i64 = 0;
    for some in keys.chunks(COUNT_BATCH) {
        stored += snapshot.stored_of(some).await?;
    }
    let named: i64 = calls.values().map(Answered::count).sum();
    // Lines that are lost name packets that are not stored; each may be named more than once.
    Ok((stored - named + lost).max(0))
}

fn found(findings: &mut Findings, limit: usize, call_id: &CallId, detail: String) {
    findings.count += 1;
    if findings.first.len() < limit {
        findings.first.push(Finding { id: call_id.as_str().to_owned(), detail });
    }
}

impl Answered {
    fn count(&self) -> i64 {
        let (accepted, others) = (self.accepted.ranges(), self.others.ranges());
        accepted.count() + others.count_outside(&accepted)
    }
}

/// Sequences in any order, kept as ranges.
#[derive(Debug, Default)]
struct Sequences {
    ends: BTreeMap<i64, i64>,
}

impl Sequences {
    /// Adds a sequence, and says whether it is new.
    fn insert(&mut self, sequence: i64) -> bool {
        let before = self.ends.range(..=sequence).next_back().map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, end)| sequence <= end) {
            return false;
        }
        let start = before.filter(|(_, end)| end.saturating_add(1) == sequence).map_or(sequence, |(start, _)| start);
        let end = sequence.checked_add(1).and_then(|next| self.ends.remove(&next)).unwrap_or(sequence);
        self.ends.insert(start, end);
        true
    }

    fn ranges(&self) -> Ranges {
        Ranges::from_sorted(self.ends.iter().map(|(start, end)| (*start, *end)).collect())
    }
}

/// The file, line by line.
struct Reader<'a> {
    path: &'a Path,
    file: BufReader<File>,
    tenant: Tenant,
    line: u64,
    text: Vec<u8>,
}

impl<'a> Reader<'a> {
    async fn open(path: &'a Path) -> anyhow::Result<Self> {
        let file = File::open(path).await.with_context(|| format!("cannot read the ledger {}", path.display()))?;
        let file = BufReader::with_capacity(64 * 1024, file);
        Ok(Self { path, file, tenant: Tenant::open_mode(), line: 0, text: Vec::new() })
    }

    async fn next(&mut self) -> anyhow::Result<Option<(Entry, Status)>> {
        loop {
            self.text.clear();
            let mut limited = (&mut self.file).take(LINE_MAX_BYTES);
            let read = limited.read_until(b'\n', &mut self.text).await;
            let read = read.with_context(|| format!("cannot read the ledger {}", self.path.display()))?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if self.text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return match self.parse() {
                Ok(read) => Ok(Some(read)),
                // A writer that was killed may have left half a line, which it never counted.
                Err(_) if !self.text.ends_with(b"\n") && (self.text.len() as u64) < LINE_MAX_BYTES => Ok(None),
                Err(error) => {
                    Err(error.context(format!("{}:{} is no line of a ledger", self.path.display(), self.line)))
                }
            };
        }
    }

    fn parse(&self) -> anyhow::Result<(Entry, Status)> {
        let line: Line = serde_json::from_slice(&self.text)
            .map_err(|error| anyhow!("it takes {{\"call_id\",\"sequence\",\"status\",\"at\"}}: {error}"))?;
        let call_id = CallId::new(line.call_id)?;
        let key = CallKey::derive(&self.tenant, &call_id);
        Ok((Entry { call_id, key, sequence: line.sequence, line: self.line }, line.status))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;

    use proptest::prelude::*;

    use super::{Reader, Sequences};

    proptest! {
        #[test]
        fn sequences_in_any_order_make_the_same_ranges(all in proptest::collection::vec(0_i64..50, 0..80)) {
            let (mut sequences, mut expected) = (Sequences::default(), BTreeSet::new());
            for sequence in all {
                prop_assert_eq!(sequences.insert(sequence), expected.insert(sequence));
            }
            prop_assert_eq!(sequences.ranges(), crate::domain::Ranges::of(expected));
        }
    }

    async fn read(text: &[u8]) -> Result<Vec<(String, i64)>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        let mut reader = Reader::open(file.path()).await.unwrap();
        let mut all = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some((entry, _))) => all.push((entry.call_id.as_str().to_owned(), entry.sequence)),
                Ok(None) => return Ok(all),
                Err(error) => return Err(format!("{error:#}")),
            }
        }
    }

    #[tokio::test]
    async fn a_ledger_is_read_to_its_last_whole_line() {
        let whole =
            "{\"call_id\":\"a/b\\\"\",\"sequence\":1,\"status\":\"accepted\",\"at\":\"2026-01-01T00:00:00Z\"}\n";
        let more = "\n{\"call_id\":\"c\",\"sequence\":2,\"status\":\"duplicate\"}";
        let expected = vec![("a/b\"".to_owned(), 1), ("c".to_owned(), 2)];
        assert_eq!(read(format!("{whole}{more}").as_bytes()).await, Ok(expected.clone()));
        assert_eq!(read(format!("{whole}{more}\n{{\"call_id\":\"d").as_bytes()).await, Ok(expected));
        assert_eq!(read(b"").await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn a_line_that_is_none_is_named_by_its_number() {
        let whole = "{\"call_id\":\"c\",\"sequence\":2,\"status\":\"accepted\"}\n";
        let long = "x".repeat(20_000);
        for bad in [
            "what\n",
            "{\"call_id\":\"c\",\"sequence\":2}\n",
            "{\"call_id\":\"\",\"sequence\":2,\"status\":\"accepted\"}\n",
            &long,
        ] {
            let error = read(format!("{whole}{bad}").as_bytes()).await.unwrap_err();
            assert!(error.contains(":2 is no line of a ledger"), "{error}");
        }
    }
}
