//! All roles are restarted one after the other, under load.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::up::fleet::Fleet;
use crate::up::program::Program;
use crate::wait::until;

/// Instances of each role.
const INSTANCES: usize = 2;
/// Senders at the same time.
const SENDERS: usize = 8;
const PACKETS: i64 = 3;
/// So long a job in hand may take to be given back; whatever is lost would take ten times as long.
const HAND_BACK: Duration = Duration::from_secs(20);
const LONG: &str = "90s";

/// A program at an address that it keeps.
struct Instance {
    role: &'static str,
    address: String,
    program: Program,
}

impl Instance {
    async fn start(fleet: &mut Fleet, role: &'static str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        fleet.set("CALLFLEET_LISTEN", &address);
        let mut program = fleet.program(role);
        program.address().await;
        Self { role, address, program }
    }

    /// Ended, and started at the same place.
    async fn restart(self, fleet: &mut Fleet) -> Self {
        let Self { role, address, program } = self;
        program.terminate().await;
        fleet.set("CALLFLEET_LISTEN", &address);
        let mut program = fleet.program(role);
        program.address().await;
        Self { role, address, program }
    }
}

/// What senders met beside answers.
#[derive(Debug, Default)]
struct Met {
    /// Nobody listens there: they go to the other one.
    refused: AtomicUsize,
    /// The connection ended under a request.
    reset: AtomicUsize,
}

/// Sends one packet to any ingest that there is, until it is taken. Any answer but a 202 is a failure.
async fn packet(ingests: &[String], http: &reqwest::Client, met: &Met, call: &str, sequence: i64) {
    let mut body = json!({"sequence": sequence, "data": "text", "timestamp": 1_738_411_815.123});
    if sequence == PACKETS {
        body["event"] = "end".into();
        body["final_sequence"] = PACKETS.into();
    }
    let mut ingest = call.len() + usize::try_from(sequence).unwrap();
    until("a packet is taken", async || {
        ingest += 1;
        let url = format!("http://{}/v1/call/stream/{call}", ingests[ingest % ingests.len()]);
        match http.post(url).json(&body).send().await {
            Ok(answer) => {
                assert_eq!(answer.status(), 202, "{:?}", answer.text().await);
                true
            }
            Err(error) => {
                let kind = if error.is_connect() { &met.refused } else { &met.reset };
                kind.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_rolling_restart_of_all_roles_under_load_fails_no_request_and_delays_no_job() {
    let settings = [("CALLFLEET_LEASE", LONG), ("CALLFLEET_ACK_WAIT", LONG)];
    let mut fleet = Fleet::with(&settings).await;
    fleet.start("mock-ai").await;
    let mut instances = Vec::new();
    for role in ["ingest", "ai-worker", "notifier"] {
        for _ in 0..INSTANCES {
            instances.push(Instance::start(&mut fleet, role).await);
        }
    }
    let ingests: Vec<String> = instances[..INSTANCES].iter().map(|ingest| ingest.address.clone()).collect();
    let http =
        reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let (over, calls, met) = (CancellationToken::new(), AtomicUsize::new(0), Met::default());
    let sender = async || {
        while !over.is_cancelled() {
            let call = format!("call-{}", calls.fetch_add(1, Ordering::Relaxed));
            for sequence in 1..=PACKETS {
                packet(&ingests, &http, &met, &call, sequence).await;
            }
        }
    };
    let senders = futures_util::future::join_all((0..SENDERS).map(|_| sender()));
    let rolling = async {
        let some = async || {
            let before = calls.load(Ordering::Relaxed);
            until("calls are sent", async || calls.load(Ordering::Relaxed) >= before + 40).await;
        };
        let mut renewed = Vec::new();
        for instance in instances {
            some().await;
            renewed.push(instance.restart(&mut fleet).await);
        }
        some().await;
        over.cancel();
        renewed
    };
    let (_, instances) = tokio::join!(senders, rolling);
    let calls = calls.into_inner();
    until("all are archived", async || {
        fleet.column("SELECT count(*) FROM calls WHERE state = 'ARCHIVED'").await == [calls]
    })
    .await;
    let waited = "SELECT (extract(epoch FROM max(archived_at - ended_at)) * 1000)::bigint FROM calls";
    let waited = fleet.column(waited).await[0].as_u64().unwrap();
    println!("a rolling restart: {calls} calls, {met:?}, the slowest job took {waited} ms");
    assert_eq!(met.reset.into_inner(), 0, "requests whose connection ended under them");
    assert!(u128::from(waited) < HAND_BACK.as_millis(), "a job took {waited} ms");
    for instance in instances {
        instance.program.terminate().await;
    }
    fleet.finish().await;
}
