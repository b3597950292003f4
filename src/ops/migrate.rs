//! `callfleet migrate`: the schema brought to this program's version.

use clap::Args;
use serde_json::json;

use super::servers::ServerOptions;
use super::terminal::{print, print_json};
use crate::store::schema;

/// Creates the database's schema, or brings it up to date.
///
/// Every other command and every role only checks it. Running it twice changes nothing; it is safe
/// beside running roles and beside another `callfleet migrate`.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "Example:\n  callfleet migrate --database-url postgres://callfleet@db.example/callfleet")]
pub struct Options {
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show it as help of every flag in it")]
    pub servers: ServerOptions,
}

/// Migrates and says what was applied.
///
/// # Errors
/// When the database is away, its user may not create tables, or its schema is another program's.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let store = options.servers.store_of_any_schema("migrate").await?;
    let applied = schema::migrate(&store).await?;
    schema::check(&store).await?;
    if options.json {
        return print_json(&json!({ "applied": applied }));
    }
    match applied.as_slice() {
        [] => print("the schema is up to date: nothing to apply\n"),
        applied => {
            let versions: Vec<String> = applied.iter().map(ToString::to_string).collect();
            print(&format!("the schema is up to date: applied {}\n", versions.join(", ")))
        }
    }
}
