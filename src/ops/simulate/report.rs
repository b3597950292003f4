//! The outcome as one page that needs nothing else: no script, no network, light and dark.

use std::fmt::Write;

use hdrhistogram::Histogram;
use indicatif::HumanCount;

use super::charts;
use super::outcome::{Outcome, show_ms};
use crate::wire::call::Timeline;

const STYLE: &str = include_str!("report.css");

/// The page.
pub(super) fn page(outcome: &Outcome, latency_us: &Histogram<u64>, timelines: &[Timeline]) -> String {
    let run = &outcome.run;
    let verdict = if outcome.balanced { "✓ balanced" } else { "✗ does not balance" };
    let class = if outcome.balanced { "good" } else { "bad" };
    let title = format!("callfleet simulate {}", escaped(&run.prefix));
    let asked = format!(
        "{} calls of {} packets over {} connections against {}, begun {}",
        HumanCount(run.calls.into()),
        HumanCount(run.packets.into()),
        HumanCount(run.concurrency.into()),
        escaped(&run.url),
        escaped(&run.started_at),
    );
    format!(
        r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title><style>{STYLE}</style></head>
<body><main><h1>{title}</h1><p>{asked}</p><p class="verdict {class}">{verdict}</p>
{figures}{findings}{scenes}
<h2>Latency of the 202</h2>{latency}
<h2>Calls by state over time</h2>{states}
<h2>All numbers</h2><details><summary>The outcome as JSON</summary><pre>{json}</pre></details>
</main></body></html>
"#,
        figures = figures(outcome),
        findings = findings(outcome),
        scenes = scenes(outcome),
        latency = charts::latency(latency_us).unwrap_or_else(nothing),
        states = states(outcome, timelines),
        json = escaped(&serde_json::to_string_pretty(outcome).unwrap_or_default()),
    )
}

fn figures(outcome: &Outcome) -> String {
    let counts = [
        ("sent", outcome.sent),
        ("accepted", outcome.accepted),
        ("duplicates", outcome.duplicates),
        ("stored", outcome.stored),
        ("gaps", outcome.gaps),
        ("sent again", outcome.retries),
        ("archived", outcome.archived),
        ("dead", outcome.dead),
    ];
    let times = [
        ("202, p50", outcome.latency_ms.p50),
        ("202, p99", outcome.latency_ms.p99),
        ("transcript, p50", outcome.end_to_transcript_ms.p50),
        ("transcript, p99", outcome.end_to_transcript_ms.p99),
    ];
    let counts = counts.map(|(name, count)| (name, HumanCount(count).to_string()));
    let times = times.map(|(name, ms)| (name, show_ms(ms)));
    let rate = [("packets a second", format!("{:.0}", outcome.packets_per_second))];
    let mut list = String::from("<dl>");
    for (name, value) in counts.iter().chain(&rate).chain(&times) {
        let _ = write!(list, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    list + "</dl>"
}

fn findings(outcome: &Outcome) -> String {
    let mut list = String::new();
    for finding in &outcome.audit.findings {
        let calls = escaped(&finding.calls.join(", "));
        let _ = write!(list, r#"<li class="bad">✗ {} {} {calls}</li>"#, finding.count, finding.what);
    }
    if list.is_empty() { list } else { format!("<h2>What does not balance</h2><ul>{list}</ul>") }
}

fn scenes(outcome: &Outcome) -> String {
    let mut list = String::new();
    for scene in &outcome.scenarios {
        let class = if scene.ok { "good" } else { "bad" };
        let _ = write!(list, r#"<li class="{class}">{}</li>"#, escaped(&scene.to_string()));
    }
    if list.is_empty() { list } else { format!("<h2>Scenes</h2><ul>{list}</ul>") }
}

fn states(outcome: &Outcome, timelines: &[Timeline]) -> String {
    let Some(chart) = charts::states(timelines) else { return nothing() };
    let mut legend = String::from(r#"<ul class="legend">"#);
    for (class, words) in charts::PHASES.iter().rev() {
        let _ = write!(
            legend,
            r#"<li><svg viewBox="0 0 12 12"><rect class="{class}" width="12" height="12"/></svg>{words}</li>"#
        );
    }
    legend.push_str("</ul>");
    let calls = outcome.run.calls as usize + outcome.scenarios.len();
    let choice = if timelines.len() < calls {
        format!(
            "<p>An even choice of {} of {} calls.</p>",
            HumanCount(timelines.len() as u64),
            HumanCount(calls as u64)
        )
    } else {
        String::new()
    };
    chart + &legend + &choice
}

fn nothing() -> String {
    "<p>There is nothing to draw.</p>".to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::outcome;
    use super::{Histogram, page};

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_escapes_what_it_was_given() {
        let mut outcome = outcome();
        outcome.run.prefix = "<script>&".into();
        let mut latency = Histogram::new(3).unwrap();
        for micros in [900, 1500, 2000, 40_000] {
            latency.record(micros).unwrap();
        }
        let page = page(&outcome, &latency, &[]);
        for foreign in ["<script", "src=", "href=", "url(", "@import", "http-equiv"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("&lt;script&gt;&amp;") && page.contains("p50 "));
    }
}
