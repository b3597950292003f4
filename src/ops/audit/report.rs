//! What an audit found.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::ops::terminal::{count, line, time};
use crate::store::audit::Findings;
use crate::store::counts::{Buckets, PacketTotals, Unsettled};

/// Everything as it was at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which moment, on the database's clock.
    pub at: DateTime<Utc>,
    /// Whether every check that was made found nothing.
    pub balanced: bool,
    /// Calls by what is to come of them.
    pub calls: Buckets,
    /// What is stored.
    pub packets: PacketTotals,
    /// What was still on its way when the waiting ended.
    pub on_their_way: Unsettled,
    /// Messages in the outbox within the grace.
    pub outbox_in_flight: i64,
    /// What the ledger holds; null without one.
    pub ledger: Option<LedgerTotals>,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// One promise, and what breaks it.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Its name, for machines.
    pub name: &'static str,
    /// What should be so.
    pub promise: &'static str,
    /// Why it could not be looked at; null when it was.
    pub skipped: Option<String>,
    /// What breaks it.
    #[serde(flatten)]
    pub findings: Findings,
}

/// A ledger in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LedgerTotals {
    /// Lines: every 202.
    pub lines: u64,
    /// Calls that they are about.
    pub calls: u64,
    /// Packets answered `accepted`.
    pub accepted: u64,
    /// Answers `duplicate`.
    pub duplicates: u64,
    /// Packets answered 202 while PostgreSQL was away.
    pub spooled: u64,
    /// Packets of these calls that are stored and not in the ledger: their 202 was lost on its way,
    /// or another sender's. No finding.
    pub stored_beyond: i64,
}

impl Report {
    /// Whether every check that was made found nothing.
    #[must_use]
    pub const fn balanced(&self) -> bool {
        self.balanced
    }

    /// Whether nothing is on its way any more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.on_their_way.is_none()
    }
}

impl Check {
    /// A promise that was looked at.
    pub(super) const fn made(name: &'static str, promise: &'static str, findings: Findings) -> Self {
        Self { name, promise, skipped: None, findings }
    }

    /// A promise that could not be looked at.
    pub(super) fn skipped(name: &'static str, promise: &'static str, why: &str) -> Self {
        Self { name, promise, skipped: Some(why.to_owned()), findings: Findings { count: 0, first: Vec::new() } }
    }

    /// Whether nothing breaks it.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.findings.count == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (calls, packets) = (&self.calls, &self.packets);
        writeln!(f, "as of {}\n", time(self.at))?;
        writeln!(
            f,
            "  calls     {} = {} in progress + {} waiting + {} running + {} retrying + {} archived + {} dead + {} discarded",
            calls.total,
            calls.in_progress,
            calls.waiting,
            calls.running,
            calls.retrying,
            calls.archived,
            calls.dead,
            calls.discarded
        )?;
        let (duplicates, conflicts) = (packets.duplicates, packets.conflicts);
        writeln!(f, "  packets   {} stored, {duplicates} duplicates, {conflicts} conflicts", packets.stored)?;
        if let Some(ledger) = &self.ledger {
            writeln!(
                f,
                "  ledger    {} lines: {} accepted, {} duplicates, {} spooled, of {}; {} stored beyond it",
                ledger.lines,
                ledger.accepted,
                ledger.duplicates,
                ledger.spooled,
                count(i64::try_from(ledger.calls).unwrap_or(i64::MAX), "call", "calls"),
                ledger.stored_beyond
            )?;
        }
        if !self.on_their_way.is_none() {
            writeln!(f, "  on their way: {}", self.on_their_way)?;
        }
        writeln!(f)?;
        self.checks.iter().try_for_each(|check| check.fmt(f))?;
        writeln!(f, "\n{}", if self.balanced { "✓ balanced" } else { "✗ does not balance" })
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.skipped {
            return writeln!(f, "- {} (not checked: {})", self.promise, line(why));
        }
        if self.holds() {
            return writeln!(f, "✓ {}", self.promise);
        }
        writeln!(f, "✗ {}: {}", self.promise, count(self.findings.count, "finding", "findings"))?;
        for finding in &self.findings.first {
            writeln!(f, "    {}: {}", line(&finding.id), line(&finding.detail))?;
        }
        let more = self.findings.count.saturating_sub(i64::try_from(self.findings.first.len()).unwrap_or(0));
        if more > 0 {
            writeln!(f, "    … and {more} more (--findings shows more)")?;
        }
        Ok(())
    }
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} settling, {} waiting, {} running, {} retrying, {} in the outbox",
            self.settling, self.waiting, self.running, self.retrying, self.outbox
        )
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::{Check, Report};
    use crate::store::audit::{Finding, Findings};
    use crate::store::counts::{Buckets, PacketTotals, Unsettled};

    #[test]
    fn what_does_not_balance_is_named_and_made_harmless() {
        let finding = Finding { id: "a\u{1b}[2J".to_owned(), detail: "no\nrow".to_owned() };
        let findings = Findings { count: 3, first: vec![finding] };
        let report = Report {
            at: DateTime::UNIX_EPOCH,
            balanced: false,
            calls: Buckets::default(),
            packets: PacketTotals::default(),
            on_their_way: Unsettled::default(),
            outbox_in_flight: 0,
            ledger: None,
            checks: vec![
                Check::made("x", "all is well", Findings::default()),
                Check::made("y", "every call has a row", findings),
                Check::skipped("z", "letters match", "no NATS"),
            ],
        };
        let shown = report.to_string();
        assert!(shown.contains("✓ all is well\n✗ every call has a row: 3 findings\n"), "{shown}");
        assert!(shown.contains("    a\\u{1b}[2J: no\\u{a}row\n    … and 2 more"), "{shown}");
        assert!(shown.contains("- letters match (not checked: no NATS)"), "{shown}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][1]["count"], 3);
        assert_eq!(json["balanced"], false);
    }
}
