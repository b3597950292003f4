//! The report as one HTML file that needs no other.

use std::fmt::Write;
use std::time::Duration;

use super::account::{Account, Line};
use super::shown;

const HEAD: &str = include_str!("head.html");
/// Times are drawn up to this; what is longer fills its bar.
const BAR_MAX: Duration = Duration::from_secs(15);

pub(super) fn write(account: &Account) -> String {
    let mut text = HEAD.to_owned();
    // Writing to a string cannot fail.
    let _infallible = write_to(&mut text, account);
    text
}

fn write_to(text: &mut String, account: &Account) -> std::fmt::Result {
    let verdict = if account.held() { ("held", "Nothing is lost") } else { ("failed", "Something did not hold") };
    writeln!(text, "<h1 class=\"{}\">{}</h1>", verdict.0, verdict.1)?;
    writeln!(
        text,
        "<p>Seed {}, {}, {:.0} s. The same again: <code>{}</code></p>",
        account.seed,
        account.began_at.format("%F %T UTC"),
        account.took.as_secs_f64(),
        escaped(&account.replay)
    )?;
    text.push_str(
        "<table><thead><tr><th>fault<th>NATS<th>rounds<th>packets<th>calls<th>lost<th>duplicated\
         <th>first archived, p50 and worst<th>backlog empty, p50 and worst\
         <th>202 at first try, one store down<th>verdict</tr></thead><tbody>\n",
    );
    for line in account.lines().iter().chain([&account.total()]) {
        write_line(text, line)?;
    }
    text.push_str("</tbody></table>\n");
    for (form, rounds, findings) in &account.ends {
        let verdict = if findings.is_empty() { "held" } else { "failed" };
        writeln!(
            text,
            "<p>All {rounds} rounds over NATS {} looked at again, and the audit: <b class=\"{verdict}\">{verdict}</b></p>",
            form.as_str()
        )?;
        for finding in findings {
            writeln!(text, "<pre>{}</pre>", escaped(&finding.to_string()))?;
        }
    }
    write_rounds(text, account)
}

fn write_line(text: &mut String, line: &Line) -> std::fmt::Result {
    let [first, first_max, empty, empty_max] = line.times();
    let Line { fault, form, rounds, packets, calls, lost, duplicated, .. } = line;
    let verdict = line.verdict();
    writeln!(
        text,
        "<tr><th scope=\"row\">{fault}<td>{form}<td>{rounds}<td>{packets}<td>{calls}<td>{lost}<td>{duplicated}\
         <td>{}<td>{}<td>{}<td class=\"{}\">{verdict}</tr>",
        bar(first, first_max),
        bar(empty, empty_max),
        line.share(),
        verdict.to_lowercase().replace(' ', "-"),
    )
}

/// Median and worst as a bar within a bar, with both in words.
fn bar(median: Option<Duration>, worst: Option<Duration>) -> String {
    let (Some(median), Some(worst)) = (median, worst) else { return shown(None) };
    let width = |time: Duration| (time.as_secs_f64() / BAR_MAX.as_secs_f64()).min(1.0) * 100.0;
    format!(
        "<svg viewBox=\"0 0 100 10\" role=\"img\" aria-label=\"{0} and {1}\"><rect class=\"worst\" width=\"{2:.1}\" \
         height=\"10\"/><rect class=\"median\" y=\"2\" width=\"{3:.1}\" height=\"6\"/></svg> {0} / {1}",
        shown(Some(median)),
        shown(Some(worst)),
        width(worst),
        width(median)
    )
}

fn write_rounds(text: &mut String, account: &Account) -> std::fmt::Result {
    text.push_str("<h2>Rounds</h2>\n");
    for report in &account.reports {
        let verdict = if report.findings.is_empty() { "held" } else { "failed" };
        writeln!(
            text,
            "<details{}><summary class=\"{verdict}\">{}. {} over NATS {}: {verdict}</summary><p>{}</p><p>{} packets, \
             {} calls, {} spooled; first tries: {} answered, {} refused, {} lost, {} silent, 99% within {:.0} ms; {:.0} s.</p>",
            if report.findings.is_empty() { "" } else { " open" },
            report.round.number,
            report.round.fault.name,
            report.round.form.as_str(),
            escaped(report.round.fault.what),
            report.packets,
            report.calls,
            report.spooled,
            report.whole.accepted,
            report.whole.refused,
            report.whole.lost,
            report.whole.silent,
            report.latency_p99.as_secs_f64() * 1e3,
            report.took.as_secs_f64(),
        )?;
        for note in &report.notes {
            writeln!(text, "<p>{}</p>", escaped(note))?;
        }
        for finding in &report.findings {
            writeln!(text, "<pre>{}</pre>", escaped(&finding.to_string()))?;
        }
        text.push_str("</details>\n");
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
