//! A primary and a streaming standby of the test's own.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::{Uid, User};
use sqlx::{AssertSqlSafe, PgPool};

use crate::up::folder::Folder;
use crate::wait::until;

/// Settings of both. A test's data need no disk.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "wal_level=replica",
    "max_wal_senders=5",
    "hot_standby=on",
    "fsync=off",
    "full_page_writes=off",
];

/// Both servers.
pub(super) struct Pair {
    pub(super) primary: Postgres,
    pub(super) standby: Postgres,
    folder: Folder,
}

/// One server; killed when dropped, as the folder is.
pub(super) struct Postgres {
    pub(super) port: u16,
    process: Child,
}

impl Pair {
    /// A primary with an empty database `callfleet`, and a standby called `second` that follows.
    pub(super) async fn start() -> Self {
        let folder = Folder::new();
        let root = folder.path().join("postgres");
        std::fs::create_dir(&root).unwrap();
        if let Some(user) = unprivileged() {
            nix::unistd::chown(&root, Some(user.uid), Some(user.gid)).unwrap();
        }
        let (first, second) = (root.join("first"), root.join("second"));
        let initdb = ["--no-sync", "--locale=C", "--encoding=UTF8", "--auth=trust", "-U", "callfleet", "-D"];
        run(&root, "initdb", &[&initdb[..], &[first.to_str().unwrap()]].concat());
        let primary = Postgres::start(&root, &first, "first").await;
        primary.execute("postgres", "CREATE DATABASE callfleet").await;
        let port = primary.port.to_string();
        let backup = ["-h", "127.0.0.1", "-U", "callfleet", "-R", "-X", "stream", "-c", "fast", "-p", &port, "-D"];
        run(&root, "pg_basebackup", &[&backup[..], &[second.to_str().unwrap()]].concat());
        let standby = Postgres::start(&root, &second, "second").await;
        let pair = Self { primary, standby, folder };
        pair.until_it_follows("async").await;
        pair
    }

    /// Has every commit wait for the standby, or no longer.
    pub(super) async fn replicate(&self, synchronously: bool) {
        let names = if synchronously { "second" } else { "" };
        self.primary.execute("callfleet", &format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).await;
        self.primary.execute("callfleet", "SELECT pg_reload_conf()").await;
        self.until_it_follows(if synchronously { "sync" } else { "async" }).await;
    }

    async fn until_it_follows(&self, how: &str) {
        let follows = format!(
            "SELECT count(*) = 1 FROM pg_stat_replication
              WHERE application_name = 'second' AND state = 'streaming' AND sync_state = '{how}'"
        );
        until(&follows, async || self.primary.is(&follows).await).await;
    }

    /// Ends both.
    pub(super) fn end(self) {
        let Self { mut primary, mut standby, folder } = self;
        primary.kill();
        standby.kill();
        drop(folder);
    }
}

impl Postgres {
    async fn start(root: &Path, data: &Path, name: &str) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut command = command(root, "postgres");
        command.arg("-D").arg(data).args(["-c", &format!("port={port}"), "-c", &format!("cluster_name={name}")]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let said = std::fs::File::create(root.parent().unwrap().join(format!("{name}.log"))).unwrap();
        let process = command.stdout(said.try_clone().unwrap()).stderr(said).process_group(0).spawn().unwrap();
        let server = Self { port, process };
        until("PostgreSQL", async || PgPool::connect(&server.url("postgres")).await.is_ok()).await;
        server
    }

    pub(super) fn url(&self, database: &str) -> String {
        format!("postgres://callfleet@{}/{database}", self.address())
    }

    /// Host and port.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Makes the standby a primary.
    pub(super) async fn promote(&self) {
        self.execute("postgres", "SELECT pg_promote()").await;
    }

    /// Ends it as a power cut does.
    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(super) async fn execute(&self, database: &str, statement: &str) {
        let pool = PgPool::connect(&self.url(database)).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&pool).await.unwrap();
        pool.close().await;
    }

    async fn is(&self, statement: &str) -> bool {
        let pool = PgPool::connect(&self.url("postgres")).await.unwrap();
        let is = sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(&pool).await.unwrap();
        pool.close().await;
        is
    }
}

/// PostgreSQL refuses to run as root.
fn unprivileged() -> Option<User> {
    let found = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).unwrap());
    Uid::effective().is_root().then(|| found.expect("a user to run PostgreSQL as"))
}

fn command(root: &Path, program: &str) -> Command {
    let mut command = Command::new(bin().join(program));
    if let Some(user) = unprivileged() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.current_dir(root).env_remove("PGDATA").env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn run(root: &Path, program: &str, arguments: &[&str]) {
    let output = command(root, program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where PostgreSQL's programs are: as named, else the newest of Debian's.
fn bin() -> PathBuf {
    if let Some(bin) = std::env::var_os("CALLFLEET_PG_BIN") {
        return bin.into();
    }
    let on_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let installed = installed.map(|version| version.path().join("bin"));
    let is_whole = |bin: &PathBuf| ["initdb", "postgres", "pg_basebackup"].iter().all(|name| bin.join(name).is_file());
    let mut found: Vec<PathBuf> = on_path.chain(installed).filter(is_whole).collect();
    found.sort();
    found.pop().expect("PostgreSQL's programs")
}
