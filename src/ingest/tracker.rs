//! What a writer remembers of calls between flushes, so that most flushes need not ask.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::{CallKey, Metadata};

/// Calls remembered in one generation; two generations are held, so memory is bounded by twice this.
const CALLS_PER_GENERATION: usize = 50_000;

/// What is known of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Track {
    /// Packets stored, as far as this writer knows.
    pub(super) packets: u64,
    /// Bytes of their data.
    pub(super) bytes: u64,
    /// Packets stored by this writer since the database was last asked for the two above.
    pub(super) since_asked: u64,
    /// What the PBX has said of the call.
    pub(super) metadata: Arc<Metadata>,
    /// Its caps were passed and it is flagged.
    pub(super) is_over_limit: bool,
}

/// Caps of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Track {
    /// Whether another packet of `bytes` fits, and is counted from here.
    pub(super) fn admit(&mut self, bytes: u64, caps: Caps) -> bool {
        let fits = self.packets < caps.packets && self.bytes.saturating_add(bytes) <= caps.bytes;
        if fits {
            self.packets += 1;
            self.bytes += bytes;
            self.since_asked += 1;
        }
        fits
    }

    /// Takes back a packet that turned out to be there before.
    pub(super) fn retract(&mut self, bytes: u64) {
        self.packets = self.packets.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.since_asked = self.since_asked.saturating_sub(1);
    }

    /// Whether the database should be asked again: other replicas store packets of the same call,
    /// so the nearer the cap, the sooner.
    pub(super) fn is_due(&self, caps: Caps) -> bool {
        let room = caps.packets.saturating_sub(self.packets);
        let room_bytes = caps.bytes.saturating_sub(self.bytes) / 4096;
        self.since_asked > room.min(room_bytes) / 4 && self.since_asked > 0
    }
}

/// The calls a writer remembers: the young generation takes new ones; when it is full it becomes
/// the old one, and the former old one is forgotten.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    young: HashMap<CallKey, Track>,
    old: HashMap<CallKey, Track>,
}

impl Tracker {
    /// What is known of a call.
    pub(super) fn get(&mut self, key: CallKey) -> Option<&mut Track> {
        if !self.young.contains_key(&key)
            && let Some(track) = self.old.remove(&key)
        {
            self.insert(key, track);
        }
        self.young.get_mut(&key)
    }

    /// Remembers a call.
    pub(super) fn insert(&mut self, key: CallKey, track: Track) {
        if self.young.len() >= CALLS_PER_GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, track);
    }
}

#[cfg(test)]
mod tests {
    use super::{Caps, Track, Tracker};
    use crate::domain::{CallId, CallKey, Tenant};

    const CAPS: Caps = Caps { packets: 10, bytes: 100_000 };

    #[test]
    fn a_call_takes_exactly_its_cap_and_a_copy_takes_no_room() {
        let mut track = Track::default();
        for _ in 0..10 {
            assert!(track.admit(1, CAPS));
        }
        assert!(!track.admit(1, CAPS));
        track.retract(1);
        assert!(track.admit(1, CAPS));
        assert!(!Track::default().admit(100_001, CAPS));
    }

    #[test]
    fn the_nearer_the_cap_the_sooner_the_database_is_asked() {
        let caps = Caps { packets: 100_000, bytes: u64::MAX };
        assert!(!Track { packets: 10, since_asked: 10, ..Track::default() }.is_due(caps));
        assert!(Track { packets: 99_990, since_asked: 10, ..Track::default() }.is_due(caps));
    }

    #[test]
    fn memory_is_bounded_and_calls_in_use_are_kept() {
        let key = |n: usize| CallKey::derive(&Tenant::open_mode(), &CallId::new(n.to_string()).unwrap());
        let mut tracker = Tracker::default();
        for n in 0..3 * super::CALLS_PER_GENERATION {
            tracker.insert(key(n), Track::default());
            assert!(n == 0 || tracker.get(key(0)).is_some());
            if n == 0 {
                tracker.insert(key(0), Track { packets: 7, ..Track::default() });
            }
        }
        assert!(tracker.young.len() + tracker.old.len() <= 2 * super::CALLS_PER_GENERATION);
        assert_eq!(tracker.get(key(0)).unwrap().packets, 7);
    }
}
