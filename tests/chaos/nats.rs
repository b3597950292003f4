//! nats-server with JetStream: one, or a cluster of three.

mod config;
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::{Client, ConnectOptions};

use server::Server;

use crate::disk::Disk;
use crate::jetstream;
use crate::processes::Starter;
use crate::wait;

pub(crate) const USER: &str = "callfleet";
pub(crate) const PASSWORD: &str = "chaos";
/// Time for a server to read its store, and for a cluster to elect its leader.
const START_DEADLINE: Duration = Duration::from_secs(60);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// How NATS is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    Single,
    Cluster,
}

impl Form {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Cluster => "cluster",
        }
    }

    pub(crate) const fn servers(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Cluster => 3,
        }
    }
}

/// The servers, and the suite's own connection to them.
pub(crate) struct Nats {
    starter: Arc<Starter>,
    form: Form,
    servers: Vec<Server>,
    /// A small file system of its own for the store, where the machine allows one.
    disk: Option<Disk>,
    client: Client,
}

impl Nats {
    /// Starts the servers and returns when JetStream answers.
    pub(crate) async fn start(starter: &Arc<Starter>, form: Form) -> anyhow::Result<Self> {
        let program = program()?;
        let folder = starter.below(&format!("nats-{:06x}", fastrand::u32(..1 << 24)))?;
        let disk = if form == Form::Single { Disk::mount(&folder.join("disk")) } else { None };
        let store = disk.as_ref().map_or_else(|| folder.clone(), |disk| disk.path().to_owned());
        let mut servers = config::make(&program, &folder, &store, form)?;
        for server in &mut servers {
            server.start(starter)?;
        }
        let urls: Vec<String> = servers.iter().map(|server| format!("nats://127.0.0.1:{}", server.port())).collect();
        let client = ConnectOptions::with_user_and_password(USER.to_owned(), PASSWORD.to_owned())
            .name("chaos")
            .request_timeout(Some(ASK_TIMEOUT))
            .connection_timeout(ASK_TIMEOUT)
            .retry_on_initial_connect()
            .max_reconnects(None)
            .reconnect_delay_callback(|_| Duration::from_millis(100))
            .ignore_discovered_servers()
            .connect(urls)
            .await
            .context("the suite cannot connect to NATS")?;
        let mut this = Self { starter: Arc::clone(starter), form, servers, disk, client };
        this.until_back().await?;
        Ok(this)
    }

    pub(crate) const fn form(&self) -> Form {
        self.form
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) const fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.servers.iter().map(Server::port).collect()
    }

    /// The way to all servers past all wires.
    pub(crate) fn url(&self) -> String {
        url(&self.ports())
    }

    /// The place of the server of that name.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        self.servers.iter().position(|server| server.name() == name)
    }

    pub(crate) fn all(&self) -> Vec<usize> {
        (0..self.servers.len()).collect()
    }

    /// Ends servers as a crash does.
    pub(crate) async fn kill(&mut self, which: &[usize]) -> anyhow::Result<()> {
        for place in which {
            self.server(*place)?.kill().await?;
        }
        Ok(())
    }

    /// Ends servers cleanly.
    pub(crate) async fn terminate(&mut self, which: &[usize]) -> anyhow::Result<()> {
        for place in which {
            self.server(*place)?.terminate().await?;
        }
        Ok(())
    }

    /// Removes everything that servers which have ended had stored.
    pub(crate) fn wipe(&mut self, which: &[usize]) -> anyhow::Result<()> {
        for place in which {
            self.server(*place)?.wipe()?;
        }
        Ok(())
    }

    /// Starts every server that is not running, and returns when JetStream answers again.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        let starter = Arc::clone(&self.starter);
        for server in &mut self.servers {
            if !server.is_up() {
                server.start(&starter)?;
            }
        }
        self.until_back().await
    }

    /// Returns when every server takes connections and JetStream answers.
    async fn until_back(&mut self) -> anyhow::Result<()> {
        for server in &mut self.servers {
            server.until_ready(START_DEADLINE).await?;
        }
        let answers = wait::until(START_DEADLINE, async || self.is_back().await.is_ok_and(|is_back| is_back));
        anyhow::ensure!(answers.await, "JetStream does not answer within {START_DEADLINE:?}");
        Ok(())
    }

    /// JetStream answers, and every stream that is there takes messages: in a cluster each has elected
    /// its leader.
    async fn is_back(&self) -> anyhow::Result<bool> {
        let answer = self.client.request("$JS.API.INFO", "".into()).await?;
        if String::from_utf8_lossy(&answer.payload).contains("\"error\"") {
            return Ok(false);
        }
        for name in [jetstream::WORK, jetstream::STATE, jetstream::DLQ, jetstream::SPOOL] {
            let stream = jetstream::stream(&self.client, name).await?;
            if self.form == Form::Cluster && stream.is_some_and(|stream| stream.leader.is_none()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn server(&mut self, place: usize) -> anyhow::Result<&mut Server> {
        self.servers.get_mut(place).context("there is no such server")
    }
}

/// The address of servers on these ports.
pub(crate) fn url(ports: &[u16]) -> String {
    let one = |port: &u16| format!("nats://{USER}:{PASSWORD}@127.0.0.1:{port}");
    ports.iter().map(one).collect::<Vec<_>>().join(",")
}

fn program() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("CALLFLEET_NATS_SERVER").map(PathBuf::from);
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join("nats-server")).find(|program| program.is_file())
    };
    let fetched = || Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools/nats-server"));
    match named.or_else(on_path).or_else(fetched).filter(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => bail!("no nats-server: run scripts/chaos, which fetches one, or name one in CALLFLEET_NATS_SERVER"),
    }
}
