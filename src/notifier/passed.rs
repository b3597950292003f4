//! Which version of each call has gone by, for the calls that changed last.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::filter::Before;
use crate::domain::{CallKey, Metadata};
use crate::wire::feed::StateChanged;

/// Calls of one generation; the last two generations are remembered.
const GENERATION_CALLS: usize = 50_000;

/// The versions that have gone by. Memory is bounded: of the calls that changed last, at least
/// [`GENERATION_CALLS`] are remembered and at most twice as many.
#[derive(Debug, Default)]
pub(super) struct Passed {
    young: HashMap<CallKey, Last>,
    old: HashMap<CallKey, Last>,
}

/// What went by of a call.
#[derive(Clone, Copy, Debug)]
struct Last {
    version: i32,
    seq: u64,
    described: u64,
}

impl Passed {
    /// Notes that `change` goes by at `seq`, and says what the call was before; none when this
    /// version of the call, or a newer one, has gone by already.
    pub(super) fn note(&mut self, key: CallKey, change: &StateChanged, seq: u64) -> Option<Before> {
        let version = change.call.version;
        let last = self.last(key);
        if last.is_some_and(|last| last.version >= version) {
            return None;
        }
        let described = described(&change.call.metadata);
        let before = match (last, change.from) {
            (None, None) if version == 1 => Before::Nothing,
            (Some(last), Some(from)) if last.version + 1 == version && last.described == described => Before::At(from),
            _ => Before::Unknown,
        };
        if self.young.len() >= GENERATION_CALLS && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, Last { version, seq, described });
        Some(before)
    }

    /// Whether `version` of the call, or a newer one, had gone by at `seq`.
    pub(super) fn had(&self, key: CallKey, version: i32, seq: u64) -> bool {
        self.last(key).is_some_and(|last| last.version >= version && last.seq <= seq)
    }

    fn last(&self, key: CallKey) -> Option<Last> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }
}

/// What filters ask about beside the state, in one number.
fn described(metadata: &Metadata) -> u64 {
    let Metadata { queue, direction, from, to, agent, tags } = metadata;
    let mut hasher = DefaultHasher::new();
    (queue, direction, from, to, agent, tags).hash(&mut hasher);
    hasher.finish()
}
