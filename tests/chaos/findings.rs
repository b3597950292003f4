//! What the product did that it should not.

use std::fmt;

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Accepted and not there, or never finished
    Lost,
    /// There more often than it should be
    Duplicated,
    /// Another promise that does not hold
    Broken,
    /// A goal that is missed: nothing is wrong with the data
    Goal,
}

/// One failure of the product, with its evidence.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) sort: Sort,
    pub(crate) what: String,
    /// How many things this is about.
    pub(crate) count: u64,
}

impl Finding {
    pub(crate) fn new(sort: Sort, what: impl Into<String>) -> Self {
        Self { sort, what: what.into(), count: 1 }
    }

    /// Nothing where `examples` is empty; else a finding about all of them that shows the first.
    pub(crate) fn of(sort: Sort, what: &str, examples: &[String]) -> Option<Self> {
        const SHOWN: usize = 5;
        let first: Vec<&str> = examples.iter().take(SHOWN).map(String::as_str).collect();
        let count = examples.len() as u64;
        (count > 0).then(|| Self { sort, what: format!("{what} ({count}):\n  {}", first.join("\n  ")), count })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sort = match self.sort {
            Sort::Lost => "LOST",
            Sort::Duplicated => "DUPLICATED",
            Sort::Broken => "BROKEN",
            Sort::Goal => "GOAL MISSED",
        };
        write!(f, "{sort}: {}", self.what)
    }
}
