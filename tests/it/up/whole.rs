//! `callfleet up`: everything in one process.

use std::collections::{BTreeMap, BTreeSet};

use super::folder::Folder;
use super::pbx::Pbx;
use super::processes;
use super::program::Program;
use super::supervisor::Supervisor;
use crate::wait;

/// Calls that supervisors come for.
const CALLS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Starts it on `folder` and waits until it says that it is ready.
async fn up(folder: &Folder) -> (Program, BTreeMap<String, String>) {
    let mut up = start(folder, &[]);
    up.says("Callfleet is ready").await;
    let env = folder.env().expect("`env` is there when it says that it is ready");
    for name in ["DATABASE_URL", "NATS_URL", "CALLFLEET_URL", "AI_URL"] {
        assert!(env.get(name).is_some_and(|value| value.contains("://")), "{name} in {env:?}");
    }
    (up, env)
}

fn start(folder: &Folder, settings: &[(&str, &str)]) -> Program {
    let data = folder.data();
    let settings = [&[("CALLFLEET_DATA_DIR", data.to_str().unwrap())], settings].concat();
    Program::start("callfleet up", folder.path(), &settings)
}

/// The servers that `up` started, and what they started.
fn servers(up: &Program, folder: &Folder) -> BTreeSet<i32> {
    let below = processes::below(up.pid());
    // Their own processes, beside which PostgreSQL has many more.
    assert_eq!(folder.processes().iter().filter(|pid| below.contains(pid)).count(), 2);
    below
}

async fn is_archived(pbx: &Pbx, call: &str) {
    wait::until("the call is archived", async || pbx.call(call).await["state"] == "ARCHIVED").await;
}

#[tokio::test]
async fn everything_starts_from_an_empty_folder_ends_without_a_trace_and_keeps_its_calls() {
    let folder = Folder::new();
    let (first, env) = up(&folder).await;
    let url = &env["CALLFLEET_URL"];
    let pbx = Pbx::of(url);
    let mut supervisors = Vec::new();
    for call in CALLS {
        let mut supervisor = Supervisor::at(url).await;
        assert_eq!(supervisor.frame().await["event_type"], "hello");
        // While the present is read for this supervisor: the call is in it or comes after it.
        pbx.whole_call(call, 3).await;
        supervisors.push(supervisor);
    }
    for (mut supervisor, call) in supervisors.into_iter().zip(CALLS) {
        supervisor.sees_archived(call).await;
        is_archived(&pbx, call).await;
        assert!(pbx.call(call).await["transcript"].is_string());
    }
    for (path, holds) in [("/docs/", "swagger"), ("/openapi.json", "/v1/call/stream/{call_id}"), ("/readyz", "true")] {
        let (status, text) = pbx.get(path).await;
        assert!(status == 200 && text.contains(holds), "{path}: {status} {text}");
    }
    let servers = servers(&first, &folder);
    first.terminate().await;
    assert_eq!(processes::alive(&servers), processes::NONE);
    assert_eq!(folder.processes(), processes::NONE);

    let (second, again) = up(&folder).await;
    assert_eq!(again["DATABASE_URL"], env["DATABASE_URL"]);
    let pbx = Pbx::of(&again["CALLFLEET_URL"]);
    for call in CALLS {
        assert_eq!(pbx.call(call).await["state"], "ARCHIVED");
    }
    second.terminate().await;
    assert_eq!(folder.processes(), processes::NONE);
}

#[tokio::test]
async fn a_killed_run_is_cleaned_up_after_by_the_next_which_has_its_calls() {
    let folder = Folder::new();
    let (first, env) = up(&folder).await;
    let pbx = Pbx::of(&env["CALLFLEET_URL"]);
    pbx.whole_call("a", 3).await;
    is_archived(&pbx, "a").await;

    let second = start(&folder, &[]).ended().await;
    let (error, data) = (second.error(), folder.data());
    assert!(error.contains("another instance") && error.contains(data.to_str().unwrap()), "{error}");

    // One more that nobody has answered for yet, except with a 202.
    pbx.whole_call("b", 2).await;
    let orphans = servers(&first, &folder);
    first.kill().await;
    assert_ne!(processes::alive(&orphans), processes::NONE);

    let (third, env) = up(&folder).await;
    assert_eq!(processes::alive(&orphans), processes::NONE);
    let pbx = Pbx::of(&env["CALLFLEET_URL"]);
    assert_eq!(pbx.call("a").await["state"], "ARCHIVED");
    is_archived(&pbx, "b").await;
    third.terminate().await;
    assert_eq!(folder.processes(), processes::NONE);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_before_anything_is_started() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in ["CALLFLEET_LISTEN", "CALLFLEET_AI_LISTEN"] {
        let folder = Folder::new();
        let ended = start(&folder, &[(setting, &address)]).ended().await;
        assert!(ended.error().contains(&address), "{}", ended.said);
        assert_eq!((ended.said.lines().count(), folder.data().exists()), (1, false), "{}", ended.said);
    }
}
