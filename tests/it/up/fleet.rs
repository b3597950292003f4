//! Every role as a process of its own, over a PostgreSQL and a nats-server of the test's own.

use std::collections::BTreeSet;

use callfleet::dev::data_dir::DataDir;
use callfleet::dev::programs::Programs;
use callfleet::dev::servers::{Durability, Servers};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

use super::folder::Folder;
use super::pbx::Pbx;
use super::processes;
use super::program::Program;
use crate::wait;

/// The servers, and the programs that were started over them.
pub(crate) struct Fleet {
    pub(crate) servers: Servers,
    programs: Vec<(Program, u32)>,
    /// What programs are told beside the settings of every test.
    settings: Vec<(&'static str, String)>,
    _data: DataDir,
    folder: Folder,
}

impl Fleet {
    /// The servers with a schema, and no program.
    pub(crate) async fn bare() -> Self {
        Self::with(&[]).await
    }

    /// As [`Fleet::bare`], with settings of its own; other servers, too, which may be named there.
    pub(crate) async fn with(settings: &[(&'static str, &str)]) -> Self {
        let folder = Folder::new();
        let data = DataDir::open(&folder.data()).unwrap();
        let named = |name: &str| std::env::var_os(name).map(Into::into);
        let programs =
            Programs { postgres_bin: named("CALLFLEET_PG_BIN"), nats_server: named("CALLFLEET_NATS_SERVER") };
        let servers = Servers::start(&data, &programs, Durability::None).await.unwrap();
        let own = [("DATABASE_URL", servers.postgres.url().to_owned()), ("NATS_URL", servers.nats.url().to_owned())];
        let mut fleet = Self { servers, programs: Vec::new(), settings: own.into(), _data: data, folder };
        for (name, value) in settings {
            fleet.set(name, value);
        }
        fleet.command("callfleet migrate").await;
        fleet
    }

    /// Tells programs that are started from here on something else.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_owned()));
    }

    /// What programs are told.
    pub(crate) fn setting(&self, name: &str) -> &str {
        &self.settings.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// Where the servers' data are.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.data()
    }

    /// A program over the servers; it is ended by [`Fleet::finish`] and must not end before.
    pub(crate) async fn start(&mut self, name: &str) -> String {
        let mut program = self.program(name);
        let address = program.address().await;
        if name == "mock-ai" {
            self.set("AI_URL", &format!("http://{address}/v1/transcribe"));
        }
        let pid = program.pid();
        self.programs.push((program, pid));
        address
    }

    /// A program over the servers that the caller looks after.
    pub(crate) fn program(&self, name: &str) -> Program {
        let settings: Vec<(&str, &str)> = self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Program::start(name, self.folder.path(), &settings)
    }

    /// A program that does something and ends, which must succeed.
    async fn command(&self, command: &str) {
        let ended = self.program(command).ended().await;
        assert_eq!(ended.code, Some(0), "{command}:\n{}", ended.said);
    }

    /// The rows of a statement, each its one column as JSON.
    pub(crate) async fn column(&self, statement: &str) -> Vec<Value> {
        let pool = PgPool::connect(self.setting("DATABASE_URL")).await.unwrap();
        let rows = sqlx::query_scalar(AssertSqlSafe(format!("SELECT to_jsonb(r.v) FROM ({statement}) r (v)")));
        let rows = rows.fetch_all(&pool).await.unwrap();
        pool.close().await;
        rows
    }

    /// Waits until the statement's one value is `expected`.
    pub(crate) async fn until(&mut self, statement: &str, expected: impl Into<Value>) {
        let expected = expected.into();
        wait::until(statement, async || {
            self.all_run();
            self.column(statement).await.first() == Some(&expected)
        })
        .await;
    }

    /// Asserts that no program has ended or been replaced.
    pub(crate) fn all_run(&mut self) {
        for (program, pid) in &mut self.programs {
            program.is_running();
            assert_eq!(program.pid(), *pid);
        }
    }

    /// Asserts that all that `pbx` was promised is so, once it has come to rest: every packet stored
    /// once, every call archived through contiguous versions, nothing left to announce.
    pub(crate) async fn balances(&mut self, pbx: &Pbx, calls: usize) {
        self.until("SELECT count(*) FROM calls WHERE state = 'ARCHIVED'", calls).await;
        self.until("SELECT count(*) FROM outbox", 0).await;
        assert_eq!(self.column("SELECT count(*) FROM calls").await, [calls]);
        let stored = self.column("SELECT jsonb_build_array(call_id, sequence_number) FROM call_events").await;
        let taken = pbx.taken();
        assert_eq!(stored.len(), taken.len());
        let stored: BTreeSet<(String, i64)> =
            stored.into_iter().map(|packet| serde_json::from_value(packet).unwrap()).collect();
        assert_eq!(stored, taken);
        let holes = "SELECT count(*) FROM calls c
                      WHERE version <> (SELECT count(*) FROM transitions t WHERE t.call_key = c.key)";
        assert_eq!(self.column(holes).await, [0]);
        let transcripts = "SELECT count(DISTINCT call_id) FROM ai_results WHERE transcript IS NOT NULL";
        assert_eq!(self.column(transcripts).await, [calls]);
        self.command("callfleet audit --wait 20s").await;
    }

    /// Ends all programs, which must heed, then the servers; nothing is left.
    pub(crate) async fn finish(mut self) {
        for (program, _) in self.programs.drain(..) {
            program.terminate().await;
        }
        self.servers.stop().await.unwrap();
        assert_eq!(self.folder.processes(), processes::NONE);
    }
}
