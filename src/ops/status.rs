//! `callfleet status`: the fleet on one screen.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use clap::Args;
use comfy_table::CellAlignment;
use serde::Serialize;

use super::servers::ServerOptions;
use super::terminal::{age, count, line, print, print_json, table, time};
use crate::broker::survey::{self, Survey};
use crate::store::counts::{self, Buckets, Extremes, Standout};
use crate::store::letters::{self, Group};
use crate::store::{Store, outbox};

/// Kinds of dead letters that are shown.
const GROUPS_SHOWN: u32 = 5;

/// Shows the fleet on one screen.
///
/// Calls by state, what waits and since when, the outbox, JetStream's streams and consumers, dead
/// letters, and what somebody should look at. While NATS is away it shows the rest.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(
    after_help = "Examples:\n  callfleet status\n  watch -n 2 callfleet status\n  callfleet status --json | jq .calls.waiting"
)]
pub struct Options {
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it as help of every flag in it")]
    pub servers: ServerOptions,
}

/// What there is to see.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// When, on the database's clock.
    pub at: DateTime<Utc>,
    /// Calls by what is to come of them.
    pub calls: Buckets,
    /// What waits longest and comes next.
    #[serde(flatten)]
    pub extremes: Extremes,
    /// Messages that wait for the broker.
    pub outbox: OutboxStatus,
    /// Dead letters.
    pub dead_letters: DeadLetterStatus,
    /// What JetStream holds; null when NATS is away.
    pub jetstream: Option<Survey>,
    /// Why not, when it is.
    pub jetstream_error: Option<String>,
}

/// Messages that wait for the broker.
#[derive(Clone, Debug, Serialize)]
pub struct OutboxStatus {
    /// How many.
    pub messages: i64,
    /// Since when the oldest waits.
    pub oldest: Option<DateTime<Utc>>,
}

/// Dead letters.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetterStatus {
    /// How many.
    pub count: i64,
    /// The most frequent kinds.
    pub kinds: Vec<Group>,
}

/// Prints the status.
///
/// # Errors
/// When the database is away; NATS may be.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let store = options.servers.store("status").await?;
    let jetstream = survey(&options.servers).await;
    let status = status(&store, jetstream).await?;
    if options.json { print_json(&status) } else { print(&page(&status)) }
}

async fn survey(servers: &ServerOptions) -> anyhow::Result<Survey> {
    let broker = servers.broker("status").await?;
    Ok(survey::take(&broker).await?)
}

/// Looks at the database and adds what JetStream said.
///
/// # Errors
/// When the database is away.
pub async fn status(store: &Store, jetstream: anyhow::Result<Survey>) -> anyhow::Result<Status> {
    let depth = outbox::depth(store).await?;
    let (jetstream, jetstream_error) = match jetstream {
        Ok(survey) => (Some(survey), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    Ok(Status {
        at: store.now(),
        calls: counts::buckets(store).await?,
        extremes: counts::extremes(store).await?,
        outbox: OutboxStatus { messages: depth.waiting, oldest: depth.oldest },
        dead_letters: DeadLetterStatus {
            count: letters::count(store).await?,
            kinds: letters::groups(store, GROUPS_SHOWN).await?,
        },
        jetstream,
        jetstream_error,
    })
}

fn page(status: &Status) -> String {
    let mut page = format!("{}\n\n", time(status.at));
    calls(&mut page, status);
    outbox_and_dead_letters(&mut page, status);
    jetstream(&mut page, status);
    for warning in warnings(status) {
        let _infallible = writeln!(page, "! {warning}");
    }
    page
}

fn calls(page: &mut String, status: &Status) {
    let (calls, extremes) = (&status.calls, &status.extremes);
    let since = |standout: &Option<Standout>, what: &str| {
        standout.as_ref().map_or_else(String::new, |standout| {
            format!("{what} {}: {}", age(standout.at, status.at), line(&standout.call_id))
        })
    };
    let mut rows = table(&["calls", &calls.total.to_string(), ""]);
    for (name, number, note) in [
        ("in progress", calls.in_progress, since(&extremes.oldest_in_progress, "the oldest began")),
        ("waiting", calls.waiting, since(&extremes.oldest_waiting, "the oldest ended")),
        ("running", calls.running, String::new()),
        ("retrying", calls.retrying, since(&extremes.next_retry, "the next is due")),
        ("archived", calls.archived, String::new()),
        ("dead", calls.dead, if calls.dead > 0 { "see `callfleet dlq list`".to_owned() } else { String::new() }),
        ("discarded", calls.discarded, String::new()),
    ] {
        rows.add_row([name.to_owned(), number.to_string(), note]);
    }
    if let Some(numbers) = rows.column_mut(1) {
        numbers.set_cell_alignment(CellAlignment::Right);
    }
    let _infallible = writeln!(page, "{}\n", rows.trim_fmt());
}

fn outbox_and_dead_letters(page: &mut String, status: &Status) {
    let oldest =
        status.outbox.oldest.map_or_else(String::new, |at| format!(", the oldest written {}", age(at, status.at)));
    let _infallible =
        writeln!(page, " OUTBOX  {}{oldest}\n", count(status.outbox.messages, "message waits", "messages wait"));
    if status.dead_letters.kinds.is_empty() {
        return;
    }
    let mut kinds = table(&["dead letters", "class", "fingerprint", "message"]);
    for kind in &status.dead_letters.kinds {
        let message = line(&kind.message).into_owned();
        kinds.add_row([kind.count.to_string(), kind.class.clone(), kind.fingerprint.clone(), message]);
    }
    let _infallible = writeln!(page, "{}\n", kinds.trim_fmt());
}

fn jetstream(page: &mut String, status: &Status) {
    let Some(survey) = &status.jetstream else {
        let error = status.jetstream_error.as_deref().unwrap_or("unknown");
        let _infallible = writeln!(page, " JETSTREAM  not seen: {}\n", line(error));
        return;
    };
    let mut streams = table(&["stream", "messages", "bytes", "of"]);
    for stream in &survey.streams {
        let [held, limit] = [stream.bytes, stream.max_bytes].map(|bytes| indicatif::BinaryBytes(bytes).to_string());
        let limit = if stream.max_bytes == 0 { "no limit".to_owned() } else { limit };
        streams.add_row([stream.name.to_owned(), stream.messages.to_string(), held, limit]);
    }
    let mut lanes = table(&["lane", "pending", "in hand", "redelivered", "workers asking"]);
    for lane in &survey.consumers {
        let numbers = [lane.pending, lane.ack_pending, lane.redelivered, lane.waiting];
        lanes.add_row(std::iter::once(lane.lane.to_owned()).chain(numbers.map(|number| number.to_string())));
    }
    for table in [streams, lanes].iter().filter(|table| !table.is_empty()) {
        let _infallible = writeln!(page, "{}\n", table.trim_fmt());
    }
}

/// What somebody should look at.
fn warnings(status: &Status) -> Vec<String> {
    let mut warnings = Vec::new();
    let extremes = &status.extremes;
    if extremes.agenda_overdue > 0 {
        let calls = count(extremes.agenda_overdue, "call is", "calls are");
        warnings.push(format!("{calls} overdue on the reconciler's agenda: does an ai-worker run?"));
    }
    if extremes.leases_over > 0 {
        let calls = count(extremes.leases_over, "call's worker is", "calls' workers are");
        warnings.push(format!("{calls} gone without a word: another takes over"));
    }
    if let Some(survey) = &status.jetstream {
        for name in ["CALL_WORK", "CALL_STATE", "CALL_DLQ"] {
            if survey.stream(name).is_none() {
                warnings.push(format!(
                    "the stream {name} is missing: a running role makes it, or `callfleet topology apply`"
                ));
            }
        }
        let letters = survey.stream("CALL_DLQ").map(|stream| stream.messages);
        let stored = u64::try_from(status.dead_letters.count).unwrap_or(0);
        if letters.is_some_and(|letters| letters != stored) && status.outbox.messages == 0 {
            warnings.push(format!(
                "CALL_DLQ holds {} and PostgreSQL {stored} dead letters: `callfleet audit` names them",
                letters.unwrap_or(0)
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::{DeadLetterStatus, OutboxStatus, Status, page};
    use crate::store::counts::{Buckets, Extremes, Standout};

    fn status() -> Status {
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let waits = Standout { call_id: "a\u{1b}b".to_owned(), at: at - TimeDelta::seconds(70) };
        Status {
            at,
            calls: Buckets { total: 3, waiting: 1, archived: 2, ..Buckets::default() },
            extremes: Extremes { oldest_waiting: Some(waits), agenda_overdue: 1, ..Extremes::default() },
            outbox: OutboxStatus { messages: 1, oldest: Some(at - TimeDelta::seconds(3)) },
            dead_letters: DeadLetterStatus { count: 0, kinds: Vec::new() },
            jetstream: None,
            jetstream_error: Some("nothing answers at nats://127.0.0.1:4222".to_owned()),
        }
    }

    #[test]
    fn the_screen_says_what_waits_and_that_nats_is_away() {
        let page = page(&status());
        assert!(page.contains("the oldest ended 1 min 10 s ago: a\\u{1b}b"), "{page}");
        assert!(page.contains("OUTBOX  1 message waits, the oldest written 3.0 s ago"), "{page}");
        assert!(page.contains("JETSTREAM  not seen: nothing answers"), "{page}");
        assert!(page.contains("! 1 call is overdue"), "{page}");
    }

    #[test]
    fn the_json_has_the_same_keys_with_nats_and_without() {
        let json = serde_json::to_value(status()).unwrap();
        for key in ["at", "calls", "oldest_waiting", "next_retry", "outbox", "dead_letters", "jetstream"] {
            assert!(json.get(key).is_some(), "{key}");
        }
    }
}
