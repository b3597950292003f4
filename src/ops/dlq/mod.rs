//! `callfleet dlq`: the calls that were given up.
//!
//! Reads alone: what the dead-letter stream holds is the same, and `callfleet audit` proves it.

mod list;
mod show;

use clap::{Args, Subcommand};

/// Shows the calls that were given up, and why.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    List(list::Options),
    Show(show::Options),
}

/// Carries the command out.
///
/// # Errors
/// When the database is away, or there is no such dead letter.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    match &options.command {
        Command::List(options) => list::run(options).await,
        Command::Show(options) => show::run(options).await,
    }
}
