//! Where the database is, and how many connections to it.

use std::time::Duration;

use clap::Args;

use crate::service::duration;

/// The database of a role.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Options {
    /// PostgreSQL, as postgres://user:password@host:port/database
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: String,
    /// Connections to PostgreSQL that this process may hold
    #[arg(long, env = "CALLFLEET_DATABASE_CONNECTIONS", default_value_t = 10, value_name = "N")]
    pub database_connections: u32,
    /// Longest time a statement may take before PostgreSQL counts as away
    #[arg(long, env = "CALLFLEET_DATABASE_TIMEOUT", default_value = "5s", value_name = "TIME", value_parser = duration::parse_positive)]
    pub database_timeout: Duration,
}
