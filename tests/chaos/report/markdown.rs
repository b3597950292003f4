//! The report as Markdown, which reads well in a terminal too.

use std::fmt::Write;

use super::account::{Account, Line};
use super::shown;

const HEAD: &str = "\
| fault | NATS | rounds | packets | calls | lost | duplicated | first archived p50 / max | backlog empty p50 / max | 202 at first try, one store down | verdict |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|
";

pub(super) fn write(account: &Account) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _infallible = write_to(&mut text, account);
    text
}

fn write_to(text: &mut String, account: &Account) -> std::fmt::Result {
    writeln!(text, "# Faults\n")?;
    writeln!(
        text,
        "Seed {}, {}, {:.0} s.",
        account.seed,
        account.began_at.format("%F %T UTC"),
        account.took.as_secs_f64()
    )?;
    writeln!(text, "The same again: `{}`\n", account.replay)?;
    text.push_str(HEAD);
    for line in account.lines().iter().chain([&account.total()]) {
        write_line(text, line)?;
    }
    for (form, rounds, findings) in &account.ends {
        let verdict = if findings.is_empty() { "held" } else { "FAILED" };
        writeln!(text, "\nAll {rounds} rounds over NATS {} looked at again, and the audit: {verdict}.", form.as_str())?;
    }
    write_findings(text, account)
}

fn write_line(text: &mut String, line: &Line) -> std::fmt::Result {
    let [first, first_max, empty, empty_max] = line.times().map(shown);
    let Line { fault, form, rounds, packets, calls, lost, duplicated, .. } = line;
    writeln!(
        text,
        "| {fault} | {form} | {rounds} | {packets} | {calls} | {lost} | {duplicated} | {first} / {first_max} | \
         {empty} / {empty_max} | {} | {} |",
        line.share(),
        line.verdict()
    )
}

fn write_findings(text: &mut String, account: &Account) -> std::fmt::Result {
    let failed: Vec<_> = account.reports.iter().filter(|report| !report.findings.is_empty()).collect();
    if failed.is_empty() && account.ends.iter().all(|(_, _, findings)| findings.is_empty()) {
        return Ok(());
    }
    writeln!(text, "\n## What did not hold")?;
    for report in failed {
        writeln!(
            text,
            "\nRound {}, {} over NATS {}:\n",
            report.round.number,
            report.round.fault.name,
            report.round.form.as_str()
        )?;
        for finding in &report.findings {
            writeln!(text, "- {}", finding.to_string().replace('\n', "\n  "))?;
        }
    }
    for (form, _, findings) in account.ends.iter().filter(|(_, _, findings)| !findings.is_empty()) {
        writeln!(text, "\nAt the end, over NATS {}:\n", form.as_str())?;
        for finding in findings {
            writeln!(text, "- {}", finding.to_string().replace('\n', "\n  "))?;
        }
    }
    Ok(())
}
