//! What is sent: calls made up from a seed, each a list of packets in the order of sending.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use super::Options;

/// How far a packet strays from its place when shuffled, and a copy from its original.
const WINDOW: usize = 8;
/// Time between the packets of a call, as their timestamps tell it.
const PACKET_INTERVAL: Duration = Duration::from_millis(20);

const QUEUES: [&str; 3] = ["sales", "support", "billing"];
const DIRECTIONS: [&str; 2] = ["inbound", "outbound"];
const AGENTS: [&str; 8] = ["ada", "bela", "chidi", "dana", "emre", "fumi", "gita", "hugo"];
const WORDS: [&str; 24] = [
    "hello",
    "the",
    "invoice",
    "router",
    "blinks",
    "since",
    "yesterday",
    "order",
    "please",
    "number",
    "is",
    "seven",
    "thank",
    "you",
    "one",
    "moment",
    "I",
    "would",
    "like",
    "to",
    "change",
    "my",
    "address",
    "again",
];

/// The calls of a run. The same seed makes the same calls.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) prefix: String,
    pub(super) calls: u32,
    packets: u32,
    shuffle: bool,
    duplicates: f64,
    drops: f64,
    is_batched: bool,
    seed: u64,
    started_at: DateTime<Utc>,
}

/// One call, ready to be sent.
#[derive(Debug)]
pub(super) struct PlannedCall {
    pub(super) call_id: String,
    /// Packets that are never sent.
    pub(super) dropped: u32,
    pub(super) steps: VecDeque<Step>,
}

/// One packet to send.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) sequence: u32,
    /// A second copy of a packet that went before it.
    pub(super) is_copy: bool,
    pub(super) body: Bytes,
}

#[derive(Serialize)]
struct Packet<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<&'a str>,
    sequence: u32,
    data: String,
    timestamp: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    final_sequence: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<Value>,
}

impl Plan {
    pub(super) fn new(options: &Options, started_at: DateTime<Utc>) -> Self {
        let prefix = options.prefix.clone().unwrap_or_else(|| {
            let nanos = started_at.timestamp_nanos_opt().unwrap_or_default().unsigned_abs();
            let id = fastrand::Rng::with_seed(options.seed.rotate_left(32) ^ nanos).u64(..1 << 40);
            format!("sim-{id:010x}")
        });
        Self {
            prefix,
            calls: options.calls,
            packets: options.packets,
            shuffle: options.shuffle,
            duplicates: options.duplicates,
            drops: options.drops,
            is_batched: options.batch > 1,
            seed: options.seed,
            started_at,
        }
    }

    /// Packets that will be sent, more or less: how long the progress bar is.
    pub(super) fn expected_packets(&self) -> u64 {
        let planned = f64::from(self.calls) * f64::from(self.packets) * (1.0 - self.drops) * (1.0 + self.duplicates);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and far below 2^53")]
        let planned = planned.round() as u64;
        planned
    }

    /// The call with this number.
    pub(super) fn call(&self, index: u32) -> PlannedCall {
        let mut dice = fastrand::Rng::with_seed(self.seed.rotate_left(32) ^ u64::from(index));
        // Neighbouring seeds begin alike.
        dice.u64(..);
        let call_id = format!("{}-{index:06}", self.prefix);
        let sequences: Vec<u32> =
            (1..=self.packets).filter(|sequence| *sequence == self.packets || dice.f64() >= self.drops).collect();
        let dropped = self.packets - u32::try_from(sequences.len()).unwrap_or(u32::MAX);
        let first = sequences.first().copied();
        let mut metadata = Some(metadata(&mut dice));
        let mut steps = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            let metadata = if first == Some(sequence) { metadata.take() } else { None };
            let body = self.body(&call_id, sequence, metadata, &mut dice);
            steps.push(Step { sequence, is_copy: false, body });
        }
        if self.shuffle {
            shuffle_within_window(&mut steps, &mut dice);
        }
        PlannedCall { call_id, dropped, steps: with_copies(steps, self.duplicates, &mut dice) }
    }

    fn body(&self, call_id: &str, sequence: u32, call: Option<Value>, dice: &mut fastrand::Rng) -> Bytes {
        let is_last = sequence == self.packets;
        let sent_at = self.started_at + PACKET_INTERVAL * sequence;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
        let timestamp = sent_at.timestamp_millis() as f64 / 1000.0;
        let packet = Packet {
            call_id: self.is_batched.then_some(call_id),
            sequence,
            data: if is_last { "goodbye".to_owned() } else { talk(dice) },
            timestamp,
            event: is_last.then_some("end"),
            final_sequence: is_last.then_some(self.packets),
            call,
        };
        Bytes::from(serde_json::to_vec(&packet).unwrap_or_default())
    }
}

fn talk(dice: &mut fastrand::Rng) -> String {
    let mut words = Vec::with_capacity(6);
    for _ in 0..dice.usize(3..=6) {
        words.extend(dice.choice(WORDS));
    }
    words.join(" ")
}

/// Phone numbers from the range kept for fiction.
fn metadata(dice: &mut fastrand::Rng) -> Value {
    json!({
        "queue": dice.choice(QUEUES),
        "direction": dice.choice(DIRECTIONS),
        "from": format!("+1202555{:04}", dice.u16(100..200)),
        "to": format!("+1202555{:04}", dice.u16(100..200)),
        "agent": dice.choice(AGENTS),
        "tags": { "source": "simulate" },
    })
}

fn shuffle_within_window(steps: &mut [Step], dice: &mut fastrand::Rng) {
    for here in 0..steps.len() {
        let there = dice.usize(here..steps.len().min(here + WINDOW));
        steps.swap(here, there);
    }
}

/// Each step, and copies of some of them a few places later.
fn with_copies(steps: Vec<Step>, share: f64, dice: &mut fastrand::Rng) -> VecDeque<Step> {
    let mut placed: Vec<(usize, Step)> = Vec::with_capacity(steps.len());
    for (place, step) in steps.into_iter().enumerate() {
        if dice.f64() < share {
            placed.push((place + 1 + dice.usize(..WINDOW), Step { is_copy: true, ..step.clone() }));
        }
        placed.push((place, step));
    }
    // Stable, and a copy's place lies behind its original's.
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, step)| step).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::{Options, Plan, PlannedCall};
    use chrono::DateTime;
    use proptest::prelude::*;
    use serde_json::Value;
    use std::collections::HashSet;

    fn plan(options: &Options) -> Plan {
        Plan::new(options, DateTime::from_timestamp(1_738_411_815, 0).unwrap())
    }

    fn shape(call: &PlannedCall) -> Vec<(u32, bool, Vec<u8>)> {
        call.steps.iter().map(|step| (step.sequence, step.is_copy, step.body.to_vec())).collect()
    }

    proptest! {
        #[test]
        fn every_packet_is_sent_or_dropped_and_copies_follow_their_originals(
            packets in 1_u32..60, seed: u64, index in 0_u32..1000, shuffle: bool,
            duplicates in 0.0..=1.0, drops in 0.0..=1.0,
        ) {
            let plan = plan(&Options { packets, shuffle, duplicates, drops, seed, ..options() });
            let call = plan.call(index);
            prop_assert_eq!(shape(&call), shape(&plan.call(index)));
            let mut seen = HashSet::new();
            let mut ends = 0;
            for step in &call.steps {
                prop_assert_eq!(seen.insert(step.sequence), !step.is_copy);
                let body: Value = serde_json::from_slice(&step.body).unwrap();
                ends += u32::from(!step.is_copy && body["event"] == "end" && body["final_sequence"] == packets);
            }
            prop_assert_eq!(u32::try_from(seen.len()).unwrap() + call.dropped, packets);
            prop_assert!(seen.contains(&packets));
            prop_assert_eq!(ends, 1);
        }
    }

    #[test]
    fn without_shuffling_packets_keep_their_order_and_the_first_tells_of_the_call() {
        let call = plan(&options()).call(0);
        assert!(call.steps.iter().map(|step| step.sequence).is_sorted());
        let tells: Vec<bool> = call
            .steps
            .iter()
            .map(|step| serde_json::from_slice::<Value>(&step.body).unwrap()["call"]["queue"].is_string())
            .collect();
        assert_eq!(tells.iter().filter(|tells| **tells).count(), 1);
        assert!(tells[0]);
    }

    #[test]
    fn another_seed_makes_other_calls() {
        let bodies = |seed| shape(&plan(&Options { seed, ..options() }).call(0));
        assert_ne!(bodies(1), bodies(2));
    }
}
