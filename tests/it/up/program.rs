//! One of the five programs, as a process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::processes;
use crate::wait;

const PROGRAMS: &[(&str, &str)] = &[
    ("ingest", env!("CARGO_BIN_EXE_ingest")),
    ("ai-worker", env!("CARGO_BIN_EXE_ai-worker")),
    ("notifier", env!("CARGO_BIN_EXE_notifier")),
    ("mock-ai", env!("CARGO_BIN_EXE_mock-ai")),
    ("callfleet", env!("CARGO_BIN_EXE_callfleet")),
];

/// What of our own surroundings a program gets to see.
const KEPT: &[&str] = &["PATH", "HOME", "TMPDIR", "CALLFLEET_NATS_SERVER", "CALLFLEET_PG_BIN"];

/// Times short enough for a test; no failures but those it makes.
const SETTINGS: &[(&str, &str)] = &[
    ("CALLFLEET_LISTEN", "127.0.0.1:0"),
    ("CALLFLEET_AI_LISTEN", "127.0.0.1:0"),
    ("CALLFLEET_SETTLE", "200ms"),
    ("CALLFLEET_LEASE", "3s"),
    ("CALLFLEET_ACK_WAIT", "3s"),
    ("CALLFLEET_RECONCILE_INTERVAL", "200ms"),
    ("CALLFLEET_FAILURE_RATE", "0"),
    ("CALLFLEET_LATENCY", "5ms"),
];

/// A running program; killed when dropped.
pub(crate) struct Program {
    name: String,
    child: Child,
    said: PathBuf,
}

/// How a program ended.
pub(crate) struct Ended {
    /// Its exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it wrote, to either output.
    pub(crate) said: String,
}

impl Program {
    /// Starts `command` (a program and its arguments) with `settings` over those of every test; what
    /// it says goes to a file in `folder`.
    pub(crate) fn start(command: &str, folder: &Path, settings: &[(&str, &str)]) -> Self {
        let mut words = command.split_whitespace();
        let name = words.next().unwrap();
        let (_, path) = PROGRAMS.iter().find(|(known, _)| *known == name).unwrap();
        let said = folder.join(format!("{name}-{:08x}.log", fastrand::u32(..)));
        let file = File::create_new(&said).unwrap();
        let kept = KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let child = Command::new(path)
            .args(words)
            .current_dir(folder)
            .env_clear()
            .envs(kept)
            .envs(SETTINGS.iter().chain(settings).copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { name: name.to_owned(), child, said }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_else(|| panic!("{} has ended:\n{}", self.name, self.said()))
    }

    /// What it has written so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Waits until it has written `text`.
    pub(crate) async fn says(&mut self, text: &str) {
        wait::until(&format!("{} says `{text}`", self.name), async || {
            self.is_running();
            self.said().contains(text)
        })
        .await;
    }

    /// Where it listens, once it has said so.
    pub(crate) async fn address(&mut self) -> String {
        const BEFORE: &str = " listens on ";
        self.says(BEFORE).await;
        let said = self.said();
        let url = said.split(BEFORE).nth(1).unwrap().split_whitespace().next().unwrap();
        url.split("://").nth(1).unwrap().split('/').next().unwrap().to_owned()
    }

    /// Asserts that it has not ended.
    pub(crate) fn is_running(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{} has ended ({ended:?}):\n{}", self.name, self.said());
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> Ended {
        wait::until(&format!("the end of {}", self.name), async || self.child.try_wait().unwrap().is_some()).await;
        Ended { code: self.child.wait().await.unwrap().code(), said: self.said() }
    }

    /// Ends it as an operator does, which it must heed without an error.
    pub(crate) async fn terminate(self) {
        processes::terminate(i32::try_from(self.pid()).unwrap());
        let name = self.name.clone();
        let ended = self.ended().await;
        assert_eq!(ended.code, Some(0), "{name}:\n{}", ended.said);
    }

    /// Ends it as a crash does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

impl Ended {
    /// The one line that says why it failed.
    pub(crate) fn error(&self) -> &str {
        assert!(self.code.is_some_and(|code| code != 0), "{:?}:\n{}", self.code, self.said);
        let last = self.said.trim_end().lines().next_back().unwrap_or_default();
        last.strip_prefix("error: ").unwrap_or_else(|| panic!("the last line is no error:\n{}", self.said))
    }
}
