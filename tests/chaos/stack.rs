//! Everything that is under test, and everything it stands on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::PgPool;
use tokio::process::Command;
use tokio::sync::watch;

use crate::ai::Ai;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::nats::{Form, Nats};
use crate::postgres::Postgres;
use crate::processes::Starter;
use crate::proxy::{Proxy, Wire};
use crate::roles::{CALLFLEET, Kind, READY_DEADLINE, Role, To, Wires};
use crate::stop::{Outcome, Stop};
use crate::supervisor::{self, Supervisor};
use crate::wait;

/// How many of each role run.
const FLEET: &[(Kind, usize)] = &[(Kind::Ingest, 2), (Kind::Worker, 3), (Kind::Notifier, 2)];

/// How long a worker holds a call without a sign of life.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// Silence after which a call counts as ended.
pub(crate) const IDLE: Duration = Duration::from_secs(3);
/// How long an AI request may take: longer than a worker that was asked to end waits for one.
pub(crate) const AI_TIMEOUT: Duration = Duration::from_secs(12);
/// Times short enough for many faults an hour; everything else is as the programs have it.
const SETTINGS: &[(&str, &str)] = &[
    ("CALLFLEET_LOG", "info"),
    ("CALLFLEET_SETTLE", "300ms"),
    ("CALLFLEET_IDLE_TIMEOUT", "3s"),
    ("CALLFLEET_LEASE", "5s"),
    ("CALLFLEET_ACK_WAIT", "5s"),
    ("CALLFLEET_BACKOFF_BASE", "200ms"),
    ("CALLFLEET_BACKOFF_MAX", "2s"),
    ("CALLFLEET_RECONCILE_INTERVAL", "250ms"),
    ("CALLFLEET_SWEEP_INTERVAL", "10s"),
    ("CALLFLEET_AI_TIMEOUT", "12s"),
    ("CALLFLEET_WORKER_CONCURRENCY", "64"),
];
/// A setting that only counts where a program knows it.
const SPOOL_R1: (&str, &str) = ("CALLFLEET_SPOOL_R1", "true");

/// One fleet over one PostgreSQL and one NATS, with its clients.
pub(crate) struct Stack {
    pub(crate) postgres: Postgres,
    pub(crate) nats: Nats,
    pub(crate) ai: Ai,
    pub(crate) roles: Vec<Role>,
    pub(crate) load: Load,
    pub(crate) supervisor: Supervisor,
    pub(crate) settings: Vec<(String, String)>,
}

impl Stack {
    /// Starts everything and returns when every role is ready.
    pub(crate) async fn start(starter: &Arc<Starter>, form: Form, senders: u16, seed: u64) -> anyhow::Result<Self> {
        let (postgres, nats) = tokio::join!(Postgres::start(starter), Nats::start(starter, form));
        let (postgres, nats) = (postgres?, nats?);
        let settings = settings(form);
        let mut ai = Ai::new(Role::new(starter, Kind::MockAi, 0, Wires::default(), &ai_settings(seed))?);
        ai.role.start()?;
        let roles = fleet(starter, &postgres, &nats, &ai, &settings).await?;
        let ports = |kind| roles.iter().filter(|role: &&Role| role.kind == kind).map(Role::port).collect::<Vec<u16>>();
        let ledger = Ledger::new(starter.below(&format!("ledger-{:06x}", fastrand::u32(..1 << 24)))?);
        let load = Load::new(ledger, ports(Kind::Ingest), senders, seed);
        let supervisor = Supervisor::start(ports(Kind::Notifier));
        let mut this = Self { postgres, nats, ai, roles, load, supervisor, settings };
        this.callfleet(&["migrate"]).await?;
        this.callfleet(&["topology", "apply"]).await?;
        for role in &mut this.roles {
            role.start()?;
        }
        this.until_ready().await?;
        ensure!(this.supervisor.until_whole(READY_DEADLINE).await, "no notifier sends a snapshot");
        Ok(this)
    }

    pub(crate) const fn form(&self) -> Form {
        self.nats.form()
    }

    /// The suite's own way to the database.
    pub(crate) const fn pool(&self) -> &PgPool {
        self.postgres.pool()
    }

    /// Runs the operator's program to its end, which must be a good one.
    pub(crate) async fn callfleet(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments).output().await.context("callfleet cannot be run")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "callfleet {}: {}\n{}", arguments.join(" "), output.status, said.trim_end());
        Ok(said)
    }

    /// The operator's program, past all wires.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CALLFLEET);
        command.args(arguments).env_clear().envs(self.settings.iter().cloned());
        command.env("DATABASE_URL", self.postgres.url()).env("NATS_URL", self.nats.url()).kill_on_drop(true);
        command
    }

    /// The places of all roles of a kind.
    pub(crate) fn all(&self, kind: Kind) -> Vec<usize> {
        let places = self.roles.iter().enumerate().filter(|(_, role)| role.kind == kind);
        places.map(|(place, _)| place).collect()
    }

    pub(crate) fn role(&mut self, place: usize) -> Outcome<&mut Role> {
        self.roles.get_mut(place).context("there is no such role").map_err(Stop::from)
    }

    /// Sets the wires of all roles to one server.
    pub(crate) fn wire_all(&self, to: To, wire: Wire) {
        self.roles.iter().for_each(|role| role.wires.set(to, wire));
    }

    /// The roles that ended though nobody asked them to, each with what it said last.
    pub(crate) fn ended_unasked(&mut self) -> Vec<String> {
        let roles = self.roles.iter_mut().chain([&mut self.ai.role]);
        roles
            .filter_map(|role| {
                let (status, said) = role.ended_unasked()?;
                Some(format!("{} ended unasked ({status}); it said last:\n{said}", role.name()))
            })
            .collect()
    }

    /// Mends whatever a fault left broken, and starts whatever does not run.
    pub(crate) async fn mend(&mut self) -> anyhow::Result<()> {
        for to in [To::Postgres, To::Nats, To::Ai] {
            self.wire_all(to, Wire::Whole);
        }
        if let Some(disk) = self.nats.disk() {
            disk.free()?;
        }
        if !self.postgres.is_up() {
            self.postgres.start_again().await?;
        }
        self.nats.start_again().await?;
        if !self.ai.role.is_up() {
            self.ai.role.start()?;
        }
        ensure!(self.ai.role.until_ready(READY_DEADLINE).await, "mock-ai does not get ready");
        self.ai.control(&Ai::normal()).await?;
        for role in &mut self.roles {
            role.signal(nix::sys::signal::Signal::SIGCONT)?;
            if !role.is_up() {
                role.start()?;
            }
        }
        self.load.shared.set_one_store_down(false);
        self.load.shared.set_may_be_silent(false);
        Ok(())
    }

    /// The roles that do not get ready in time, each with what it says.
    pub(crate) async fn unready(&self, deadline: Duration) -> Vec<String> {
        let end = std::time::Instant::now() + deadline;
        let mut unready = Vec::new();
        for role in &self.roles {
            if !role.until_ready(end.saturating_duration_since(std::time::Instant::now()).max(AT_LEAST)).await {
                unready.push(format!("{} is not ready: {}", role.name(), role.readiness().await));
            }
        }
        unready
    }

    async fn until_ready(&self) -> anyhow::Result<()> {
        ensure!(
            self.ai.role.until_ready(READY_DEADLINE).await,
            "mock-ai does not get ready:\n{}",
            self.ai.role.tail(6)
        );
        for role in &self.roles {
            let ready = role.until_ready(READY_DEADLINE).await;
            ensure!(ready, "{} does not get ready: {}\n{}", role.name(), role.readiness().await, role.tail(6));
        }
        Ok(())
    }
}

/// One look at a role's readiness takes this long at most when all is well.
const AT_LEAST: Duration = Duration::from_millis(200);

/// The settings that all roles share.
fn settings(form: Form) -> Vec<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut settings: Vec<(String, String)> = SETTINGS.iter().map(own).collect();
    settings.push(("CALLFLEET_NATS_REPLICAS".to_owned(), form.servers().to_string()));
    settings.push(("CALLFLEET_WS_HEARTBEAT".to_owned(), format!("{}ms", supervisor::HEARTBEAT.as_millis())));
    if form == Form::Single {
        settings.push(own(&SPOOL_R1));
    }
    settings
}

fn ai_settings(seed: u64) -> Vec<(String, String)> {
    vec![("CALLFLEET_SEED".to_owned(), seed.to_string()), ("CALLFLEET_LOG".to_owned(), "info".to_owned())]
}

/// All roles with their wires, none of them started.
async fn fleet(
    starter: &Arc<Starter>,
    postgres: &Postgres,
    nats: &Nats,
    ai: &Ai,
    settings: &[(String, String)],
) -> anyhow::Result<Vec<Role>> {
    let mut roles = Vec::new();
    for (kind, count) in FLEET {
        for number in 0..*count {
            let mut wires = Wires { postgres: Some(Proxy::start(postgres.port()).await?), ..Wires::default() };
            for port in nats.ports() {
                wires.nats.push(Proxy::start(fixed(port)).await?);
            }
            if *kind == Kind::Worker {
                wires.ai = Some(Proxy::start(fixed(ai.role.port())).await?);
            }
            roles.push(Role::new(starter, *kind, number, wires, settings)?);
        }
    }
    Ok(roles)
}

/// A port that never changes.
fn fixed(port: u16) -> watch::Receiver<u16> {
    watch::channel(port).1
}

/// Whether `holds` before the deadline, or the product's failure.
pub(crate) async fn in_time(deadline: Duration, what: &str, holds: impl AsyncFnMut() -> bool) -> Outcome {
    crate::stop::expect(wait::until(deadline, holds).await, || format!("not within {deadline:?}: {what}"))
}
