//! A PBX on a socket, which keeps its own list of what it was promised.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::wait;

/// A packet of a call: its id and sequence.
type Packet = (String, i64);

/// The sender. It sends again what was not taken.
pub(crate) struct Pbx {
    url: String,
    http: reqwest::Client,
    taken: Mutex<BTreeSet<Packet>>,
    refused: AtomicUsize,
}

impl Pbx {
    /// Sends to the ingest at `address` (host and port).
    pub(crate) fn of(address: &str) -> Self {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(Duration::from_secs(10));
        let address = address.trim_start_matches("http://");
        Self {
            url: format!("http://{address}"),
            http: http.build().unwrap(),
            taken: Mutex::default(),
            refused: AtomicUsize::new(0),
        }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Tells a mock AI service to behave otherwise.
    pub(crate) async fn control(&self, change: Value) {
        let answer = self.http.put(format!("{}/control", self.url)).body(change.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{change}");
    }

    /// Status and text of a path.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// The call as it is.
    pub(crate) async fn call(&self, call: &str) -> Value {
        let (status, text) = self.get(&format!("/v1/call/{call}")).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Its state; empty when there is no answer.
    pub(crate) async fn state(&self, call: &str) -> String {
        let (_, text) = self.get(&format!("/v1/call/{call}")).await;
        let call: Value = serde_json::from_str(&text).unwrap_or_default();
        call["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Sends one packet once; true when it was taken. Anything but a 202 must say `later`.
    pub(crate) async fn packet(&self, call: &str, sequence: i64, is_last: bool) -> bool {
        let mut body =
            json!({"sequence": sequence, "data": format!("{call}:{sequence}"), "timestamp": 1_738_411_815.123});
        if is_last {
            body["event"] = "end".into();
        }
        let request = self.http.post(format!("{}/v1/call/stream/{call}", self.url)).json(&body);
        let response = request.send().await.unwrap();
        let (status, retry) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
        if status == 202 {
            self.taken.lock().unwrap().insert((call.to_owned(), sequence));
            return true;
        }
        assert!(status == 503 && retry, "{status}: {}", response.text().await.unwrap());
        self.refused.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Sends a whole call, each packet until it is taken.
    pub(crate) async fn whole_call(&self, call: &str, packets: i64) {
        for sequence in 1..=packets {
            wait::until("a packet is taken", async || self.packet(call, sequence, sequence == packets).await).await;
        }
    }

    /// How many packets were taken so far.
    pub(crate) fn count(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    /// How often a packet was not taken.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// The packets that were taken.
    pub(crate) fn taken(&self) -> BTreeSet<Packet> {
        self.taken.lock().unwrap().clone()
    }
}
