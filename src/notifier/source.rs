//! What a notifier knows of its own source of news.

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::feed::{Upstream, UpstreamStatus};

/// Time from a change to here from which on its news are late.
const LATE: Duration = Duration::from_secs(5);
/// Time after late news, with nothing behind them, in which the source still counts as lagging.
const LATE_COUNTS_FOR: Duration = Duration::from_secs(10);

/// How our own source does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    up: bool,
    stream_seq: u64,
    last: Option<News>,
}

/// The last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// Time from its change to here.
    pub(super) lag: Duration,
    /// Messages behind it.
    pub(super) pending: u64,
    /// When it came.
    pub(super) heard_at: Instant,
}

impl Source {
    /// News come, behind `stream_seq`.
    pub(super) const fn come(&mut self, stream_seq: u64) {
        self.up = true;
        self.stream_seq = stream_seq;
    }

    /// No news come.
    pub(super) const fn go(&mut self) {
        self.up = false;
    }

    /// The message at `stream_seq` came.
    pub(super) const fn hear(&mut self, stream_seq: u64, news: News) {
        self.stream_seq = stream_seq;
        self.last = Some(news);
    }

    pub(super) const fn is_up(&self) -> bool {
        self.up
    }

    /// As clients are told.
    pub(super) fn upstream(&self, now: Instant) -> Upstream {
        let is_late = |news: News| {
            news.lag >= LATE && (news.pending > 0 || now.saturating_duration_since(news.heard_at) < LATE_COUNTS_FOR)
        };
        let status = match (self.up, self.last.is_some_and(is_late)) {
            (false, _) => UpstreamStatus::Down,
            (true, true) => UpstreamStatus::Lagging,
            (true, false) => UpstreamStatus::Ok,
        };
        let lag = self.last.map_or(Duration::ZERO, |news| news.lag);
        Upstream { status, lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX), seq: self.stream_seq }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{LATE, LATE_COUNTS_FOR, News, Source};
    use crate::wire::feed::UpstreamStatus;

    #[test]
    fn late_news_count_until_nothing_is_behind_them_and_a_while_has_passed() {
        let now = Instant::now();
        let status = |lag, pending, later| {
            let mut source = Source::default();
            source.come(0);
            source.hear(7, News { lag, pending, heard_at: now });
            source.upstream(now + later).status
        };
        assert_eq!(status(Duration::ZERO, 9, Duration::ZERO), UpstreamStatus::Ok);
        assert_eq!(status(LATE, 0, Duration::ZERO), UpstreamStatus::Lagging);
        assert_eq!(status(LATE, 0, LATE_COUNTS_FOR), UpstreamStatus::Ok);
        assert_eq!(status(LATE, 1, LATE_COUNTS_FOR), UpstreamStatus::Lagging);
    }

    #[test]
    fn a_source_that_is_gone_is_down_however_fresh_its_last_news() {
        let now = Instant::now();
        let mut source = Source::default();
        assert_eq!(source.upstream(now).status, UpstreamStatus::Down);
        source.hear(7, News { lag: Duration::ZERO, pending: 0, heard_at: now });
        assert_eq!(source.upstream(now).status, UpstreamStatus::Down);
        source.come(7);
        assert_eq!((source.upstream(now).status, source.upstream(now).seq), (UpstreamStatus::Ok, 7));
    }
}
