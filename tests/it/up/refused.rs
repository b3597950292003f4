//! What a role says that cannot start: one line, what to do, and no success.

use std::net::{Ipv4Addr, TcpListener};

use super::folder::Folder;
use super::program::{Ended, Program};
use crate::world::{World, setting};

/// An address where nobody listens.
fn nowhere() -> String {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string()
}

/// Starts a role over these servers and waits for its end.
async fn start(role: &str, database_url: &str, nats_url: &str) -> Ended {
    let folder = Folder::new();
    let settings = [("DATABASE_URL", database_url), ("NATS_URL", nats_url), ("CALLFLEET_DATABASE_TIMEOUT", "1s")];
    Program::start(role, folder.path(), &settings).ended().await
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_named_in_one_line() {
    let address = nowhere();
    let url = format!("postgres://someone:secret@{address}/calls");
    for role in ["ingest", "ai-worker", "notifier"] {
        let ended = start(role, &url, &setting("NATS_URL")).await;
        let error = ended.error();
        assert!(error.contains(&address) && error.contains("DATABASE_URL"), "{role}: {error}");
        assert!(!ended.said.contains("secret"), "{}", ended.said);
        assert_eq!(ended.said.lines().count(), 1, "{}", ended.said);
    }
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_named_by_those_who_need_it() {
    let world = World::new().await;
    let address = nowhere();
    let ended = start("ai-worker", &world.database_url, &format!("nats://someone:secret@{address}")).await;
    let error = ended.error();
    assert!(error.contains(&address) && error.contains("NATS_URL"), "{error}");
    assert!(!ended.said.contains("secret"), "{}", ended.said);
    world.finish().await;
}

#[tokio::test]
async fn a_database_without_a_schema_is_sent_to_callfleet_migrate() {
    let world = World::new().await;
    world.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await.unwrap();
    for role in ["ingest", "ai-worker", "notifier"] {
        let ended = start(role, &world.database_url, &setting("NATS_URL")).await;
        assert!(ended.error().contains("`callfleet migrate`"), "{role}: {}", ended.said);
        assert_eq!(ended.said.lines().count(), 1, "{}", ended.said);
    }
    world.abandon().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_by_every_role() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for role in ["ingest", "ai-worker", "notifier", "mock-ai"] {
        let folder = Folder::new();
        let settings = [("CALLFLEET_LISTEN", address.as_str()), ("DATABASE_URL", "postgres://localhost/calls")];
        let ended = Program::start(role, folder.path(), &settings).ended().await;
        assert!(ended.error().contains(&address), "{role}: {}", ended.said);
        assert_eq!(ended.said.lines().count(), 1, "{}", ended.said);
    }
}
