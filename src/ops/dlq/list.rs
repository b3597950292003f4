//! `callfleet dlq list`.

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;

use crate::domain::{CallId, CallKey, Class, Tenant};
use crate::ops::call::call_id;
use crate::ops::servers::ServerOptions;
use crate::ops::terminal::{age, line, print, print_json, table, time};
use crate::store::letters;
use crate::store::spool_letters::{self, SpoolLetter};

/// Lists dead letters, the newest first.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(
    after_help = "Examples:\n  callfleet dlq list --class permanent\n  callfleet dlq list --json | jq -r '.dead_letters[].call_id'"
)]
pub(super) struct Options {
    /// Only those whose last failure was of this class: transient, permanent, invalid, crash, busy, account
    #[arg(long, value_name = "CLASS")]
    pub(super) class: Option<Class>,
    /// Only this call's
    #[arg(long, value_name = "CALL_ID", value_parser = call_id, allow_hyphen_values = true)]
    pub(super) call: Option<CallId>,
    /// How many at most
    #[arg(long, default_value = "50", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) limit: u32,
    /// Print them as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) servers: ServerOptions,
}

/// Prints the list.
pub(super) async fn run(options: &Options) -> anyhow::Result<()> {
    let store = options.servers.store("dlq list").await?;
    let tenant = Tenant::open_mode();
    let filter = letters::Filter {
        class: options.class,
        key: options.call.as_ref().map(|call_id| CallKey::derive(&tenant, call_id)),
    };
    let letters = letters::list(&store, &tenant, &filter, options.limit).await?;
    let asks_for_calls = options.class.is_some() || options.call.is_some();
    let spool = if asks_for_calls { Vec::new() } else { spool_letters::list(&store, options.limit).await? };
    if options.json {
        return print_json(&json!({ "dead_letters": letters, "spool_letters": spool }));
    }
    if letters.is_empty() && spool.is_empty() {
        return print("no dead letters\n");
    }
    let now = store.now();
    let mut rows = table(&["given up", "", "class", "attempts", "fingerprint", "call", "message"]);
    for letter in &letters {
        rows.add_row([
            time(letter.at),
            age(letter.at, now),
            letter.class.clone(),
            letter.attempts.to_string(),
            letter.fingerprint.clone(),
            line(&letter.call_id).into_owned(),
            line(&letter.message).into_owned(),
        ]);
    }
    let cut = u32::try_from(letters.len()).is_ok_and(|shown| shown == options.limit);
    let more = if cut { format!("(the newest {}; --limit shows more)\n", options.limit) } else { String::new() };
    print(&format!("{}\n{more}", rows.trim_fmt()))?;
    if spool.is_empty() { Ok(()) } else { print(&of_spool(&spool, now)) }
}

/// What came out of the spool and belongs to no call.
fn of_spool(letters: &[SpoolLetter], now: DateTime<Utc>) -> String {
    let mut rows = table(&["laid down", "", "from the spool", "bytes", "why"]);
    for letter in letters {
        rows.add_row([
            time(letter.at),
            age(letter.at, now),
            letter.id.simple().to_string(),
            letter.bytes.to_string(),
            line(&letter.reason).into_owned(),
        ]);
    }
    format!("\n{}\n", rows.trim_fmt())
}
