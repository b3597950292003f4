//! `callfleet dlq show`.

use std::fmt::Write as _;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;

use crate::domain::{CallId, CallKey, Tenant};
use crate::ops::call::{call_id, packets, steps};
use crate::ops::servers::ServerOptions;
use crate::ops::terminal::{line, print, print_json, table, time_and_age};
use crate::store::letters::{self, Letter};
use crate::store::{timeline, views};
use crate::wire::call::{CallView, Timeline, TimelineEntry};

/// Shows a call that was given up: its dead letter, its packets and every attempt.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "Example:\n  callfleet dlq show f81d4fae-7dec@pbx.example")]
pub(super) struct Options {
    /// The PBX's id of the call, as it is (not percent-encoded)
    #[arg(value_name = "CALL_ID", value_parser = call_id, allow_hyphen_values = true)]
    pub(super) call_id: CallId,
    /// Print it as JSON: dead letter, call and attempts
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) servers: ServerOptions,
}

/// Prints the letter.
pub(super) async fn run(options: &Options) -> anyhow::Result<()> {
    let store = options.servers.store("dlq show").await?;
    let tenant = Tenant::open_mode();
    let key = CallKey::derive(&tenant, &options.call_id);
    let id = line(options.call_id.as_str());
    let found = (views::call(&store, key).await?, timeline::of_call(&store, key).await?);
    let (Some(call), Some(mut timeline)) = found else { bail!("no packet of call `{id}` has been stored") };
    let filter = letters::Filter { class: None, key: Some(key) };
    let Some(letter) = letters::list(&store, &tenant, &filter, 1).await?.pop() else {
        bail!(
            "call `{id}` is not dead: it is {} ({}); `callfleet call` shows it",
            call.call.state,
            call.call.ai_status
        );
    };
    timeline.entries.retain(|entry| matches!(entry, TimelineEntry::Attempt { .. }));
    if options.json {
        return print_json(&json!({ "dead_letter": letter, "call": call, "attempts": timeline.entries }));
    }
    print(&page(&letter, &call, &timeline, store.now()))
}

fn page(letter: &Letter, call: &CallView, attempts: &Timeline, now: DateTime<Utc>) -> String {
    let mut facts = table(&[]);
    for (name, value) in [
        ("given up", time_and_age(letter.at, now)),
        ("class", letter.class.clone()),
        ("fingerprint", letter.fingerprint.clone()),
        ("message", line(&letter.message).into_owned()),
        ("generation", letter.generation.to_string()),
        ("packets", packets(call)),
        ("subject", letter.subject.clone()),
    ] {
        facts.add_row([name.to_owned(), value]);
    }
    let mut page = format!("{}\n\n{}\n\n", line(&letter.call_id), facts.trim_fmt());
    let _infallible = writeln!(page, "{}", steps(attempts, call.call.created_at).trim_fmt());
    page
}
