//! One flush: whatever waits, in one transaction, each entry with its own answer.
//!
//! Rows are written in the order of their keys, so that flushes of several processes never wait for
//! each other in a ring. A call's row is written when it opens and when it ends, never for a packet.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::queue::{Answer, Entry, Outcome, Refusal, What};
use super::tracker::{Caps, Track, Tracker};
use crate::domain::{Call, CallKey, Change, Metadata, Packet, Policy};
use crate::store::calls::{EndMark, Standing};
use crate::store::{Session, StoreError, calls, packets};
use crate::wire::outgoing::Outgoing;
use crate::wire::receipt::Durability;

/// What a flush depends on beside its entries.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) policy: Policy,
    pub(super) caps: Caps,
}

/// What a flush did.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    /// One for each entry, in order.
    pub(super) answers: Vec<Answer>,
    /// Messages that are committed and may go out.
    pub(super) outgoing: Vec<Outgoing>,
    /// New packets, by key and sequence.
    pub(super) stored: HashSet<(CallKey, i64)>,
    /// Calls that have ended and may be whole now.
    pub(super) ended: Vec<CallKey>,
    /// Calls whose cap was passed for the first time.
    pub(super) passed_cap: Vec<CallKey>,
    /// Copies with other content than the stored packet's.
    pub(super) conflicts: u64,
}

/// Stores `entries`, and answers each. What became of a commit whose answer was lost is not known:
/// when they are flushed `again`, those that are there already are the same ones, not copies.
///
/// # Errors
/// When the database is away or refuses; then most likely nothing is stored.
pub(super) async fn flush(
    session: &mut Session,
    tracker: &mut Tracker,
    rules: &Rules,
    entries: &[Entry],
    again: bool,
) -> Result<Flushed, StoreError> {
    let now = session.store().now();
    let batch = Batch::sort(entries);
    let mut tx = session.begin().await?;
    let strangers = batch.strangers(tracker);
    let openings = batch.openings(&strangers, now, &rules.policy);
    let (opened, outgoing) =
        if openings.is_empty() { Default::default() } else { calls::open(&mut tx, &openings, now).await? };
    let mut room = Room::new(tracker, &batch, &openings, rules.caps);
    let asked = batch.to_ask(tracker, &strangers, &opened, rules.caps);
    if !asked.is_empty() {
        room.correct(&asked, packets::sizes(&mut tx, &asked).await?);
    }
    let spooled = batch.spooled();
    let (admitted, over): (Vec<&Packet>, Vec<&Packet>) =
        batch.firsts.iter().partition(|packet| room.admit(packet, spooled.contains(&id(packet))));
    if !over.is_empty() {
        room.forgive(&packets::which_exist(&mut tx, &over).await?);
    }
    let mut stored: HashSet<(CallKey, i64)> =
        if admitted.is_empty() { HashSet::new() } else { packets::store(&mut tx, &admitted).await? };
    let known_again = |packet: &&&Packet| (again || spooled.contains(&id(packet))) && !stored.contains(&id(packet));
    let perhaps: Vec<&Packet> = admitted.iter().filter(known_again).copied().collect();
    if !perhaps.is_empty() {
        stored.extend(packets::which_are_stored(&mut tx, &perhaps).await?);
    }
    let copies = batch.copies(&stored, &room);
    let conflicts = if copies.is_empty() { 0 } else { packets::note_copies(&mut tx, &copies).await? };
    let ends = batch.ends(now, &rules.policy, &room);
    if !ends.is_empty() {
        calls::mark_ended(&mut tx, &ends, now).await?;
    }
    tx.commit().await?;

    // Read after the commit: whoever ends a call at the same time either sees these packets or is
    // seen here. What is committed is answered even when this fails.
    let standing = match session.connection().await {
        Ok(connection) => calls::standing(connection, &batch.keys).await,
        Err(error) => Err(error),
    };
    let standing = standing.unwrap_or_else(|error| {
        tracing::warn!(%error, "the calls' states could not be read after a flush");
        batch.presumed_standing()
    });
    let answers = batch.answers(&stored, &room, &standing);
    let passed_cap = room.settle(tracker, &admitted, &stored);
    let ended = standing.iter().filter(|s| !s.is_over).map(|s| s.key).collect();
    Ok(Flushed { answers, outgoing, stored, ended, passed_cap, conflicts })
}

/// Calls of which the entries say more than is known, each with all that they say.
pub(super) fn news(tracker: &mut Tracker, entries: &[Entry]) -> HashMap<CallKey, Metadata> {
    let mut news: HashMap<CallKey, Metadata> = HashMap::new();
    for entry in entries {
        let What::Packet(packet) = &entry.what else { continue };
        let Some(track) = tracker.get(packet.key).filter(|_| !packet.metadata.is_empty()) else { continue };
        if track.metadata.overlaid(&packet.metadata) != *track.metadata {
            let said = news.entry(packet.key).or_default();
            *said = said.overlaid(&packet.metadata);
        }
    }
    news
}

fn id(packet: &Packet) -> (CallKey, i64) {
    (packet.key, packet.sequence)
}

/// The entries of a flush in the order in which rows are written.
struct Batch<'a> {
    entries: &'a [Entry],
    /// All calls, once each.
    keys: Vec<CallKey>,
    /// The first packet of each (key, sequence) that the batch holds.
    firsts: Vec<&'a Packet>,
    /// Later packets of a (key, sequence) in the same batch.
    repeats: Vec<&'a Packet>,
}

impl<'a> Batch<'a> {
    fn sort(entries: &'a [Entry]) -> Self {
        let mut sorted: Vec<&Packet> = entries
            .iter()
            .filter_map(|entry| match &entry.what {
                What::Packet(packet) => Some(packet),
                What::End { .. } => None,
            })
            .collect();
        // Stable: of two copies in one batch the one that came first is the packet.
        sorted.sort_by_key(|packet| id(packet));
        let mut firsts: Vec<&Packet> = Vec::with_capacity(sorted.len());
        let mut repeats = Vec::new();
        for packet in sorted {
            match firsts.last() {
                Some(last) if id(last) == id(packet) => repeats.push(packet),
                _ => firsts.push(packet),
            }
        }
        let mut keys: Vec<CallKey> = entries.iter().map(Entry::key).collect();
        keys.sort_unstable();
        keys.dedup();
        Self { entries, keys, firsts, repeats }
    }

    /// Packets that come from the spool.
    fn spooled(&self) -> HashSet<(CallKey, i64)> {
        let packets = self.entries.iter().filter(|entry| entry.is_spooled).filter_map(|entry| match &entry.what {
            What::Packet(packet) => Some(id(packet)),
            What::End { .. } => None,
        });
        packets.collect()
    }

    /// Calls with packets here that the tracker does not know.
    fn strangers(&self, tracker: &mut Tracker) -> HashSet<CallKey> {
        let with_packets: HashSet<CallKey> = self.firsts.iter().map(|packet| packet.key).collect();
        with_packets.into_iter().filter(|key| tracker.get(*key).is_none()).collect()
    }

    fn openings(&self, strangers: &HashSet<CallKey>, now: DateTime<Utc>, policy: &Policy) -> Vec<Change> {
        let mut openings: HashMap<CallKey, Change> = HashMap::with_capacity(strangers.len());
        for entry in self.entries {
            let What::Packet(packet) = &entry.what else { continue };
            if !strangers.contains(&packet.key) {
                continue;
            }
            let opening = openings.entry(packet.key).or_insert_with(|| {
                Call::open(entry.tenant.clone(), entry.call_id.clone(), Metadata::default(), now, policy)
            });
            opening.call.metadata = opening.call.metadata.overlaid(&packet.metadata);
        }
        openings.into_values().collect()
    }

    /// Calls whose stored size has to be asked for: strangers that were there before, and calls
    /// near their caps.
    fn to_ask(
        &self,
        tracker: &mut Tracker,
        strangers: &HashSet<CallKey>,
        opened: &[CallKey],
        caps: Caps,
    ) -> Vec<CallKey> {
        let opened: HashSet<CallKey> = opened.iter().copied().collect();
        self.keys
            .iter()
            .copied()
            .filter(|key| match tracker.get(*key) {
                Some(track) => track.is_due(caps),
                None => strangers.contains(key) && !opened.contains(key),
            })
            .collect()
    }

    /// Packets that were there before, this batch's repeats included, each with how many came.
    fn copies(&self, stored: &HashSet<(CallKey, i64)>, room: &Room) -> Vec<(&'a Packet, i32)> {
        let firsts = self.firsts.iter().filter(|packet| !stored.contains(&id(packet)));
        let mut copies: Vec<(&Packet, i32)> =
            firsts.chain(&self.repeats).filter(|packet| !room.is_refused(packet)).map(|packet| (*packet, 1)).collect();
        copies.sort_by_key(|(packet, _)| id(packet));
        copies
    }

    /// The end signals, one a call: the highest final sequence counts.
    fn ends(&self, now: DateTime<Utc>, policy: &Policy, room: &Room) -> Vec<EndMark> {
        let settled_at = now + policy.settle;
        let mut ends: HashMap<CallKey, EndMark> = HashMap::new();
        for entry in self.entries {
            let (key, why, last) = match &entry.what {
                // An end packet that names no last sequence is the last itself.
                What::Packet(packet) if !room.is_refused(packet) => match packet.end {
                    Some(last) => (packet.key, "end event", last.or(Some(packet.sequence))),
                    None => continue,
                },
                What::Packet(_) => continue,
                What::End { key, reason, final_sequence, .. } => (*key, reason.as_str(), *final_sequence),
            };
            let mark = ends.entry(key).or_insert_with(|| EndMark {
                key,
                reason: why.to_owned(),
                final_sequence: None,
                settled_at,
            });
            mark.final_sequence = mark.final_sequence.max(last);
        }
        ends.into_values().collect()
    }

    /// What is known of the calls without asking: those that end here have ended.
    fn presumed_standing(&self) -> Vec<Standing> {
        let ends = |entry: &&Entry| match &entry.what {
            What::Packet(packet) => packet.end.is_some(),
            What::End { .. } => true,
        };
        self.entries.iter().filter(ends).map(|entry| Standing { key: entry.key(), is_over: false }).collect()
    }

    fn answers(&self, stored: &HashSet<(CallKey, i64)>, room: &Room, standing: &[Standing]) -> Vec<Answer> {
        let standing: HashMap<CallKey, bool> = standing.iter().map(|s| (s.key, s.is_over)).collect();
        let is_over = |key: CallKey| standing.get(&key).copied().unwrap_or(false);
        let outcome = |entry: &Entry, is_duplicate, is_late| Outcome {
            is_duplicate,
            is_late,
            received_at: entry.received_at(),
            durability: Durability::Stored,
        };
        let mut seen: HashSet<(CallKey, i64)> = HashSet::new();
        let mut answer = |entry: &Entry| match &entry.what {
            What::Packet(packet) if room.is_refused(packet) => Err(Refusal::CallTooLarge),
            What::Packet(packet) => {
                let is_new = stored.contains(&id(packet)) && seen.insert(id(packet));
                Ok(outcome(entry, !is_new, is_new && is_over(packet.key)))
            }
            What::End { key, .. } if !standing.contains_key(key) => Err(Refusal::UnknownCall),
            What::End { key, .. } => Ok(outcome(entry, false, is_over(*key))),
        };
        self.entries.iter().map(&mut answer).collect()
    }
}

/// What fits into the calls of one flush; the tracker learns of it once the flush is committed.
struct Room {
    tracks: HashMap<CallKey, Track>,
    refused: HashSet<(CallKey, i64)>,
    caps: Caps,
}

impl Room {
    fn new(tracker: &mut Tracker, batch: &Batch<'_>, openings: &[Change], caps: Caps) -> Self {
        let known = batch.firsts.iter().map(|packet| packet.key);
        let mut tracks: HashMap<CallKey, Track> =
            known.map(|key| (key, tracker.get(key).cloned().unwrap_or_default())).collect();
        for opening in openings {
            if let Some(track) = tracks.get_mut(&opening.call.key) {
                track.metadata = Arc::new(opening.call.metadata.clone());
            }
        }
        Self { tracks, refused: HashSet::new(), caps }
    }

    /// Takes over what the database says of calls that were asked for.
    fn correct(&mut self, asked: &[CallKey], sizes: Vec<(CallKey, u64, u64)>) {
        for key in asked {
            if let Some(track) = self.tracks.get_mut(key) {
                (track.packets, track.bytes, track.since_asked) = (0, 0, 0);
            }
        }
        for (key, packets, bytes) in sizes {
            if let Some(track) = self.tracks.get_mut(&key) {
                (track.packets, track.bytes) = (packets, bytes);
            }
        }
    }

    /// Whether a packet is let in; one that has its 202 is, whatever the caps say.
    fn admit(&mut self, packet: &Packet, is_spooled: bool) -> bool {
        let caps = self.caps;
        let fits = self.tracks.get_mut(&packet.key).is_some_and(|track| track.admit(packet.data.len() as u64, caps));
        if !fits && !is_spooled {
            self.refused.insert(id(packet));
        }
        fits || is_spooled
    }

    /// Takes back the refusal of packets that turn out to be stored already: they are copies.
    fn forgive(&mut self, there: &HashSet<(CallKey, i64)>) {
        self.refused.retain(|packet| !there.contains(packet));
    }

    fn is_refused(&self, packet: &Packet) -> bool {
        self.refused.contains(&id(packet))
    }

    /// Hands what is now true to the tracker; returns calls whose cap was passed for the first time.
    fn settle(mut self, tracker: &mut Tracker, admitted: &[&Packet], stored: &HashSet<(CallKey, i64)>) -> Vec<CallKey> {
        for packet in admitted.iter().filter(|packet| !stored.contains(&id(packet))) {
            if let Some(track) = self.tracks.get_mut(&packet.key) {
                track.retract(packet.data.len() as u64);
            }
        }
        let mut passed: Vec<CallKey> = Vec::new();
        for (key, _) in &self.refused {
            if let Some(track) = self.tracks.get_mut(key).filter(|track| !track.is_over_limit) {
                track.is_over_limit = true;
                passed.push(*key);
            }
        }
        for (key, track) in self.tracks {
            tracker.insert(key, track);
        }
        passed
    }
}
