//! `callfleet up`: every role in one process on one port, over servers of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::data_dir::DataDir;
use super::mock_ai;
use super::owned::Owned;
use super::programs::Programs;
use super::roles::{self, Places};

use crate::service::life::LifeOptions;
use crate::service::listen::{self, AccessOptions};
use crate::{ai, broker, ingest, notifier};

/// Time that the roles get to end before the servers under them are stopped all the same.
const ROLES_PATIENCE: Duration = Duration::from_secs(14);

/// What `callfleet up` runs, and over what.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct UpOptions {
    /// Where API, docs, WebSocket and health listen
    #[arg(long, env = "CALLFLEET_LISTEN", default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where the mock AI service listens
    #[arg(long, env = "CALLFLEET_AI_LISTEN", default_value = "127.0.0.1:8001", value_name = "ADDRESS")]
    pub ai_listen: SocketAddr,
    /// Where the private servers keep their data between runs, and where operator commands find us
    #[arg(long, env = "CALLFLEET_DATA_DIR", default_value = ".callfleet", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// A PostgreSQL to use instead of a private one
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// A nats-server to use instead of a private one
    #[arg(long, env = "NATS_URL", value_name = "URL", hide_env_values = true)]
    pub nats_url: Option<String>,
    /// Workers in this process
    #[arg(long, env = "CALLFLEET_WORKERS", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// How the streams are named and kept
    #[command(flatten)]
    pub streams: broker::Settings,
    /// The server programs
    #[command(flatten)]
    pub programs: Programs,
    /// Who may call
    #[command(flatten)]
    pub access: AccessOptions,
    /// How packets are taken
    #[command(flatten)]
    pub ingest: ingest::Options,
    /// What time does to calls
    #[command(flatten)]
    pub life: LifeOptions,
    /// How the AI service is asked; without an address it is the mock
    #[command(flatten)]
    pub ai: ai::Options,
    /// How the mock behaves
    #[command(flatten)]
    pub mock_ai: mock_ai::Options,
    /// How supervisors are served
    #[command(flatten)]
    pub notifier: notifier::Options,
}

/// Runs everything until `shutdown`, then ends the roles and after them the servers.
///
/// # Errors
/// When a port is taken, the data folder is in use, a server does not start, or a part dies.
pub async fn run(options: UpOptions, shutdown: CancellationToken) -> anyhow::Result<()> {
    let began = Instant::now();
    options.life.policy()?;
    options.ai.check()?;
    let listener = listen::bind(options.listen, &options.access).await?;
    let ai_listener = match &options.ai.ai_url {
        Some(_) => None,
        None => {
            Some(listen::bind(options.ai_listen, &options.access).await.context("the mock AI service (--ai-listen)")?)
        }
    };
    let data = DataDir::open(&options.data_dir)?;
    let mut owned = Owned::start(&options, &data).await?;
    let ended = over(options, &data, &owned, (listener, ai_listener), began, shutdown).await;
    owned.stop().await.and(ended)
}

async fn over(
    mut options: UpOptions,
    data: &DataDir,
    owned: &Owned,
    (listener, ai_listener): (TcpListener, Option<TcpListener>),
    began: Instant,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if shutdown.is_cancelled() {
        return Ok(());
    }
    let url = format!("http://{}", listener.local_addr().context("no address")?);
    if let Some(listener) = &ai_listener {
        let address = listener.local_addr().context("no address")?;
        options.ai.ai_url = Some(format!("http://{address}/v1/transcribe").parse().context("AI_URL")?);
    }
    let env = [
        ("DATABASE_URL", owned.database_url().to_owned()),
        ("NATS_URL", owned.nats_url().to_owned()),
        ("CALLFLEET_URL", url.clone()),
        ("AI_URL", options.ai.url()?.to_string()),
    ];
    let places = Places {
        database_url: owned.database_url().to_owned(),
        nats_url: owned.nats_url().parse().map_err(anyhow::Error::msg)?,
        owns_nats: owned.owns_nats(),
        listener,
        ai_listener,
    };
    let mut tasks = roles::start(options, places, shutdown.clone()).await?;
    let died = owned.died();
    let asked = shutdown.clone();
    tasks.spawn("private servers", async move {
        tokio::select! {
            error = died => Err(error),
            () = asked.cancelled() => Ok(()),
        }
    });
    data.write_env(&env.each_ref().map(|(name, value)| (*name, value.as_str())))?;
    announce(&url, data, began.elapsed());
    tokio::select! {
        ended = tasks.join() => ended,
        () = async { shutdown.cancelled().await; tokio::time::sleep(ROLES_PATIENCE).await } => {
            bail!("the roles did not end within {} s", ROLES_PATIENCE.as_secs())
        }
    }
}

/// Says that all is ready, where, and what to do first.
fn announce(url: &str, data: &DataDir, took: Duration) {
    let supervisor = url.replacen("http", "ws", 1);
    println!(
        "Callfleet is ready after {:.1} s.

  API         {url}        documentation {url}/docs
  supervisors {supervisor}/api/v1/ws/supervisor/me
  data        {}        addresses for other programs: {}

Send a call's first and last packet, then look at it:

  curl -s {url}/v1/call/stream/my-call -d '{{\"sequence\":1,\"data\":\"Hello\",\"timestamp\":1738411815.123,\"event\":\"end\"}}'
  curl -s {url}/v1/call/my-call

Or many calls at once, in a second terminal: callfleet simulate --calls 200
Ctrl-C ends it; the data stay.",
        took.as_secs_f64(),
        data.path().display(),
        data.path().join("env").display(),
    );
}
