//! The operator's commands, as an operator runs them.

use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

use super::stages::one_of_each;
use crate::ingest::client::packet;
use crate::world::{World, setting};

/// An operator in the folder of a `callfleet up`.
struct Operator {
    folder: tempfile::TempDir,
    prefix: String,
}

impl Operator {
    fn of(world: &World) -> Self {
        let operator = Self { folder: tempfile::tempdir().unwrap(), prefix: world.name.clone() };
        operator.writes_env(&address(&world.name), &setting("NATS_URL"));
        operator
    }

    fn writes_env(&self, database_url: &str, nats_url: &str) {
        let folder = self.folder.path().join(".callfleet");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("env"), format!("DATABASE_URL={database_url}\nNATS_URL={nats_url}\n")).unwrap();
    }

    async fn runs(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callfleet"));
        command.args(arguments).current_dir(self.folder.path()).env("CALLFLEET_NATS_PREFIX", &self.prefix);
        for variable in ["DATABASE_URL", "NATS_URL", "CALLFLEET_LOG", "CALLFLEET_DATA_DIR"] {
            command.env_remove(variable);
        }
        command.output().await.unwrap()
    }

    /// What the command prints, and that it ends with 0 and says nothing else.
    async fn sees(&self, arguments: &[&str]) -> String {
        let output = self.runs(arguments).await;
        let (out, err) = texts(&output);
        assert!(output.status.success() && err.is_empty(), "{arguments:?}: {out}{err}");
        out
    }

    async fn sees_json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.sees(arguments).await).unwrap()
    }

    /// The one line of a command that ends with 1.
    async fn is_told(&self, arguments: &[&str]) -> String {
        let output = self.runs(arguments).await;
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {out}{err}");
        assert!(err.starts_with("error: ") && err.lines().count() == 1, "{arguments:?}: {err}");
        err
    }
}

/// Where a database of that name is.
fn address(database: &str) -> String {
    let admin_url = setting("DATABASE_URL");
    let (server, _) = admin_url.rsplit_once('/').unwrap();
    format!("{server}/{database}")
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn every_command_finds_the_fleet_of_its_folder() {
    let mut world = World::new().await;
    let doors = world.ingest();
    one_of_each(&world, &doors).await;
    let operator = Operator::of(&world);

    let status = operator.sees(&["status"]).await;
    for part in ["in progress", "the next is due in", "0 messages wait", "CALL_WORK", "live", "permanent"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    let json = operator.sees_json(&["status", "--json"]).await;
    assert_eq!((&json["calls"]["total"], &json["dead_letters"]["count"]), (&6.into(), &1.into()));
    assert_eq!(json["next_retry"]["call_id"], "retrying");
    assert!(json["jetstream"]["streams"].is_array() && json["jetstream_error"].is_null());

    let call = operator.sees(&["call", "archived"]).await;
    for part in ["PROCESSING_AI → ARCHIVED", "done after", "sent 1–3", "TRANSCRIPT\nHello, I would like"] {
        assert!(call.contains(part), "{part}: {call}");
    }
    assert!(operator.sees(&["call", "retrying"]).await.contains("its retry, due at"));
    let json = operator.sees_json(&["call", "running", "--json"]).await;
    assert_eq!((&json["call"]["state"], &json["call"]["transcript"]), (&"PROCESSING_AI".into(), &Value::Null));
    assert!(json["timeline"]["waiting_for"].as_str().unwrap().contains("by w1, leased until"));

    assert!(operator.sees(&["dlq", "list"]).await.contains("dead"));
    assert_eq!(operator.sees(&["dlq", "list", "--class", "transient"]).await, "no dead letters\n");
    assert_eq!(operator.sees(&["dlq", "list", "--call", "archived"]).await, "no dead letters\n");
    let listed = operator.sees_json(&["dlq", "list", "--call", "dead", "--limit", "1", "--json"]).await;
    assert_eq!(listed["dead_letters"][0]["class"], "permanent");
    let shown = operator.sees(&["dlq", "show", "dead"]).await;
    assert!(shown.contains("attempt 1.1") && shown.contains("3 stored, up to 3") && shown.contains("HTTP 422"));
    let shown = operator.sees_json(&["dlq", "show", "dead", "--json"]).await;
    assert_eq!((&shown["dead_letter"]["generation"], &shown["attempts"][0]["http_status"]), (&1.into(), &422.into()));

    assert!(operator.sees(&["audit", "--grace", "1ms"]).await.ends_with("✓ balanced\n"));
    assert_eq!(operator.sees_json(&["audit", "--json"]).await["balanced"], true);
    assert_eq!(operator.sees_json(&["migrate", "--json"]).await["applied"], serde_json::json!([]));
    drop(doors);
    world.abandon().await;
}

#[tokio::test]
async fn what_is_wrong_is_one_line_and_an_exit_code() {
    let mut world = World::new().await;
    let doors = world.ingest();
    packet(&doors, "--help", 1, "words").await;
    packet(&doors, "\u{9b}31m\u{202e}evil", 1, "words").await;
    world.until("SELECT count(*) FROM outbox", 0).await;
    let operator = Operator::of(&world);

    assert!(operator.is_told(&["call", "nobody"]).await.contains("no packet of call `nobody`"));
    assert!(operator.is_told(&["dlq", "show", "--", "--help"]).await.contains("is not dead: it is IN_PROGRESS"));
    assert!(operator.sees(&["call", "--", "--help"]).await.starts_with("--help\n"));
    let evil = operator.sees(&["call", "\u{9b}31m\u{202e}evil"]).await;
    assert!(evil.starts_with("\\u{9b}31m\\u{202e}evil\n") && !evil.contains('\u{9b}'), "{evil}");
    for wrong in [&["call"][..], &["call", "a\nb"], &["dlq", "list", "--class", "x"], &["audit", "--wait", "5"], &["x"]]
    {
        assert_eq!(operator.runs(wrong).await.status.code(), Some(2), "{wrong:?}");
    }

    world.execute("UPDATE calls SET reconcile_at = NULL WHERE call_id = '--help'").await.unwrap();
    let output = operator.runs(&["audit"]).await;
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), err.as_str()), (Some(1), "error: the audit does not balance\n"));
    assert!(out.contains("    --help: IN_PROGRESS NONE, and not on the reconciler's agenda"), "{out}");
    assert!(operator.is_told(&["audit", "--ledger", "/none"]).await.contains("cannot read the ledger /none"));

    operator.writes_env(&address(&world.name), "nats://127.0.0.1:1");
    assert!(operator.sees(&["status"]).await.contains("JETSTREAM  not seen: nothing answers at nats://127.0.0.1:1"));
    assert!(operator.is_told(&["audit"]).await.contains("--without-nats"));
    operator.writes_env("postgres://nobody:secret@127.0.0.1:1/x", "nats://127.0.0.1:1");
    let told = operator.is_told(&["status", "--database-timeout", "200ms"]).await;
    assert!(told.contains("127.0.0.1:1/x") && !told.contains("secret"), "{told}");
    let other_folder = operator.is_told(&["status", "--data-dir", "elsewhere"]).await;
    assert!(other_folder.contains("start `callfleet up`"), "{other_folder}");
    drop(doors);
    world.finish().await;
}

#[tokio::test]
async fn a_new_database_is_migrated_before_anything_else() {
    let world = World::new().await;
    let operator = Operator::of(&world);
    let name = format!("{}_new", world.name);
    world.execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    operator.writes_env(&address(&name), &setting("NATS_URL"));
    assert!(operator.is_told(&["status"]).await.contains("run `callfleet migrate`"));
    assert!(operator.sees(&["migrate"]).await.starts_with("the schema is up to date: applied 1, 2"));
    assert!(operator.sees(&["migrate"]).await.contains("nothing to apply"));
    assert!(operator.sees(&["status"]).await.contains("0 messages wait"));
    world.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn help_teaches_and_shells_complete() {
    let folder = tempfile::tempdir().unwrap();
    let operator = Operator { folder, prefix: String::new() };
    let help = operator.sees(&["--help"]).await;
    for command in ["up", "simulate", "status", "watch", "call", "dlq", "audit", "migrate", "topology"] {
        assert!(help.contains(&format!("\n  callfleet {command}")), "{command} has no example in {help}");
    }
    for command in [&["status"][..], &["call"], &["dlq", "list"], &["dlq", "show"], &["audit"], &["migrate"]] {
        let shown = operator.sees(&[command, &["--help"]].concat()).await;
        let example = format!("callfleet {}", command.join(" "));
        assert!(shown.contains("Example") && shown.matches(&example).count() >= 2, "{shown}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(operator.sees(&["completions", shell]).await.contains("without-nats"), "{shell}");
    }
}
