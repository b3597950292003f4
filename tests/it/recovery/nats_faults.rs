//! What may happen to JetStream under a fleet at work.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::up::fleet::Fleet;
use crate::up::processes;
use crate::up::supervisor::Supervisor;
use crate::up::work::Work;
use crate::wait::until;

const STREAMS: [&str; 3] = ["CALL_WORK", "CALL_STATE", "CALL_DLQ"];

/// A plain client of the server at `url`.
pub(super) async fn client(url: &str) -> async_nats::Client {
    let (credentials, address) = url.trim_start_matches("nats://").rsplit_once('@').unwrap();
    let (user, password) = credentials.split_once(':').unwrap();
    let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
    options.connect(address).await.unwrap()
}

/// Asks JetStream, which must not refuse.
async fn ask(url: &str, request: &str, body: Value) -> Value {
    let answer = client(url).await.request(format!("$JS.API.{request}"), body.to_string().into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer.get("error"), None, "{request}");
    answer
}

#[tokio::test]
async fn streams_and_consumers_that_are_deleted_under_way_cost_nothing() {
    let mut work = Work::new().await;
    for lane in ["live", "replay"] {
        work.goes_on_through(&format!("the consumer {lane} is deleted"), async |fleet, _| {
            ask(fleet.servers.nats.url(), &format!("CONSUMER.DELETE.CALL_WORK.{lane}"), json!({})).await;
        })
        .await;
    }
    for stream in STREAMS {
        work.goes_on_through(&format!("the stream {stream} is deleted"), async |fleet, _| {
            ask(fleet.servers.nats.url(), &format!("STREAM.DELETE.{stream}"), json!({})).await;
        })
        .await;
    }
    work.ends_in_balance().await;
}

#[tokio::test]
async fn a_server_that_loses_all_it_had_costs_nothing() {
    let mut work = Work::new().await;
    let store = work.fleet.data().join("nats/store");
    work.goes_on_through("the store is wiped while the server is away", async |fleet, _| {
        fleet.servers.nats.kill().await.unwrap();
        std::fs::remove_dir_all(&store).unwrap();
        fleet.servers.nats.restart().await.unwrap();
    })
    .await;
    work.goes_on_through("the store is wiped under the server, which is started anew", async |fleet, _| {
        std::fs::remove_dir_all(&store).unwrap();
        fleet.servers.nats.restart().await.unwrap();
    })
    .await;
    work.ends_in_balance().await;
}

#[tokio::test]
async fn a_full_stream_is_alarmed_of_and_works_again_when_it_has_room() {
    let mut work = Work::new().await;
    let worker = work.worker.address().to_owned();
    work.goes_on_through("a full stream has room again", async |fleet, _| {
        let url = fleet.servers.nats.url().to_owned();
        let info = ask(&url, "STREAM.INFO.CALL_WORK", json!({})).await;
        let mut config = info["config"].clone();
        let room = std::mem::replace(&mut config["max_bytes"], 1.into());
        ask(&url, "STREAM.UPDATE.CALL_WORK", config.clone()).await;
        let worker = crate::up::pbx::Pbx::of(&worker);
        until("red", async || {
            let (status, said) = worker.get("/readyz").await;
            status == 503 && said.contains("outbox")
        })
        .await;
        config["max_bytes"] = room;
        ask(&url, "STREAM.UPDATE.CALL_WORK", config).await;
    })
    .await;
    until("green", async || work.worker.get("/readyz").await.0 == 200).await;
    work.ends_in_balance().await;
}

#[tokio::test]
async fn a_server_that_stands_still_for_a_while_costs_nothing() {
    let mut work = Work::new().await;
    work.goes_on_through("NATS stands still and goes on", async |fleet, pbx| {
        let conf = fleet.data().join("nats/nats.conf");
        let pid = u32::try_from(processes::naming(conf.to_str().unwrap())[0]).unwrap();
        processes::pause(pid);
        // Longer than a pull takes to be given up.
        let (before, began) = (pbx.count(), std::time::Instant::now());
        until("some time has passed", async || pbx.count() > before && began.elapsed().as_secs() >= 4).await;
        processes::resume(pid);
    })
    .await;
    work.ends_in_balance().await;
}

#[tokio::test]
async fn both_servers_that_die_and_come_back_cost_nothing() {
    let mut work = Work::new().await;
    work.goes_on_through("both die and come back", async |fleet, pbx| {
        let before = pbx.refused();
        let servers = &mut fleet.servers;
        let (nats, postgres) = tokio::join!(servers.nats.kill(), servers.postgres.kill());
        nats.and(postgres).unwrap();
        until("packets are refused", async || pbx.refused() > before).await;
        let (nats, postgres) = tokio::join!(servers.nats.restart(), servers.postgres.restart());
        nats.and(postgres).unwrap();
    })
    .await;
    work.ends_in_balance().await;
}

#[tokio::test]
async fn programs_whose_servers_vanish_right_after_their_start_work_when_they_are_back() {
    let mut fleet = Fleet::bare().await;
    fleet.start("mock-ai").await;
    let ingest = fleet.start("ingest").await;
    let worker = fleet.start("ai-worker").await;
    let notifier = fleet.start("notifier").await;
    let servers = &mut fleet.servers;
    let (nats, postgres) = tokio::join!(servers.nats.kill(), servers.postgres.kill());
    nats.and(postgres).unwrap();
    let worker = crate::up::pbx::Pbx::of(&worker);
    until("red", async || worker.get("/readyz").await.0 == 503).await;
    let (nats, postgres) = tokio::join!(fleet.servers.nats.restart(), fleet.servers.postgres.restart());
    nats.and(postgres).unwrap();
    let began = std::time::Instant::now();
    let pbx = crate::up::pbx::Pbx::of(&ingest);
    pbx.whole_call("a", 3).await;
    let taken = began.elapsed();
    until("the call is archived", async || pbx.state("a").await == "ARCHIVED").await;
    let archived = began.elapsed();
    let mut supervisor = Supervisor::live_at(&notifier).await;
    pbx.whole_call("b", 3).await;
    supervisor.sees_archived("b").await;
    let seen = began.elapsed();
    println!(
        "servers vanish at the start: taken after {taken:.1?}, archived after {archived:.1?}, seen after {seen:.1?}"
    );
    assert!(seen.as_secs() < 20, "{seen:?}");
    until("green", async || worker.get("/readyz").await.0 == 200).await;
    drop(supervisor);
    fleet.balances(&pbx, 2).await;
    fleet.finish().await;
}

#[tokio::test]
async fn a_cluster_that_loses_its_leader_costs_nothing() {
    let mut cluster = Cluster::start().await;
    let fleet = Fleet::with(&[("NATS_URL", &cluster.url()), ("CALLFLEET_NATS_REPLICAS", "3")]).await;
    // The servers elect in their own time, of which they show the half.
    let mut work = Work::over(fleet).await.within(Duration::from_secs(25));
    work.goes_on_through("the leaders step down", async |_, _| {
        for request in ["STREAM.LEADER.STEPDOWN.CALL_WORK", "CONSUMER.LEADER.STEPDOWN.CALL_WORK.live"] {
            cluster.ask(request).await;
        }
        cluster.until_it_is_led("CONSUMER.INFO.CALL_WORK.live").await;
    })
    .await;
    for stream in ["CALL_WORK", "CALL_STATE"] {
        work.goes_on_through(&format!("the leader of {stream} dies"), async |_, _| {
            let leader = cluster.leader(&format!("STREAM.INFO.{stream}")).await;
            cluster.kill(&leader);
            // From here on the cluster is whole enough; who leads is found out by an election.
            for led in ["STREAM.INFO.CALL_WORK", "CONSUMER.INFO.CALL_WORK.live", "STREAM.INFO.CALL_STATE"] {
                cluster.until_it_is_led(led).await;
            }
        })
        .await;
        cluster.revive().await;
    }
    work.ends_in_balance().await;
    cluster.end();
}
