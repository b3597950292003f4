//! Workers that are asked to stop, and workers that slept through the end of their lease.

use std::time::{Duration, Instant};

use callfleet::broker::{Broker, Settings, survey};
use callfleet::service::health::Health;
use serde_json::{Value, json};

use super::oracle::{Oracle, Question};
use crate::up::fleet::Fleet;
use crate::up::pbx::Pbx;
use crate::up::processes;
use crate::up::program::Program;
use crate::wait::until;

/// Long enough that no job which is lost to it comes back within a test.
const LONG: &str = "60s";
/// How long a worker lets its running jobs finish.
const FINISH: Duration = Duration::from_secs(8);

struct Scene {
    fleet: Fleet,
    oracle: Oracle,
    pbx: Pbx,
}

impl Scene {
    async fn new(lease: &str, settings: &[(&'static str, &str)]) -> Self {
        let oracle = Oracle::start().await;
        let own = [("AI_URL", oracle.url.as_str()), ("CALLFLEET_LEASE", lease), ("CALLFLEET_ACK_WAIT", lease)];
        let mut fleet = Fleet::with(&[&own[..], settings].concat()).await;
        let pbx = Pbx::of(&fleet.start("ingest").await);
        Self { fleet, oracle, pbx }
    }

    async fn worker(&self) -> Program {
        let mut worker = self.fleet.program("ai-worker");
        worker.address().await;
        worker
    }

    async fn calls(&self, count: usize) {
        for call in 0..count {
            self.pbx.whole_call(&format!("call-{call}"), 2).await;
        }
        let completed = "SELECT count(*) FROM calls WHERE completed_at IS NOT NULL";
        until(completed, async || self.fleet.column(completed).await == [count]).await;
        until("announced", async || self.fleet.column("SELECT count(*) FROM outbox").await == [0]).await;
    }

    async fn questions(&self, count: usize) -> Vec<Question> {
        let mut questions = Vec::new();
        for _ in 0..count {
            questions.push(self.oracle.question().await);
        }
        questions
    }

    /// Everything that a worker could have changed.
    async fn everything(&self) -> Vec<Vec<Value>> {
        let mut all = Vec::new();
        for table in ["calls", "transitions", "attempts", "results", "dead_letters", "outbox"] {
            let rows = format!("SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t::text), '[]') FROM {table} t");
            all.push(self.fleet.column(&rows).await);
        }
        let url = self.fleet.setting("NATS_URL").parse().unwrap();
        let options = callfleet::broker::Options { nats_url: url, settings: Settings::default() };
        let broker = Broker::connect(&options, "test", &Health::new()).await.unwrap();
        let survey = survey::take(&broker).await.unwrap();
        all.push(survey.streams.iter().map(|stream| json!([stream.name, stream.messages, stream.last_seq])).collect());
        all
    }

    async fn end(mut self, calls: usize) {
        self.fleet.balances(&self.pbx, calls).await;
        self.fleet.finish().await;
    }
}

/// The attempts of a call: class and whether it was charged.
const ATTEMPTS: &str = "SELECT jsonb_build_array(a.class, a.charged) FROM attempts a ORDER BY a.attempt";

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_gives_all_back_that_it_does_not_finish() {
    let scene = Scene::new(LONG, &[("CALLFLEET_WORKER_CONCURRENCY", "4")]).await;
    let first = scene.worker().await;
    scene.calls(10).await;
    let mut questions = scene.questions(4).await;
    assert!(scene.oracle.is_idle().await, "no more than there is room for");

    // Another is there before the first is asked to go.
    let second = scene.worker().await;
    let mut taken = scene.questions(4).await;
    let began = Instant::now();
    processes::terminate(i32::try_from(first.pid()).unwrap());
    questions.remove(0).transcribe("finished after the signal");
    for question in taken.drain(..) {
        question.transcribe("text");
    }
    // Those that were never begun, at once.
    for question in scene.questions(2).await {
        assert_eq!(question.attempt, 1);
        question.transcribe("text");
    }
    let unbegun = began.elapsed();
    assert!(unbegun < Duration::from_secs(7), "{unbegun:?}");
    // Those that never end, after the time that jobs get.
    let again = scene.questions(3).await;
    let handed_back = began.elapsed();
    assert!(handed_back < FINISH + Duration::from_secs(8), "{handed_back:?}");
    println!("a worker stops: what was not begun goes on after {unbegun:.1?}, what hangs after {handed_back:.1?}");
    let ended = first.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    for question in again {
        assert_eq!(question.attempt, 2);
        question.transcribe("text");
    }
    drop(questions);
    let charged = "SELECT count(*) FROM calls WHERE attempts_charged <> 1";
    until("archived", async || scene.fleet.column("SELECT count(*) FROM calls WHERE state = 'ARCHIVED'").await == [10])
        .await;
    assert_eq!(scene.fleet.column(charged).await, [0]);
    second.terminate().await;
    scene.end(10).await;
}

#[tokio::test]
async fn a_second_signal_ends_a_worker_at_once_and_not_as_if_all_were_well() {
    let scene = Scene::new("1s", &[]).await;
    let mut worker = scene.worker().await;
    scene.calls(1).await;
    let hangs = scene.oracle.question().await;
    let pid = i32::try_from(worker.pid()).unwrap();
    processes::terminate(pid);
    worker.says("stopping").await;
    let began = Instant::now();
    processes::terminate(pid);
    let ended = worker.ended().await;
    assert!(ended.error().contains("second signal"), "{}", ended.said);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(hangs);
    // As after a crash, another takes over.
    let other = scene.worker().await;
    let question = scene.oracle.question().await;
    assert_eq!(question.attempt, 2);
    question.transcribe("text");
    until("archived", async || scene.pbx.state("call-0").await == "ARCHIVED").await;
    other.terminate().await;
    scene.end(1).await;
}

/// A worker sleeps through the end of its lease while another does its work, and wakes to `answer`.
async fn a_zombie_changes_nothing(answer: impl FnOnce(Question)) {
    let scene = Scene::new("1s", &[("CALLFLEET_LOG", "info,callfleet::ai=debug")]).await;
    let mut zombie = scene.worker().await;
    scene.calls(1).await;
    let for_the_zombie = scene.oracle.question().await;
    processes::pause(zombie.pid());
    let other = scene.worker().await;
    let question = scene.oracle.question().await;
    assert_eq!((for_the_zombie.attempt, question.attempt), (1, 2));
    question.transcribe("the other's");
    until("archived", async || scene.pbx.state("call-0").await == "ARCHIVED").await;
    until("announced", async || scene.fleet.column("SELECT count(*) FROM outbox").await == [0]).await;
    let before = scene.everything().await;

    answer(for_the_zombie);
    processes::resume(zombie.pid());
    until("the zombie has seen it", async || {
        zombie.is_running();
        let said = zombie.said();
        said.contains("came too late") || said.contains("message left alone")
    })
    .await;
    // Its end is in order, and says all that it had to say.
    zombie.terminate().await;
    assert_eq!(scene.everything().await, before);
    assert_eq!(scene.fleet.column(ATTEMPTS).await, [json!(["crash", true]), json!(["done", true])]);
    other.terminate().await;
    scene.end(1).await;
}

#[tokio::test]
async fn a_worker_that_wakes_after_its_lease_with_a_transcript_changes_nothing() {
    a_zombie_changes_nothing(|question| question.transcribe("late")).await;
}

#[tokio::test]
async fn a_worker_that_wakes_after_its_lease_with_a_dead_letter_changes_nothing() {
    a_zombie_changes_nothing(Question::refuse).await;
}
