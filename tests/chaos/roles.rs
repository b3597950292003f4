//! The roles: the real programs, each over wires of its own.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::http;
use crate::nats;
use crate::ports;
use crate::processes::{Process, Starter};
use crate::proxy::{Proxy, Wire};
use crate::wait;

/// How long a role may take to be ready, and to end.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(20);
const END_DEADLINE: Duration = Duration::from_secs(25);
const ASK_DEADLINE: Duration = Duration::from_secs(2);
/// What of our own surroundings a role gets to see.
const KEPT: &[&str] = &["PATH", "HOME", "TMPDIR", "RUST_BACKTRACE"];

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ingest,
    Worker,
    Notifier,
    MockAi,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Worker => "ai-worker",
            Self::Notifier => "notifier",
            Self::MockAi => "mock-ai",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Ingest => env!("CARGO_BIN_EXE_ingest"),
            Self::Worker => env!("CARGO_BIN_EXE_ai-worker"),
            Self::Notifier => env!("CARGO_BIN_EXE_notifier"),
            Self::MockAi => env!("CARGO_BIN_EXE_mock-ai"),
        }
    }
}

/// The operator's program.
pub(crate) const CALLFLEET: &str = env!("CARGO_BIN_EXE_callfleet");

/// The wires between a role and what it talks to.
#[derive(Default)]
pub(crate) struct Wires {
    pub(crate) postgres: Option<Proxy>,
    pub(crate) nats: Vec<Proxy>,
    pub(crate) ai: Option<Proxy>,
}

/// Which of a role's wires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Postgres,
    Nats,
    Ai,
}

impl Wires {
    pub(crate) fn set(&self, to: To, wire: Wire) {
        match to {
            To::Postgres => self.postgres.iter().for_each(|proxy| proxy.set(wire)),
            To::Nats => self.nats.iter().for_each(|proxy| proxy.set(wire)),
            To::Ai => self.ai.iter().for_each(|proxy| proxy.set(wire)),
        }
    }

    fn settings(&self) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        if let Some(proxy) = &self.postgres {
            let url = format!("postgres://callfleet@127.0.0.1:{}/callfleet", proxy.port());
            settings.push(("DATABASE_URL".to_owned(), url));
        }
        if !self.nats.is_empty() {
            let ports: Vec<u16> = self.nats.iter().map(Proxy::port).collect();
            settings.push(("NATS_URL".to_owned(), nats::url(&ports)));
        }
        if let Some(proxy) = &self.ai {
            settings.push(("AI_URL".to_owned(), format!("http://127.0.0.1:{}/v1/transcribe", proxy.port())));
        }
        settings
    }
}

/// One role, running or not.
pub(crate) struct Role {
    starter: Arc<Starter>,
    pub(crate) kind: Kind,
    name: String,
    port: u16,
    settings: Vec<(String, String)>,
    pub(crate) wires: Wires,
    process: Option<Process>,
    incarnation: u32,
}

impl Role {
    pub(crate) fn new(
        starter: &Arc<Starter>,
        kind: Kind,
        number: usize,
        wires: Wires,
        settings: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let mut settings = settings.to_vec();
        settings.extend(wires.settings());
        let name = format!("{}-{number}", kind.as_str());
        let starter = Arc::clone(starter);
        Ok(Self { starter, kind, name, port: ports::free()?, settings, wires, process: None, incarnation: 0 })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// What this run of the role is called on attempts and in timelines.
    pub(crate) fn actor(&self) -> String {
        format!("{}.{}", self.name, self.incarnation)
    }

    /// Starts the program; whether it gets ready is for others to see.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        ports::check(self.port)?;
        self.incarnation += 1;
        let kept = KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut command = Command::new(self.kind.program());
        command.env_clear().envs(kept).envs(self.settings.iter().cloned());
        command.env("CALLFLEET_LISTEN", format!("127.0.0.1:{}", self.port));
        command.env("CALLFLEET_WORKER_NAME", self.actor());
        self.process = Some(self.starter.start(&self.name, command)?);
        Ok(())
    }

    /// Whether it was started and neither the suite nor it itself has ended it.
    pub(crate) fn is_up(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.has_ended().is_none())
    }

    /// How it ended, when nobody asked it to; from then on it counts as not started.
    pub(crate) fn ended_unasked(&mut self) -> Option<(ExitStatus, String)> {
        let status = self.process.as_mut()?.has_ended()?;
        let process = self.process.take()?;
        Some((status, process.tail(6)))
    }

    pub(crate) async fn is_ready(&self) -> bool {
        http::get(self.port, "/readyz", ASK_DEADLINE).await.is_ok_and(|(status, _)| status == 200)
    }

    /// What `/readyz` says.
    pub(crate) async fn readiness(&self) -> String {
        match http::get(self.port, "/readyz", ASK_DEADLINE).await {
            Ok((status, body)) => format!("{status} {body}"),
            Err(lost) => format!("{lost:?}"),
        }
    }

    pub(crate) async fn until_ready(&self, deadline: Duration) -> bool {
        wait::until(deadline, async || self.is_ready().await).await
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal(signal))
    }

    /// Ends it as a crash does.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Asks it to end, and waits: how it ended, or none when it did not in time (then it is killed).
    pub(crate) async fn terminate(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.signal(Signal::SIGTERM)?;
        self.end(END_DEADLINE).await
    }

    /// As [`Role::terminate`], for one that was asked already.
    pub(crate) async fn end(&mut self, deadline: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let Some(mut process) = self.process.take() else { return Ok(None) };
        let ended = process.ended(deadline).await;
        if ended.is_none() {
            process.kill().await?;
        }
        Ok(ended)
    }

    pub(crate) fn tail(&self, lines: usize) -> String {
        crate::processes::tail(&self.starter.logs().join(format!("{}.log", self.name)), lines)
    }
}
