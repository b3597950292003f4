//! The database and the broker that a command looks into.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;

use super::target::{env_file, known};
use crate::broker::{self, Broker, Prefix, ServerUrl, Settings};
use crate::service::health::Health;
use crate::store::{self, Purpose, Store};

/// Time that a command waits for NATS: whoever asks sits in front of it.
const NATS_WAIT: Duration = Duration::from_secs(3);
/// Connections of a command, which asks one thing after the other.
const DATABASE_CONNECTIONS: u32 = 2;

/// Which servers.
///
/// What neither flag nor environment says is read from `<data-dir>/env`, which `callfleet up` writes.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct ServerOptions {
    /// PostgreSQL
    #[arg(
        long,
        env = "DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Servers",
        help = "PostgreSQL [default: what <DATA_DIR>/env says]"
    )]
    pub database_url: Option<String>,
    /// NATS
    #[arg(
        long,
        env = "NATS_URL",
        value_name = "URL",
        hide_env_values = true,
        help_heading = "Servers",
        help = "NATS [default: what <DATA_DIR>/env says]"
    )]
    pub nats_url: Option<String>,
    /// What the names of streams and subjects begin with
    #[arg(
        long,
        env = "CALLFLEET_NATS_PREFIX",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true,
        help_heading = "Servers"
    )]
    pub nats_prefix: Prefix,
    /// The folder of `callfleet up`, whose `env` file says where its servers listen
    #[arg(
        long,
        env = "CALLFLEET_DATA_DIR",
        default_value = ".callfleet",
        value_name = "DATA_DIR",
        help_heading = "Servers"
    )]
    pub data_dir: PathBuf,
    /// Longest time a question to PostgreSQL may take
    #[arg(long, env = "CALLFLEET_DATABASE_TIMEOUT", default_value = "5s", value_name = "TIME",
          value_parser = crate::service::duration::parse_positive, help_heading = "Servers")]
    pub database_timeout: Duration,
}

impl ServerOptions {
    /// The database, for the command `name`, with the schema that this program knows.
    ///
    /// # Errors
    /// One line that says what to do.
    pub async fn store(&self, name: &str) -> anyhow::Result<Store> {
        Store::connect(&self.store_options()?, name, Purpose::Command).await
    }

    /// The database, whatever its schema.
    ///
    /// # Errors
    /// One line that says what to do.
    pub async fn store_of_any_schema(&self, name: &str) -> anyhow::Result<Store> {
        Store::connect_unchecked(&self.store_options()?, name, Purpose::Command).await
    }

    /// The broker, for the command `name`.
    ///
    /// # Errors
    /// One line that says what to do.
    pub async fn broker(&self, name: &str) -> anyhow::Result<Broker> {
        let nats_url = nats_url(self.nats_url.as_deref(), &self.data_dir)?;
        let settings = Settings { nats_prefix: self.nats_prefix.clone(), ..Settings::default() };
        let options = broker::Options { nats_url, settings };
        let shown = options.nats_url.to_string();
        let connected = tokio::time::timeout(NATS_WAIT, Broker::connect(&options, name, &Health::new())).await;
        match connected {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(anyhow!("nothing answers at {shown}: is NATS running, and is NATS_URL right?")),
        }
    }

    /// Whether it is known which database to look into.
    ///
    /// # Errors
    /// When `<data-dir>/env` is there and cannot be read.
    pub(super) fn are_known(&self) -> anyhow::Result<bool> {
        Ok(known(self.database_url.as_deref(), "DATABASE_URL", &self.data_dir)?.is_some())
    }

    fn store_options(&self) -> anyhow::Result<store::Options> {
        let database_url = known(self.database_url.as_deref(), "DATABASE_URL", &self.data_dir)?;
        Ok(store::Options {
            database_url: database_url.with_context(|| unknown("DATABASE_URL", "--database-url", &self.data_dir))?,
            database_connections: DATABASE_CONNECTIONS,
            database_timeout: self.database_timeout,
        })
    }
}

/// Where NATS is.
///
/// # Errors
/// Says how to name it when nothing does, or what is wrong with the name.
pub(super) fn nats_url(given: Option<&str>, data_dir: &Path) -> anyhow::Result<ServerUrl> {
    let url = known(given, "NATS_URL", data_dir)?.with_context(|| unknown("NATS_URL", "--nats-url", data_dir))?;
    url.parse().map_err(|error: String| anyhow!(error)).context("NATS_URL")
}

fn unknown(variable: &str, flag: &str, data_dir: &Path) -> String {
    let file = env_file(data_dir);
    format!("{variable} is not known: start `callfleet up` (which writes {}), or give {flag}", file.display())
}

#[cfg(test)]
mod tests {
    use super::nats_url;

    #[test]
    fn an_unknown_server_is_answered_with_how_to_name_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(nats_url(None, folder.path()).unwrap_err().to_string().contains("--nats-url"));
    }
}
