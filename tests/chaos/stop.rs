//! Why a fault, or the whole suite, cannot go on.

/// Whose fault it is that something did not happen.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The suite's, or the machine's: a server that does not start, a port that is taken.
    Suite(anyhow::Error),
    /// The product's: it did not do in time what it should.
    Product(String),
}

pub(crate) type Outcome<T = ()> = Result<T, Stop>;

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Suite(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Suite(error.into())
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Suite(anyhow::Error::new(error).context("the suite's own look into PostgreSQL failed"))
    }
}

/// The product's failure, unless `holds`.
pub(crate) fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(Stop::Product(otherwise())) }
}
