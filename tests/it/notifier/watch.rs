//! `callfleet watch` as people and scripts run it.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::stage::Stage;

fn watch(url: &str, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_callfleet"))
        .args(["watch", "--url", url])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_the_present_and_then_a_line_a_change() {
    let stage = Stage::new().await;
    let url = format!("http://{}", stage.address);
    let key = stage.open(["a\u{202e}b"], None).await[0];
    let _following = stage.client("").await;
    let mut child = watch(&url, &["--count", "1", "--state", "IN_PROGRESS,COMPLETED"]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut header = String::new();
    stdout.read_line(&mut header).await.unwrap();
    assert_eq!(header, "-- 1 call: 1 IN_PROGRESS --\n");
    stage.complete(key).await;
    let mut change = String::new();
    stdout.read_to_string(&mut change).await.unwrap();
    assert!(change.contains("a\\u{202e}b") && change.contains("IN_PROGRESS → COMPLETED"), "{change}");
    assert_eq!(change.lines().count(), 1);
    assert!(child.wait().await.unwrap().success());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_json_every_frame_is_a_line_and_for_ends_it() {
    let stage = Stage::new().await;
    stage.open(["a"], None).await;
    let url = format!("http://{}", stage.address);
    let Output { status, stdout, .. } = watch(&url, &["--json", "--for", "1s"]).wait_with_output().await.unwrap();
    assert!(status.success());
    let lines = stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let frames: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert_eq!((&frames[0]["event_type"], &frames[2]["calls"][0]["call_id"]), (&"hello".into(), &"a".into()));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_and_nothing_to_watch_are_one_clear_line() {
    let stage = Stage::new().await;
    let elsewhere = format!("http://{}/elsewhere", stage.address);
    for (url, told) in [
        ("http://127.0.0.1:1", "is Callfleet running"),
        (elsewhere.as_str(), "name the notifier with --url"),
        ("ftp://x", "write http://host:port"),
    ] {
        let Output { status, stderr, .. } = watch(url, &[]).wait_with_output().await.unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(!status.success() && stderr.contains(told) && stderr.lines().count() == 1, "{url}: {stderr}");
    }
    stage.end().await;
}
