//! One call, from its packets to the frames on a supervisor's screen, through five programs.

use serde_json::Value;

use crate::up::fleet::Fleet;
use crate::up::pbx::Pbx;
use crate::up::supervisor::Supervisor;

#[tokio::test]
async fn a_call_is_followed_from_its_first_packet_to_its_transcript() {
    let mut fleet = Fleet::bare().await;
    fleet.start("mock-ai").await;
    let ingest = fleet.start("ingest").await;
    fleet.start("ai-worker").await;
    let notifier = fleet.start("notifier").await;
    let mut supervisor = Supervisor::live_at(&notifier).await;

    let pbx = Pbx::of(&ingest);
    for sequence in [2, 4, 1, 3] {
        assert!(pbx.packet("story", sequence, sequence == 4).await);
    }
    let mut seen = Vec::new();
    let mut version = 0;
    while seen.last().is_none_or(|to| to != "ARCHIVED") {
        let Value::Object(frame) = supervisor.event("call.state_changed").await else { panic!("no object") };
        assert_eq!(frame["call_id"], "story");
        assert_eq!(frame["version"], version + 1, "{frame:?}");
        version += 1;
        seen.push(frame["to"].clone());
    }
    assert_eq!(seen, ["IN_PROGRESS", "COMPLETED", "PROCESSING_AI", "ARCHIVED"]);
    let call = pbx.call("story").await;
    assert_eq!((&call["state"], &call["version"]), (&"ARCHIVED".into(), &version.into()));
    assert!(call["transcript"].is_string(), "{call}");
    fleet.balances(&pbx, 1).await;
    fleet.finish().await;
}
