//! What an answer of the AI service means. Pure, and one table.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::Value;

use crate::domain::policy::RETRY_AFTER_MAX;
use crate::domain::{Class, Failure, Stage};
use crate::wire;

/// Characters of an error's code that are kept; a longer one is no code.
const CODE_MAX_CHARS: usize = 64;

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A transcript.
    Answered(Answer),
    /// None.
    Failed(Failed),
}

/// A readable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its HTTP status.
    pub http_status: u16,
    /// The transcript.
    pub transcript: String,
    /// The whole answer as it came.
    pub response: String,
}

/// A failure, and how long the service asked us to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What happened.
    pub failure: Failure,
    /// What Retry-After said, at most [`RETRY_AFTER_MAX`].
    pub wait: Option<Duration>,
}

impl Failed {
    /// A failure without an answer: nobody there, connection lost, out of time.
    #[must_use]
    pub fn unanswered(message: &str) -> Self {
        Self { failure: Failure::new(Class::Transient, Stage::Ask, None, message), wait: None }
    }

    /// An answer of which not enough could be read.
    #[must_use]
    pub fn unreadable(http_status: u16, message: &str) -> Self {
        Self { failure: Failure::new(Class::Invalid, Stage::Ask, Some(http_status), message), wait: None }
    }
}

/// Takes an answer apart: its status, its Retry-After and its body.
#[must_use]
pub fn classify(status: u16, retry_after: Option<&str>, body: &[u8], now: DateTime<Utc>) -> Outcome {
    if (200..300).contains(&status) {
        return match wire::ai::read(body) {
            Ok((transcript, response)) => Outcome::Answered(Answer { http_status: status, transcript, response }),
            Err(why) => Outcome::Failed(Failed::unreadable(status, &why)),
        };
    }
    let wait = retry_after.and_then(|text| read_retry_after(text, now));
    let code = error_code(body);
    let class = class_of(status, wait.is_some(), code.as_deref());
    let message = match &code {
        Some(code) => format!("the AI service answered {status} {code}"),
        None => format!("the AI service answered {status}"),
    };
    Outcome::Failed(Failed { failure: Failure::new(class, Stage::Ask, Some(status), &message), wait })
}

fn class_of(status: u16, told_to_wait: bool, code: Option<&str>) -> Class {
    match status {
        429 if code.is_some_and(means_quota) => Class::Account,
        429 => Class::Busy,
        503 if told_to_wait => Class::Busy,
        // 407 is a proxy that refuses our account.
        401 | 402 | 403 | 407 => Class::Account,
        // 421, 423, 424 (misdirected, locked, failed dependency) are about the moment too.
        408 | 409 | 425 | 421 | 423 | 424 => Class::Transient,
        // RFC 9110 15: an unknown 4xx is a 400.
        400..=499 | 501 => Class::Permanent,
        // 5xx; a redirect, which is not followed because it would take the packets elsewhere, and
        // which may be a maintenance page; and statuses outside of HTTP, which count as 5xx.
        _ => Class::Transient,
    }
}

/// Seconds or an HTTP date; none when it is neither.
fn read_retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let wait = match seconds {
        Some(seconds) => Duration::from_secs_f64(seconds.min(RETRY_AFTER_MAX.as_secs_f64())),
        None => (http_date(text)? - now).to_std().unwrap_or(Duration::ZERO),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The three forms that RFC 9110 5.6.7 asks a recipient to read.
fn http_date(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(date) = DateTime::parse_from_rfc2822(text) {
        return Some(date.to_utc());
    }
    ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .map(|date| date.and_utc())
}

/// The code of an error body, such as `{"error":{"code":"insufficient_quota"}}`. Only what looks
/// like a code: the body itself may repeat the packets, and is never kept.
fn error_code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = body.get("error").filter(|error| error.is_object()).unwrap_or(&body);
    let codes = ["code", "type", "error", "status"].into_iter().filter_map(|field| error.get(field)?.as_str());
    let mut codes = codes.filter(|code| looks_like_a_code(code));
    // A quota code in any of the fields says more than the first field.
    let first = codes.next()?;
    Some(std::iter::once(first).chain(codes).find(|code| means_quota(code)).unwrap_or(first).to_owned())
}

fn looks_like_a_code(text: &str) -> bool {
    (1..=CODE_MAX_CHARS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// Whether a code says that the account is used up, in any spelling: waiting does not help.
fn means_quota(code: &str) -> bool {
    let letters: String = code.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect();
    let stems = ["insufficientquota", "quotaexceeded", "billing", "insufficientfunds", "insufficientcredit"];
    stems.iter().any(|stem| letters.contains(stem))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, Utc};

    use super::{Outcome, classify};
    use crate::domain::Class;

    fn now() -> DateTime<Utc> {
        "2026-03-04T10:00:00Z".parse().unwrap()
    }

    fn ended(status: u16, retry_after: Option<&str>, body: &str) -> (Class, Option<Duration>) {
        match classify(status, retry_after, body.as_bytes(), now()) {
            Outcome::Answered(_) => (Class::Done, None),
            Outcome::Failed(failed) => {
                assert_eq!(failed.failure.http_status, Some(status));
                (failed.failure.class, failed.wait)
            }
        }
    }

    #[test]
    fn every_status_has_its_class() {
        let table: &[(Class, &[u16])] = &[
            (
                Class::Transient,
                &[408, 409, 425, 421, 423, 424, 500, 502, 503, 504, 505, 511, 599, 300, 301, 302, 307, 308, 999],
            ),
            (Class::Busy, &[429]),
            (Class::Account, &[401, 402, 403, 407]),
            (Class::Permanent, &[400, 404, 405, 406, 410, 411, 413, 414, 415, 418, 422, 431, 451, 499, 501]),
            (Class::Invalid, &[200, 201, 202, 204]),
        ];
        for (class, statuses) in table {
            for status in *statuses {
                assert_eq!(ended(*status, None, "").0, *class, "{status}");
            }
        }
    }

    #[test]
    fn an_answer_counts_only_when_its_transcript_can_be_read() {
        assert_eq!(ended(200, None, r#"{"transcript":"hi","more":[1]}"#).0, Class::Done);
        for garbage in [
            "",
            "null",
            "[]",
            r#"{"transcript":null}"#,
            r#"{"transcript":7}"#,
            r#"{"text":"hi"}"#,
            "{\"transcript\": \"h",
        ] {
            assert_eq!(ended(200, None, garbage).0, Class::Invalid, "{garbage}");
        }
    }

    #[test]
    fn a_spent_account_is_not_a_full_service() {
        let body = |code: &str| format!(r#"{{"error":{{"message":"no","type":"x","code":"{code}"}}}}"#);
        for code in [
            "insufficient_quota",
            "quota_exceeded",
            "quotaExceeded",
            "billing_hard_limit_reached",
            "billing-not-active",
        ] {
            assert_eq!(ended(429, Some("1"), &body(code)).0, Class::Account, "{code}");
            assert_eq!(ended(429, None, &format!(r#"{{"type":"{code}"}}"#)).0, Class::Account, "{code}");
            assert_eq!(ended(429, None, &format!(r#"{{"error":"{code}"}}"#)).0, Class::Account, "{code}");
        }
        for code in ["rate_limit_exceeded", "rateLimitExceeded", "slow_down", ""] {
            assert_eq!(ended(429, None, &body(code)).0, Class::Busy, "{code}");
        }
        assert_eq!(ended(429, None, "quota_exceeded, says a page that is not JSON").0, Class::Busy);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_capped() {
        for (text, seconds) in [
            ("7", 7),
            (" 0 ", 0),
            ("100000", 120),
            ("Wed, 04 Mar 2026 10:00:30 GMT", 30),
            ("Wednesday, 04-Mar-26 10:00:30 GMT", 30),
            ("Wed Mar  4 10:00:30 2026", 30),
            ("Wed, 04 Mar 2026 09:00:00 GMT", 0),
            ("Fri, 04 Mar 2033 10:00:00 GMT", 120),
        ] {
            for status in [429, 503] {
                assert_eq!(ended(status, Some(text), ""), (Class::Busy, Some(Duration::from_secs(seconds))), "{text}");
            }
        }
        for text in ["soon", "-1", "NaN", "inf", ""] {
            assert_eq!(ended(429, Some(text), ""), (Class::Busy, None), "{text}");
            assert_eq!(ended(503, Some(text), ""), (Class::Transient, None), "{text}");
        }
    }

    #[test]
    fn no_part_of_a_body_but_a_code_gets_into_the_message() {
        for body in [
            r#"{"error":{"message":"cannot transcribe: my card is 4111","code":"bad_input"}}"#,
            r#""my card is 4111""#,
            r#"{"error":"my card is 4111"}"#,
            r#"{"transcript":{"my card is":4111}}"#,
        ] {
            for status in [200, 422, 500] {
                let Outcome::Failed(failed) = classify(status, None, body.as_bytes(), now()) else { panic!("{body}") };
                assert!(!failed.failure.message.contains("card"), "{}", failed.failure.message);
                assert!(!failed.failure.message.contains("4111"), "{}", failed.failure.message);
            }
        }
        let Outcome::Failed(failed) = classify(500, None, br#"{"error":{"code":"bad_input"}}"#, now()) else {
            panic!()
        };
        assert!(failed.failure.message.ends_with("500 bad_input"));
    }
}
