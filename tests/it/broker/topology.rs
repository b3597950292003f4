use std::time::Duration;

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use callfleet::broker::topology::{self, Action};
use callfleet::broker::{Broker, ConnectError, Options, Settings};
use callfleet::service::health::Health;

use super::scratch::Scratch;

#[tokio::test]
async fn what_is_missing_is_created_once_and_is_then_as_it_should_be() {
    let scratch = Scratch::bare().await;
    let missing = topology::check(&scratch.broker).await.unwrap();
    assert_eq!(missing.len(), 7, "{missing:?}");
    assert!(missing.iter().all(|difference| difference.field == "exists"));
    let created = topology::ensure(&scratch.broker).await.unwrap();
    assert_eq!(created.len(), 7, "{created:?}");
    assert_eq!(topology::ensure(&scratch.broker).await.unwrap(), Vec::<String>::new());
    assert_eq!(topology::check(&scratch.broker).await.unwrap(), []);
    scratch.delete_stream("CALL_WORK").await;
    let created = topology::ensure(&scratch.broker).await.unwrap();
    assert_eq!(created.len(), 3, "the stream and its consumers: {created:?}");
    scratch.end().await;
}

#[tokio::test]
async fn many_processes_may_create_it_at_once() {
    let scratch = Scratch::bare().await;
    let others = futures_util::future::join_all(
        (0..4).map(|_| async { Broker::connect(&scratch.options, "it", &Health::new()).await.unwrap() }),
    )
    .await;
    for made in futures_util::future::join_all(others.iter().map(topology::ensure)).await {
        made.unwrap();
    }
    assert_eq!(topology::check(&scratch.broker).await.unwrap(), []);
    scratch.end().await;
}

#[tokio::test]
async fn roles_leave_a_differing_stream_alone_and_apply_changes_what_can_be_changed() {
    let scratch = Scratch::bare().await;
    let prefix = &scratch.options.settings.nats_prefix;
    let foreign = Config {
        name: prefix.stream("CALL_DLQ"),
        subjects: vec![prefix.subject("call.dlq.>")],
        retention: RetentionPolicy::WorkQueue,
        max_bytes: 1_000_000,
        num_replicas: 1,
        ..Config::default()
    };
    scratch.outside.create_stream(foreign).await.unwrap();
    topology::ensure(&scratch.broker).await.unwrap();
    let fields: Vec<_> =
        topology::check(&scratch.broker).await.unwrap().into_iter().map(|difference| difference.field).collect();
    assert!(fields.contains(&"max_bytes".to_owned()) && fields.contains(&"retention".to_owned()), "{fields:?}");

    let applied = topology::apply(&scratch.broker).await.unwrap();
    let changed = applied.iter().find(|applied| applied.object.ends_with("CALL_DLQ")).unwrap();
    assert_eq!(changed.action, Action::Updated);
    assert!(changed.refused.contains_key("retention"), "{changed:?}");
    assert_eq!(applied.iter().filter(|applied| applied.action == Action::Kept).count(), 6);
    let left = topology::check(&scratch.broker).await.unwrap();
    assert_eq!(left.iter().map(|difference| difference.field.as_str()).collect::<Vec<_>>(), ["retention"]);
    scratch.end().await;
}

#[tokio::test]
async fn another_ack_wait_is_shown_as_people_write_it_and_applied() {
    let scratch = Scratch::ready().await;
    let mut patient = scratch.options.clone();
    patient.settings.ack_wait = Duration::from_secs(90);
    let broker = Broker::connect(&patient, "it", &Health::new()).await.unwrap();
    let differences = topology::check(&broker).await.unwrap();
    assert_eq!(differences.len(), 3, "{differences:?}");
    let first = differences.first().unwrap();
    assert_eq!((first.field.as_str(), first.wanted.as_str(), first.found.as_str()), ("ack_wait", "90s", "1s"));
    topology::apply(&broker).await.unwrap();
    assert_eq!(topology::check(&broker).await.unwrap(), []);
    scratch.end().await;
}

#[tokio::test]
async fn an_address_where_nothing_listens_is_named_without_its_password() {
    let url = "nats://callfleet:hunter2@127.0.0.1:1".parse().unwrap();
    let options = Options { nats_url: url, settings: Settings::default() };
    let error = Broker::connect(&options, "it", &Health::new()).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoAnswer { .. }));
    let text = error.to_string();
    assert!(text.contains("nats://127.0.0.1:1 ") && !text.contains("hunter2"), "{text}");
}
