//! What a run came to: lines while it runs, a table at its end, and both as Markdown and HTML.

mod account;
mod html;
mod markdown;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

pub(crate) use account::Account;

use crate::faults::{FAULTS, When};
use crate::findings::Finding;
use crate::nats::Form;
use crate::round::Report;

/// Prints every fault and what it does.
pub(crate) fn list() {
    for fault in FAULTS {
        let form = fault.form.map_or("", Form::as_str);
        let when = match fault.when {
            When::Always | When::Long => "",
            When::Once => " (minutes)",
            When::Asked => " (only by name)",
        };
        println!("{:<22} {form:<8} {}{when}", fault.name, fault.what);
    }
}

/// Prints what a round came to.
pub(crate) fn say(report: &Report, all: usize) {
    let Report { round, findings, packets, calls, .. } = report;
    let verdict = if findings.is_empty() { "held" } else { "FAILED" };
    println!(
        "{:>4}/{all} {:<8} {:<22} {verdict:<7} {packets:>5} packets {calls:>5} calls, first archived {}, backlog {}, {:.0} s",
        round.number,
        round.form.as_str(),
        round.fault.name,
        shown(report.first),
        shown(report.empty),
        report.took.as_secs_f64(),
    );
    for note in &report.notes {
        println!("          {note}");
    }
    say_findings(findings);
}

/// Prints what the last look at a stack came to.
pub(crate) fn say_end(form: Form, rounds: usize, findings: &[Finding]) {
    let verdict = if findings.is_empty() { "held" } else { "FAILED" };
    println!("all {rounds} rounds over NATS {} looked at again, and the audit: {verdict}", form.as_str());
    say_findings(findings);
}

fn say_findings(findings: &[Finding]) {
    for finding in findings {
        println!("     !!   {}", finding.to_string().replace('\n', "\n          "));
    }
}

/// The table and all findings, as text.
pub(crate) fn table(account: &Account) -> String {
    markdown::write(account)
}

/// Writes `report.md` and `report.html` into `folder`.
pub(crate) fn write(account: &Account, folder: &Path) -> anyhow::Result<()> {
    for (name, text) in [("report.md", markdown::write(account)), ("report.html", html::write(account))] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A time in seconds, as far as it matters.
fn shown(time: Option<Duration>) -> String {
    time.map_or_else(|| "–".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
}
