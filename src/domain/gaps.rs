//! Which sequences are there and which are missing, as inclusive ranges.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Sequences as inclusive ranges in rising order: `[[3,4],[6,8]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(example = json!([[3, 4], [6, 8]]))]
pub struct Ranges(Vec<(i64, i64)>);

impl Ranges {
    /// The ranges that `sequences`, in rising order, make up.
    #[must_use]
    pub fn of(sequences: impl IntoIterator<Item = i64>) -> Self {
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for sequence in sequences {
            match ranges.last_mut() {
                Some((_, last)) if sequence <= *last => {}
                Some((_, last)) if sequence == last.saturating_add(1) => *last = sequence,
                _ => ranges.push((sequence, sequence)),
            }
        }
        Self(ranges)
    }

    /// Ranges that are in rising order and apart already.
    #[must_use]
    pub const fn from_sorted(ranges: Vec<(i64, i64)>) -> Self {
        Self(ranges)
    }

    /// What is not in these ranges between the first sequence of a call, which is 1 (0 if a packet 0
    /// came), and the highest, which is the last one here or `final_sequence`.
    #[must_use]
    pub fn missing(&self, final_sequence: Option<i64>) -> Self {
        let first = i64::from(self.0.first().is_none_or(|(first, _)| *first != 0));
        let Self(mut missing) = self.missing_from(first);
        let next = self.last().map_or(first, |last| last.saturating_add(1)).max(first);
        if let Some(last) = final_sequence
            && last >= next
        {
            missing.push((next, last));
        }
        Self(missing)
    }

    /// What is not in these ranges from `first` to the highest of them.
    #[must_use]
    pub fn missing_from(&self, first: i64) -> Self {
        let mut next = first;
        let mut missing = Vec::new();
        for (start, end) in &self.0 {
            if *start > next {
                missing.push((next, start - 1));
            }
            next = next.max(end.saturating_add(1));
        }
        Self(missing)
    }

    /// How many sequences these ranges hold.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.0
            .iter()
            .fold(0, |count: i64, (start, end)| count.saturating_add(end.saturating_sub(*start).saturating_add(1)))
    }

    /// How many sequences of these ranges are not in `others`.
    #[must_use]
    pub fn count_outside(&self, others: &Self) -> i64 {
        let mut shared: i64 = 0;
        let mut theirs = others.0.iter().peekable();
        for (start, end) in &self.0 {
            while let Some((their_start, their_end)) = theirs.peek() {
                let (first, last) = (*start.max(their_start), *end.min(their_end));
                if first <= last {
                    shared = shared.saturating_add(last.saturating_sub(first).saturating_add(1));
                }
                if their_end > end {
                    break;
                }
                theirs.next();
            }
        }
        self.count().saturating_sub(shared)
    }

    /// Whether `sequence` is in one of the ranges.
    #[must_use]
    pub fn contains(&self, sequence: i64) -> bool {
        let after = self.0.partition_point(|(start, _)| *start <= sequence);
        after.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|(_, end)| sequence <= *end)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest sequence, if there is any.
    #[must_use]
    pub fn last(&self) -> Option<i64> {
        self.0.last().map(|(_, end)| *end)
    }

    /// The ranges, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Ranges;

    #[test]
    fn what_is_missing_lies_between_the_first_and_the_final_sequence() {
        let there = Ranges::of([1, 2, 5, 9]);
        assert_eq!(serde_json::to_string(&there.missing(None)).unwrap(), "[[3,4],[6,8]]");
        assert_eq!(serde_json::to_string(&there.missing(Some(11))).unwrap(), "[[3,4],[6,8],[10,11]]");
        assert_eq!(serde_json::to_string(&Ranges::of([0, 2]).missing(None)).unwrap(), "[[1,1]]");
        assert_eq!(serde_json::to_string(&Ranges::of([3]).missing(Some(2))).unwrap(), "[[1,2]]");
        assert!(Ranges::default().missing(None).is_empty());
        assert_eq!(Ranges::of([i64::MAX]).missing(None).count(), i64::MAX - 1);
    }

    proptest! {
        #[test]
        fn what_is_outside_is_counted_as_if_one_by_one(a in proptest::collection::btree_set(0_i64..60, 0..40), b in proptest::collection::btree_set(0_i64..60, 0..40)) {
            let outside = Ranges::of(a.iter().copied()).count_outside(&Ranges::of(b.iter().copied()));
            prop_assert_eq!(outside, i64::try_from(a.difference(&b).count()).unwrap());
        }

        #[test]
        fn there_and_missing_make_up_the_whole(sequences in proptest::collection::btree_set(0_i64..60, 0..40), last in proptest::option::of(0_i64..80)) {
            let there = Ranges::of(sequences.iter().copied());
            let missing = there.missing(last);
            let first = i64::from(!sequences.contains(&0));
            let highest = sequences.last().copied().max(last).unwrap_or(0);
            for sequence in first..=highest {
                prop_assert_eq!(there.contains(sequence), sequences.contains(&sequence));
                prop_assert_eq!(missing.contains(sequence), !sequences.contains(&sequence));
            }
            prop_assert!(missing.last().unwrap_or(0) <= highest);
            prop_assert_eq!(usize::try_from(there.count()).unwrap(), sequences.len());
        }
    }
}
