//! The private servers for real.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::timeout;

use super::data_dir::DataDir;
use super::nats::PrivateNats;
use super::postgres::PrivatePostgres;
use super::programs::Programs;
use super::servers::{Durability, Servers};

/// Far above what any of this takes.
const DEADLINE: Duration = Duration::from_mins(1);

fn programs() -> Programs {
    let named = |name: &str| env::var_os(name).map(Into::into);
    Programs { postgres_bin: named("CALLFLEET_PG_BIN"), nats_server: named("CALLFLEET_NATS_SERVER") }
}

fn data_dir(parent: &Path) -> DataDir {
    DataDir::open(&parent.join("data")).unwrap()
}

#[tokio::test]
async fn both_servers_keep_their_addresses_through_stop_crash_and_restart() {
    let parent = tempfile::tempdir().unwrap();
    let data = data_dir(parent.path());
    let mut servers = Servers::start(&data, &programs(), Durability::None).await.unwrap();
    let urls = (servers.postgres.url().to_owned(), servers.nats.url().to_owned());
    let died = servers.died();
    servers.postgres.kill().await.unwrap();
    servers.nats.kill().await.unwrap();
    let said = timeout(DEADLINE, died).await.unwrap().to_string();
    assert!(said.contains("ended unasked"), "{said}");
    servers.postgres.restart().await.unwrap();
    servers.nats.restart().await.unwrap();
    servers.postgres.restart().await.unwrap();
    servers.stop().await.unwrap();
    drop(servers);
    let mut servers = Servers::start(&data, &programs(), Durability::Full).await.unwrap();
    assert_eq!(urls, (servers.postgres.url().to_owned(), servers.nats.url().to_owned()));
    servers.stop().await.unwrap();
    super::postgres::remove_data(&data).await.unwrap();
}

#[tokio::test]
async fn a_nats_server_that_a_killed_run_left_is_ended_first() {
    let parent = tempfile::tempdir().unwrap();
    let data = data_dir(parent.path());
    let mut nats = PrivateNats::start(&data, &programs(), Durability::None).await.unwrap();
    let url = nats.url().to_owned();
    nats.stop().await.unwrap();
    let mut orphan = Command::new(programs().nats().await.unwrap())
        .arg("-c")
        .arg(data.path().join("nats/nats.conf"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    timeout(DEADLINE, super::nats::ready(port)).await.unwrap();
    let mut nats = PrivateNats::start(&data, &programs(), Durability::None).await.unwrap();
    orphan.wait().unwrap();
    assert_eq!(nats.url(), url);
    nats.stop().await.unwrap();
}

#[tokio::test]
async fn a_database_whose_making_was_cut_short_or_whose_password_is_lost_starts() {
    let parent = tempfile::tempdir().unwrap();
    let data = data_dir(parent.path());
    let unfinished = data.path().join("postgres/unfinished-1");
    std::fs::create_dir_all(unfinished.join("base")).unwrap();
    let mut postgres = PrivatePostgres::start(&data, &programs(), Durability::None).await.unwrap();
    assert!(!unfinished.exists());
    let url = postgres.url().to_owned();
    postgres.stop().await.unwrap();
    std::fs::remove_file(data.path().join("postgres.access")).unwrap();
    let mut postgres = PrivatePostgres::start(&data, &programs(), Durability::None).await.unwrap();
    assert_ne!(postgres.url(), url);
    postgres.stop().await.unwrap();
    super::postgres::remove_data(&data).await.unwrap();
}
