//! One nats-server.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::ports;
use crate::processes::{Process, Starter};
use crate::wait;

const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// The greeting of a server is far below this.
const GREETING_MAX_BYTES: u64 = 16 * 1024;

pub(super) struct Server {
    program: PathBuf,
    name: String,
    port: u16,
    store: PathBuf,
    config: PathBuf,
    process: Option<Process>,
}

impl Server {
    pub(super) const fn new(program: PathBuf, name: String, port: u16, store: PathBuf, config: PathBuf) -> Self {
        Self { program, name, port, store, config, process: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn is_up(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.has_ended().is_none())
    }

    pub(super) fn start(&mut self, starter: &Starter) -> anyhow::Result<()> {
        ports::check(self.port)?;
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&self.config);
        self.process = Some(starter.start(&self.name, command)?);
        Ok(())
    }

    /// Returns when it greets whoever connects, which it does after JetStream has started.
    pub(super) async fn until_ready(&mut self, deadline: Duration) -> anyhow::Result<()> {
        let (name, port) = (self.name.clone(), self.port);
        let process = self.process.as_mut().with_context(|| format!("{name} was not started"))?;
        let mut ended = false;
        let ready = wait::until(deadline, async || {
            ended = process.has_ended().is_some();
            ended || greets(port, &name).await
        });
        if ready.await && !ended {
            return Ok(());
        }
        bail!("{name} does not start on port {port}; it said:\n{}", process.tail(8))
    }

    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    pub(super) async fn terminate(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::SIGTERM)?;
        process.ended(STOP_DEADLINE).await.with_context(|| format!("{} does not end", self.name))?;
        Ok(())
    }

    pub(super) fn wipe(&mut self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.store) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot wipe {}", self.store.display()))
            }
            _ => Ok(()),
        }
    }
}

async fn greets(port: u16, name: &str) -> bool {
    let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return false };
    let mut line = String::new();
    let read = BufReader::new(stream.take(GREETING_MAX_BYTES)).read_line(&mut line).await;
    read.is_ok() && line.starts_with("INFO ") && line.contains(&format!("\"server_name\":\"{name}\""))
}
