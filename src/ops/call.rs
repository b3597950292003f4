//! `callfleet call`: one call, how it came to be what it is, and what it waits for.

use std::fmt::Write as _;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::Args;
use comfy_table::Table;
use serde_json::json;

use super::servers::ServerOptions;
use super::terminal::{count, line, print, print_json, span, table, text, time, time_and_age};
use crate::domain::{CallId, CallKey, InvalidId, Ranges, Tenant};
use crate::store::{timeline, views};
use crate::wire::call::{CallView, Timeline, TimelineEntry};

/// Missing ranges that are written out.
const RANGES_SHOWN: usize = 20;

/// Shows one call: what it waits for, its timeline, its transcript.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(
    after_help = "Examples:\n  callfleet call f81d4fae-7dec@pbx.example\n  callfleet call my-call --json | jq .timeline.waiting_for"
)]
pub struct Options {
    /// The PBX's id of the call, as it is (not percent-encoded)
    #[arg(value_name = "CALL_ID", value_parser = call_id, allow_hyphen_values = true)]
    pub call_id: CallId,
    /// Print it as JSON: call and timeline, each as the API shows it
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it as help of every flag in it")]
    pub servers: ServerOptions,
}

/// Reads a call id off the command line.
pub(super) fn call_id(argument: &str) -> Result<CallId, InvalidId> {
    CallId::new(argument)
}

/// Prints the call.
///
/// # Errors
/// When the database is away or there is no such call.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let store = options.servers.store("call").await?;
    let key = CallKey::derive(&Tenant::open_mode(), &options.call_id);
    let found = (views::call(&store, key).await?, timeline::of_call(&store, key).await?);
    let (Some(call), Some(timeline)) = found else {
        bail!("no packet of call `{}` has been stored", line(options.call_id.as_str()));
    };
    if options.json {
        return print_json(&json!({ "call": call, "timeline": timeline }));
    }
    print(&page(&call, &timeline, store.now()))
}

fn page(view: &CallView, timeline: &Timeline, now: DateTime<Utc>) -> String {
    let mut page = format!("{}\n\n", line(&view.call.call_id));
    let _infallible = writeln!(page, "{}\n", facts(view, timeline, now).trim_fmt());
    let _infallible = writeln!(page, "{}", steps(timeline, view.call.created_at).trim_fmt());
    if timeline.earlier_left_out {
        page.push_str("(older entries are left out)\n");
    }
    if let Some(transcript) = &view.transcript {
        let _infallible = write!(page, "\nTRANSCRIPT\n{}\n", text(transcript));
    }
    page
}

fn facts(view: &CallView, timeline: &Timeline, now: DateTime<Utc>) -> Table {
    let call = &view.call;
    let mut facts = table(&[]);
    let mut fact = |name: &str, value: String| {
        facts.add_row([name.to_owned(), value]);
    };
    fact("state", format!("{} · AI {} · version {}", call.state, call.ai_status, call.version));
    if let Some(waiting_for) = &timeline.waiting_for {
        fact("waits for", line(waiting_for).into_owned());
    }
    fact("packets", packets(view));
    fact("attempts", call.attempts.to_string());
    for (name, at) in [
        ("began", Some(call.created_at)),
        ("end signal", view.ended_at),
        ("completed", call.completed_at),
        ("next attempt", call.next_attempt_at),
        ("archived", call.archived_at),
        ("last change", Some(call.updated_at)),
    ] {
        if let Some(at) = at {
            fact(name, time_and_age(at, now));
        }
    }
    let metadata = &call.metadata;
    for (name, value) in [
        ("queue", &metadata.queue),
        ("direction", &metadata.direction),
        ("from", &metadata.from),
        ("to", &metadata.to),
        ("agent", &metadata.agent),
    ] {
        if let Some(value) = value {
            fact(name, line(value).into_owned());
        }
    }
    for (name, value) in &metadata.tags {
        fact("tag", format!("{} = {}", line(name), line(value)));
    }
    facts
}

/// `18 stored, up to 20 · missing 3–4 · 2 duplicates · 1 late`.
pub(super) fn packets(view: &CallView) -> String {
    let packets = &view.packets;
    let mut shown = count(packets.received, "stored", "stored");
    if let Some(last) = packets.last_sequence {
        let _infallible = write!(shown, ", up to {last}");
    }
    if !packets.missing.is_empty() {
        let _infallible = write!(shown, " · missing {}", ranges(&packets.missing));
    }
    for (number, one, many) in [
        (packets.duplicates, "duplicate", "duplicates"),
        (packets.conflicts, "conflicting copy", "conflicting copies"),
        (packets.late, "late", "late"),
    ] {
        if number > 0 {
            let _infallible = write!(shown, " · {}", count(number, one, many));
        }
    }
    if view.over_limit {
        shown.push_str(" · over the call's limit: packets were refused");
    }
    shown
}

/// `3–4, 7`.
pub(super) fn ranges(ranges: &Ranges) -> String {
    let mut shown: Vec<String> = ranges
        .iter()
        .take(RANGES_SHOWN)
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}–{last}") })
        .collect();
    if let Some(more) = ranges.iter().count().checked_sub(RANGES_SHOWN).filter(|more| *more > 0) {
        shown.push(format!("and {more} more ranges"));
    }
    shown.join(", ")
}

/// The timeline, with times since the call began.
pub(super) fn steps(timeline: &Timeline, began: DateTime<Utc>) -> Table {
    let mut steps = table(&["time", "after", "what", "who", "why"]);
    for entry in &timeline.entries {
        let (what, who, why) = step(entry);
        steps.add_row([time(entry.at()), span(entry.at() - began), what, line(&who).into_owned(), why]);
    }
    steps
}

fn step(entry: &TimelineEntry) -> (String, String, String) {
    match entry {
        TimelineEntry::Transition { version, from, to, ai_status, actor, reason, .. } => {
            let moved = match from {
                Some(from) if from == to => format!("v{version} {to} ({ai_status})"),
                Some(from) => format!("v{version} {from} → {to} ({ai_status})"),
                None => format!("v{version} {to}"),
            };
            (moved, actor.clone(), line(reason).into_owned())
        }
        TimelineEntry::Attempt {
            at,
            generation,
            attempt,
            worker,
            ended_at,
            class,
            http_status,
            message,
            charged,
            sent,
            fingerprint,
        } => {
            let mut why = class.as_deref().map_or_else(|| "runs".to_owned(), |class| line(class).into_owned());
            if let Some(ended_at) = ended_at {
                let _infallible = write!(why, " after {}", span(*ended_at - *at));
            }
            if let Some(status) = http_status {
                let _infallible = write!(why, ", HTTP {status}");
            }
            if let Some(message) = message {
                let _infallible = write!(why, ": {}", line(message));
            }
            if let Some(fingerprint) = fingerprint {
                let _infallible = write!(why, " [{}]", line(fingerprint));
            }
            if let Some(sent) = sent.as_ref().filter(|sent| !sent.is_empty()) {
                let _infallible = write!(why, ", sent {}", ranges(sent));
            }
            if !charged {
                why.push_str(", not charged");
            }
            (format!("   attempt {generation}.{attempt}"), worker.clone(), why)
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::{page, ranges};
    use crate::domain::{AiStatus, Metadata, Ranges, State};
    use crate::wire::call::{CallSummary, CallView, PacketCounts, Timeline, TimelineEntry};

    #[test]
    fn a_hostile_call_prints_without_doing_anything() {
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let evil = "\u{1b}[2Jx\u{202e}".to_owned();
        let view = CallView {
            call: CallSummary {
                call_id: evil.clone(),
                tenant: "default".to_owned(),
                state: State::Archived,
                ai_status: AiStatus::Succeeded,
                version: 4,
                attempts: 1,
                next_attempt_at: None,
                metadata: Metadata {
                    queue: Some(evil.clone()),
                    tags: [(evil.clone(), evil.clone())].into(),
                    ..Metadata::default()
                },
                created_at: at,
                updated_at: at,
                completed_at: Some(at),
                archived_at: Some(at),
            },
            packets: PacketCounts { received: 18, missing: Ranges::of([3, 4]), late: 1, ..PacketCounts::default() },
            transcript: Some(format!("{evil}\nsecond line")),
            ended_at: Some(at),
            over_limit: true,
        };
        let attempt = TimelineEntry::Attempt {
            at,
            generation: 1,
            attempt: 1,
            worker: evil.clone(),
            ended_at: Some(at + TimeDelta::milliseconds(1500)),
            class: Some("done".to_owned()),
            http_status: Some(200),
            fingerprint: None,
            message: Some(evil),
            charged: false,
            sent: Some(Ranges::of([1, 2, 5])),
        };
        let timeline = Timeline {
            call_id: String::new(),
            state: State::Archived,
            ai_status: AiStatus::Succeeded,
            waiting_for: None,
            earlier_left_out: false,
            entries: vec![attempt],
        };
        let page = page(&view, &timeline, at + TimeDelta::seconds(90));
        assert!(!page.contains(['\u{1b}', '\u{202e}']), "{page}");
        assert!(page.contains("missing 3–4 · 1 late"), "{page}");
        assert!(page.contains("done after 1.5 s, HTTP 200"), "{page}");
        assert!(page.contains("second line") && page.contains("(1 min 30 s ago)"), "{page}");
    }

    #[test]
    fn many_ranges_are_cut_short() {
        let all = Ranges::of((0..60).step_by(2));
        assert!(ranges(&all).ends_with("and 10 more ranges"));
        assert_eq!(ranges(&Ranges::of([1, 2, 5])), "1–2, 5");
    }
}
