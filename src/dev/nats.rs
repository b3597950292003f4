//! A private nats-server with JetStream.

use std::fs;
use std::future::Future;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::access::{Access, free_port, new_password};
use super::child::{Child, Steps};
use super::data_dir::{DataDir, write_private};
use super::orphans;
use super::programs::Programs;
use super::servers::Durability;

const NAME: &str = "nats-server";
const USER: &str = "callfleet";
/// The server reads its whole store before it takes connections.
const START_DEADLINE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(5);
/// A port found free may be taken a moment later; more often than this is no coincidence.
const PORT_TRIES: u32 = 5;
const STOP: Steps<'_> = &[(Signal::SIGTERM, Duration::from_secs(6)), (Signal::SIGKILL, Duration::from_secs(2))];
const KILL: Steps<'_> = &[(Signal::SIGKILL, Duration::from_secs(5))];
/// Messages refer to what PostgreSQL holds; whole payloads are never sent.
const MAX_PAYLOAD_BYTES: u64 = 1024 * 1024;
/// What the limits of all streams may add up to, used or not. Each stream has a limit of its own;
/// this one only has to leave room for as many sets of streams as tests make side by side.
const MAX_FILE_STORE_BYTES: u64 = 1024 * 1024 * 1024 * 1024;
/// The same for streams kept in memory, of which we have none.
const MAX_MEMORY_STORE_BYTES: u64 = 1024 * 1024 * 1024;
/// The greeting of a server is far below this.
const GREETING_MAX_BYTES: u64 = 16 * 1024;

/// A nats-server that belongs to this process: on loopback, behind its own password, its store in
/// the data folder. Killed when dropped (the store stands that); [`PrivateNats::stop`] is the clean end.
pub struct PrivateNats {
    program: PathBuf,
    folder: PathBuf,
    durability: Durability,
    access: Access,
    access_file: PathBuf,
    log: PathBuf,
    url: String,
    child: Option<Child>,
}

impl PrivateNats {
    /// Starts it and returns when it takes connections, JetStream included.
    ///
    /// # Errors
    /// When there is no nats-server, or it does not come up; with the end of its log.
    pub async fn start(data: &DataDir, programs: &Programs, durability: Durability) -> anyhow::Result<Self> {
        Self::prepare(data, programs, durability).await.context("the private nats-server does not start")
    }

    /// `nats://…` with user and password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ready, with what it said last, when the server has ended without having been asked to (by
    /// [`PrivateNats::stop`] and the like, after which an older future of this is to be ignored).
    pub fn died(&self) -> impl Future<Output = anyhow::Error> + Send + use<> {
        let died = self.child.as_ref().map(Child::died);
        async move {
            match died {
                Some(died) => died.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Ends it cleanly, by force when it does not heed. Nothing to do when it is not running.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.end(STOP).await
    }

    /// Ends it as a crash would, with nothing written first.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.end(KILL).await
    }

    /// Stops it if it runs, and starts it with the same port and store.
    ///
    /// # Errors
    /// As [`PrivateNats::start`], and when the port has been taken meanwhile.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.launch(1).await.context("the private nats-server does not start again")
    }

    async fn prepare(data: &DataDir, programs: &Programs, durability: Durability) -> anyhow::Result<Self> {
        let folder = folder(data);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        end_orphans(data).await?;
        let program = programs.nats().await?;
        let access_file = data.path().join("nats.access");
        let access = Access::load(&access_file)?.unwrap_or_else(|| Access { port: 0, password: new_password() });
        let log = data.path().join("nats.log");
        let mut this = Self { program, folder, durability, access, access_file, log, url: String::new(), child: None };
        this.settle_on_a_port()?;
        this.launch(PORT_TRIES).await?;
        Ok(this)
    }

    fn settle_on_a_port(&mut self) -> anyhow::Result<()> {
        self.access.port = free_port(Some(self.access.port).filter(|port| *port != 0))?;
        self.access.save(&self.access_file)?;
        let Access { port, password } = &self.access;
        self.url = format!("nats://{USER}:{password}@127.0.0.1:{port}");
        let mut jetstream = json!({
            "store_dir": self.folder.join("store"),
            "max_file_store": MAX_FILE_STORE_BYTES,
            "max_memory_store": MAX_MEMORY_STORE_BYTES,
        });
        if let (Some(interval), Some(jetstream)) = (self.durability.nats_sync_interval(), jetstream.as_object_mut()) {
            jetstream.insert("sync_interval".to_owned(), json!(interval));
        }
        let config = json!({
            "server_name": server_name(*port),
            "listen": format!("127.0.0.1:{port}"),
            "authorization": { "user": USER, "password": password },
            "max_payload": MAX_PAYLOAD_BYTES,
            "jetstream": jetstream,
        });
        write_private(&config_path(&self.folder), &format!("{config:#}\n")).context("cannot write the configuration")
    }

    /// Starts the server on one of up to `ports` ports.
    async fn launch(&mut self, mut ports: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let mut command = Command::new(&self.program);
            command.arg("-c").arg(config_path(&self.folder));
            let child = Child::spawn(NAME, command, &self.log)?;
            let error = tokio::select! {
                () = ready(self.access.port) => {
                    self.child = Some(child);
                    return Ok(());
                }
                error = child.died() => error,
                () = tokio::time::sleep_until(deadline) => {
                    child.stop(STOP).await?;
                    bail!("not ready within {START_DEADLINE:?}; the end of its log:\n{}", child.said().tail());
                }
            };
            if child.said().text().contains("address already in use") && ports > 1 {
                ports -= 1;
                self.settle_on_a_port()?;
            } else {
                return Err(error);
            }
        }
    }

    async fn end(&mut self, steps: Steps<'_>) -> anyhow::Result<()> {
        if let Some(child) = self.child.take() {
            child.stop(steps).await?;
        }
        Ok(())
    }
}

/// Ends what a killed run left running on the store of `data`.
pub(super) async fn end_orphans(data: &DataDir) -> anyhow::Result<()> {
    let arguments = format!(" -c {} ", config_path(&folder(data)).display());
    orphans::end(NAME, |command| command.ends_with(&arguments), STOP).await
}

fn folder(data: &DataDir) -> PathBuf {
    data.path().join("nats")
}

fn config_path(folder: &Path) -> PathBuf {
    folder.join("nats.conf")
}

/// The name a server greets with, by which ours is told from another that has the port.
fn server_name(port: u16) -> String {
    format!("callfleet-{port}")
}

/// Returns when our server greets whoever connects, which it does after JetStream has started.
pub(super) async fn ready(port: u16) {
    let greeting = format!("\"server_name\":\"{}\"", server_name(port));
    loop {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
            let mut line = String::new();
            let read = BufReader::new(stream.take(GREETING_MAX_BYTES)).read_line(&mut line).await;
            if read.is_ok() && line.starts_with("INFO ") && line.contains(&greeting) {
                return;
            }
        }
        sleep(POLL).await;
    }
}
