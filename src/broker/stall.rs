//! A consumer that delivers nothing although jobs wait: noticed, and in the end made anew.

use serde_json::{Value, json};

use super::api::{self, ApiError};
use super::consume::Consumer;
use super::topology::{self, TopologyError};

/// Looks in a row that must find nothing moved before a consumer is made anew.
const LOOKS: u32 = 3;
/// As many at most: should a new one not help, it is tried ever more rarely.
const LOOKS_MAX: u32 = 96;

/// What the server says of a consumer. To be taken when a pull has brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When the consumer was made: its identity.
    created: String,
    /// Messages that it has delivered in its life.
    delivered: u64,
    /// Messages that it has not delivered yet.
    pending: u64,
    /// Messages that are in workers' hands.
    ack_pending: u64,
    /// As many of them as there may be.
    max_ack_pending: u64,
}

impl Look {
    /// Messages that it has not delivered yet.
    #[must_use]
    pub const fn pending(&self) -> u64 {
        self.pending
    }

    /// Whether there is something to deliver that may be delivered.
    const fn has_work(&self) -> bool {
        self.pending > 0 && self.ack_pending < self.max_ack_pending
    }
}

/// What the looks at one consumer come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It delivers, or has nothing to deliver.
    Moves,
    /// It has had something to deliver for so many looks, and nothing moved. Pull again.
    Stalls(u32),
    /// It has been pulled from again and again: make it anew.
    IsStuck,
}

/// The looks at one consumer. One that finds a job which came that moment says nothing; many in a row
/// between which nothing was delivered to anybody say that the consumer does not work.
#[derive(Debug)]
pub struct Stall {
    former: Option<Look>,
    looks: u32,
    needed: u32,
}

impl Default for Stall {
    fn default() -> Self {
        Self { former: None, looks: 0, needed: LOOKS }
    }
}

impl Stall {
    /// A look after a pull that brought nothing.
    pub fn note(&mut self, look: Look) -> Finding {
        let has_delivered = match &self.former {
            Some(former) if former.created == look.created => former.delivered != look.delivered,
            Some(_) => look.delivered > 0,
            None => false,
        };
        if has_delivered || !look.has_work() {
            *self = Self { former: Some(look), ..Self::default() };
            return Finding::Moves;
        }
        self.former = Some(look);
        self.looks += 1;
        if self.looks < self.needed {
            return Finding::Stalls(self.looks);
        }
        self.looks = 0;
        self.needed = (self.needed * 2).min(LOOKS_MAX);
        Finding::IsStuck
    }

    /// A pull that brought something.
    pub fn moved(&mut self) {
        *self = Self::default();
    }
}

impl Consumer {
    /// Looks at it.
    ///
    /// # Errors
    /// When JetStream is away, or the consumer is gone.
    pub async fn look(&self) -> Result<Look, ApiError> {
        let request = format!("CONSUMER.INFO.{}", self.path());
        let info = api::ask(self.broker(), &request, &json!({})).await?;
        let number = |field: &str| info.pointer(field).and_then(Value::as_u64).unwrap_or_default();
        let created = info.get("created").and_then(Value::as_str);
        Ok(Look {
            created: created.ok_or_else(|| ApiError::unreadable(&request, "created"))?.to_owned(),
            delivered: number("/delivered/consumer_seq"),
            pending: number("/num_pending"),
            ack_pending: number("/num_ack_pending"),
            max_ack_pending: number("/config/max_ack_pending"),
        })
    }

    /// Deletes it and makes it anew, unless it is no longer the one that was looked at.
    ///
    /// The jobs stay in the stream: a work queue lets go of a message only when it is acknowledged. What
    /// was in workers' hands, or delayed, is delivered once more; whoever gets it learns from the call
    /// that it is held, not due, or done. An acknowledgement of the former consumer's delivery counts
    /// for the message that was delivered again, of which it says what is so, and is ignored before
    /// that (nats-server 2.14.6): then the job comes once more. A consumer that was paused on the server counts as
    /// stuck, too: the fleet has a switch of its own.
    ///
    /// # Errors
    /// When JetStream is away or refuses.
    pub async fn make_anew(&self, seen: &Look) -> Result<(), TopologyError> {
        match self.look().await {
            // Another worker was faster.
            Ok(now) if now.created != seen.created => return Ok(()),
            Ok(_) => {
                let request = format!("CONSUMER.DELETE.{}", self.path());
                match api::ask(self.broker(), &request, &json!({})).await {
                    Err(error) if !error.is_missing() => return Err(error.into()),
                    _ => metrics::counter!("callfleet_consumers_made_anew_total", "lane" => self.lane().as_str())
                        .increment(1),
                }
            }
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error.into()),
        }
        topology::ensure(self.broker()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Finding, LOOKS, LOOKS_MAX, Look, Stall};

    fn look(created: &str, delivered: u64, pending: u64) -> Look {
        Look { created: created.to_owned(), delivered, pending, ack_pending: 0, max_ack_pending: 10 }
    }

    #[test]
    fn a_consumer_is_stuck_when_nothing_moves_over_several_looks() {
        let mut stall = Stall::default();
        for looks in 1..LOOKS {
            assert_eq!(stall.note(look("a", 7, 3)), Finding::Stalls(looks));
        }
        assert_eq!(stall.note(look("a", 7, 3)), Finding::IsStuck);
    }

    #[test]
    fn a_consumer_that_delivers_to_others_or_has_nothing_or_may_not_is_not_stuck() {
        let busy = Look { ack_pending: 10, ..look("a", 1, 3) };
        for moves in [look("a", 2, 3), look("a", 1, 0), busy] {
            let mut stall = Stall::default();
            for _ in 0..5 {
                assert_eq!(stall.note(look("a", 1, 3)), Finding::Stalls(1));
                assert_eq!(stall.note(moves.clone()), Finding::Moves);
                stall.moved();
            }
        }
    }

    #[test]
    fn a_consumer_that_is_stuck_again_is_made_anew_ever_more_rarely() {
        let mut stall = Stall::default();
        let mut gaps = Vec::new();
        for made in 0..8 {
            let mut looks = 1;
            while stall.note(look(&made.to_string(), 0, 3)) != Finding::IsStuck {
                looks += 1;
            }
            gaps.push(looks);
        }
        assert_eq!(gaps, [3, 6, 12, 24, 48, LOOKS_MAX, LOOKS_MAX, LOOKS_MAX]);
    }
}
