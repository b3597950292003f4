//! `callfleet simulate` against servers that keep what they take, and servers that do not.

mod fake;

use std::time::Duration;

use callfleet::ops::simulate::{Options, run};
use clap::Parser;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use fake::{Fake, serve};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

async fn simulate(url: &str, change: impl FnOnce(&mut Options)) -> anyhow::Result<bool> {
    let mut options =
        Options { calls: 20, packets: 12, concurrency: 7, json: true, ..Line::parse_from(["simulate"]).options };
    options.wait = Duration::from_millis(500);
    options.api.url = Some(url.to_owned());
    // The tests' own servers are not this server's.
    options.servers.database_url = None;
    options.servers.data_dir = "/nonexistent".into();
    change(&mut options);
    run(options, CancellationToken::new()).await
}

#[tokio::test]
async fn a_run_against_a_server_that_keeps_everything_balances() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, report) = (folder.path().join("ledger"), folder.path().join("report.html"));
    let (url, _server) = serve(Fake { refuses_every: Some(10), ..Fake::default() }).await;
    let balanced = simulate(&url, |options| {
        options.shuffle = true;
        options.duplicates = 0.3;
        options.drops = 0.2;
        options.ledger = Some(ledger.clone());
        options.report = Some(report.clone());
    });
    assert!(balanced.await.unwrap());
    let ledger = std::fs::read_to_string(ledger).unwrap();
    let scenes = ledger.lines().filter(|line| line.contains("-scene-")).count();
    assert_eq!(scenes, 15 + 2 + 50 + 10);
    assert!(ledger.lines().count() > scenes + 20 * 6);
    assert!(std::fs::read_to_string(report).unwrap().contains("✓ balanced"));
}

#[tokio::test]
async fn batches_balance_too() {
    let (url, _server) = serve(Fake::default()).await;
    let balanced = simulate(&url, |options| {
        options.batch = 16;
        options.shuffle = true;
        options.duplicates = 0.3;
    });
    assert!(balanced.await.unwrap());
}

#[tokio::test]
async fn a_lost_packet_is_found() {
    let (url, _server) = serve(Fake { loses: Some(3), ..Fake::default() }).await;
    assert!(!simulate(&url, |options| options.skip_scenarios = true).await.unwrap());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_one_clear_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = simulate(&url, |_| ()).await.unwrap_err();
    assert_eq!(format!("{error:#}"), format!("nothing answers at {url}: start it with scripts/up or callfleet up"));
}
