//! `callfleet topology`: what JetStream has, beside what it should have.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use super::servers::nats_url;
use crate::broker::topology::{self, Action, Applied, Difference};
use crate::broker::{self, Broker, Settings};
use crate::service::health::Health;

/// The subcommands of `callfleet topology`.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Show every setting that differs, and fail if one does; changes nothing
    Check(Options),
    /// Create what is missing and change what differs; deletes nothing
    Apply(Options),
}

/// Which NATS, and what should be there.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Options {
    /// NATS
    #[arg(
        long,
        env = "NATS_URL",
        value_name = "URL",
        hide_env_values = true,
        help = "NATS [default: what <DATA_DIR>/env says]"
    )]
    pub nats_url: Option<String>,
    /// The folder of `callfleet up`, whose `env` file says where its NATS listens
    #[arg(long, env = "CALLFLEET_DATA_DIR", default_value = ".callfleet", value_name = "DATA_DIR")]
    pub data_dir: PathBuf,
    /// What should be there.
    #[command(flatten)]
    pub settings: Settings,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Carries out `command` and prints what it found or did.
///
/// # Errors
/// When something differs (`check`), could not be changed (`apply`), or NATS cannot be reached.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check(options) => check(&options).await,
        Command::Apply(options) => apply(&options).await,
    }
}

async fn check(options: &Options) -> anyhow::Result<()> {
    let differences = topology::check(&connect(options).await?).await?;
    if options.json {
        print_json(&differences)?;
    } else if differences.is_empty() {
        println!("every stream and consumer is as it should be");
    } else {
        println!("{}", differences_table(&differences));
    }
    match differences.len() {
        0 => Ok(()),
        1 => bail!("one setting differs: `callfleet topology apply` changes it"),
        count => bail!("{count} settings differ: `callfleet topology apply` changes them"),
    }
}

async fn apply(options: &Options) -> anyhow::Result<()> {
    let applied = topology::apply(&connect(options).await?).await?;
    if options.json {
        print_json(&applied)?;
    } else {
        println!("{}", applied_table(&applied));
    }
    let refused: usize = applied.iter().map(|applied| applied.refused.len()).sum();
    if refused > 0 {
        bail!("settings that the server does not change on what exists: {refused}");
    }
    Ok(())
}

async fn connect(options: &Options) -> anyhow::Result<Broker> {
    let nats_url = nats_url(options.nats_url.as_deref(), &options.data_dir)?;
    let broker = broker::Options { nats_url, settings: options.settings.clone() };
    Ok(Broker::connect(&broker, "callfleet", &Health::new()).await?)
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn differences_table(differences: &[Difference]) -> Table {
    let mut table = table(&["what", "setting", "should be", "is"]);
    for Difference { object, field, wanted, found } in differences {
        table.add_row([object, field, wanted, found]);
    }
    table
}

fn applied_table(applied: &[Applied]) -> Table {
    let mut table = table(&["what", "done", "not possible"]);
    for Applied { object, action, changed, refused } in applied {
        let done = match action {
            Action::Created => "created".to_owned(),
            Action::Updated => format!("changed {}", changed.join(", ")),
            Action::Kept => "left as it was".to_owned(),
        };
        let refused: Vec<_> = refused.iter().map(|(field, reason)| format!("{field}: {reason}")).collect();
        table.add_row([object.clone(), done, refused.join("; ")]);
    }
    table
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}
