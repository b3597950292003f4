//! What a client sends: made-up calls, from a seed.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::ledger::Offered;

/// What SIP Call-IDs hold, and what breaks naive software.
const TAILS: &[&str] =
    &["", "@pbx.example", "/a+b%20<x>\"\\?:*[]{}()", "%2F%252F", "é;:🎧", "..", " '; --", "'||pg_sleep(9)||'"];
const WORDS: &[&str] = &[
    "hello", "I", "would", "like", "to", "change", "my", "booking", "für", "morgen", "please", "🙂", "\"now\"", "\\n",
];
const QUEUES: &[&str] = &["sales", "support", "night"];

/// A packet, and what goes with it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) offered: Offered,
    final_sequence: Option<i64>,
    queue: Option<&'static str>,
}

/// The next call of a client, its packets in the order of sending.
pub(crate) fn call(dice: &mut fastrand::Rng, name: &str) -> Vec<Packet> {
    let call_id = format!("{name}{}", TAILS.get(dice.usize(..TAILS.len())).unwrap_or(&""));
    let count = dice.i64(1..=6);
    let mut packets: Vec<Packet> =
        (1..=count).map(|sequence| packet(&call_id, sequence, &words(dice), sequence == count)).collect();
    if dice.f64() < 0.2 {
        for packet in &mut packets {
            packet.queue = QUEUES.get(dice.usize(..QUEUES.len())).copied().filter(|_| dice.bool());
        }
    }
    // Out of order, the end signal included.
    if count > 1 && dice.f64() < 0.1 {
        let at = dice.usize(1..packets.len());
        packets.swap(at - 1, at);
    }
    // A copy, as a sender that got no answer would send it.
    if dice.f64() < 0.05 {
        let copy = packets.get(dice.usize(..packets.len())).cloned();
        packets.extend(copy);
    }
    packets
}

/// One packet; the last one carries the end signal.
pub(crate) fn packet(call_id: &str, sequence: i64, data: &str, is_last: bool) -> Packet {
    let offered = Offered { call_id: call_id.to_owned(), sequence, data: data.to_owned(), end: is_last };
    Packet { offered, final_sequence: is_last.then_some(sequence), queue: None }
}

fn words(dice: &mut fastrand::Rng) -> String {
    let words: Vec<&str> =
        (0..dice.usize(1..8)).filter_map(|_| WORDS.get(dice.usize(..WORDS.len())).copied()).collect();
    // A number tells every packet from every other.
    format!("{} {:08x}", words.join(" "), dice.u32(..))
}

impl Packet {
    /// Another end signal than its own sequence says.
    pub(crate) fn ending_at(mut self, last: i64) -> Self {
        self.offered.end = true;
        self.final_sequence = Some(last);
        self
    }

    pub(crate) fn path(&self) -> String {
        format!("/v1/call/stream/{}", utf8_percent_encode(&self.offered.call_id, NON_ALPHANUMERIC))
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "sequence": self.offered.sequence,
            "data": self.offered.data,
            "timestamp": 1_738_411_815.123,
        });
        if let Some(fields) = body.as_object_mut() {
            if let Some(last) = self.final_sequence {
                fields.insert("event".to_owned(), json!("end"));
                fields.insert("final_sequence".to_owned(), json!(last));
            }
            if let Some(queue) = self.queue {
                fields.insert("call".to_owned(), json!({ "queue": queue }));
            }
        }
        body
    }
}
