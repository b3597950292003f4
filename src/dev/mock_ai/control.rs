//! `/control`: how the service behaves, shown and changed while it runs.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Options;
use super::state::MockAi;
use crate::service::problem::Problem;

/// Longest latency and jitter that can be asked for: an hour is longer than any client waits.
const MAX_LATENCY_MS: u64 = 3_600_000;
/// Longest Retry-After that can be asked for.
const MAX_RETRY_AFTER_S: u64 = 3600;

/// The body of `GET` and `PUT /control`; a `PUT` may leave fields out and changes only those it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Share of requests answered 500, 0 to 1
    pub failure_rate: f64,
    /// Time before each answer
    pub latency_ms: u64,
    /// How far that time strays, both ways
    pub jitter_ms: u64,
    /// How requests are answered
    pub mode: Mode,
    /// What Retry-After says beside a 429
    pub retry_after_s: u16,
    /// Requests worked on at once, those over it get 429; `null` for any number
    pub capacity: Option<u32>,
    /// How often each Idempotency-Key is answered 500 before it is served; left out while it is 0
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fail_first: u32,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            failure_rate: 0.25,
            latency_ms: 50,
            jitter_ms: 0,
            mode: Mode::Normal,
            retry_after_s: 2,
            capacity: None,
            fail_first: 0,
        }
    }
}

/// The ways of answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Mode {
    /// A transcript after the latency, or 500 at the failure rate
    Normal,
    /// 503 at once
    Outage,
    /// 429 with Retry-After at once
    RateLimit,
    /// No answer until the client leaves
    Hang,
    /// The right answer, one byte at a time
    Drip,
    /// 200 with a body that is not JSON
    Garbage,
    /// 401 at once
    Unauthorized,
    /// The connection dropped without an answer
    Refuse,
}

/// The share of a flag such as `--failure-rate`.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is not a share: write a number from 0 to 1, such as 0.25"))
}

impl Control {
    /// What the flags ask for.
    pub(super) fn from_options(options: &Options) -> anyhow::Result<Self> {
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let asked = serde_json::json!({
            "failure_rate": options.failure_rate,
            "latency_ms": millis(options.latency),
            "jitter_ms": millis(options.jitter),
            "mode": options.mode,
            "retry_after_s": options.retry_after.as_secs(),
            "capacity": options.capacity,
            "fail_first": options.fail_first,
        });
        Self::default().with(&asked).map_err(|refused| anyhow::anyhow!("{}: {}", refused.field, refused.detail))
    }

    /// These settings with the fields of `change` put in.
    fn with(mut self, change: &Value) -> Result<Self, Refused> {
        let fields = change.as_object().ok_or_else(|| Refused::new("", "the body must be a JSON object"))?;
        for (name, value) in fields {
            match name.as_str() {
                "failure_rate" => {
                    self.failure_rate = value
                        .as_f64()
                        .filter(|rate| (0.0..=1.0).contains(rate))
                        .ok_or_else(|| Refused::new("failure_rate", "must be a number from 0 to 1"))?;
                }
                "latency_ms" => self.latency_ms = whole("latency_ms", value, MAX_LATENCY_MS)?,
                "jitter_ms" => self.jitter_ms = whole("jitter_ms", value, MAX_LATENCY_MS)?,
                "mode" => self.mode = mode(value)?,
                "retry_after_s" => self.retry_after_s = whole("retry_after_s", value, MAX_RETRY_AFTER_S)?,
                "capacity" if value.is_null() => self.capacity = None,
                "capacity" => self.capacity = Some(whole("capacity", value, u32::MAX.into())?),
                "fail_first" => self.fail_first = whole("fail_first", value, u32::MAX.into())?,
                unknown => return Err(Refused::new("", format!("there is no field `{unknown}`"))),
            }
        }
        Ok(self)
    }
}

#[derive(Debug)]
struct Refused {
    field: &'static str,
    detail: String,
}

impl Refused {
    fn new(field: &'static str, detail: impl Into<String>) -> Self {
        Self { field, detail: detail.into() }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let Refused { field, detail } = refused;
        if field.is_empty() {
            return Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_field", detail);
        }
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_field", format!("{field} {detail}")).field(field)
    }
}

fn whole<N: TryFrom<u64>>(field: &'static str, value: &Value, max: u64) -> Result<N, Refused> {
    let number = value.as_u64().filter(|number| *number <= max).and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| Refused::new(field, format!("must be a whole number from 0 to {max}")))
}

fn mode(value: &Value) -> Result<Mode, Refused> {
    Mode::deserialize(value).map_err(|_| {
        let names: Vec<_> = Mode::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect();
        let names: Vec<_> = names.iter().map(clap::builder::PossibleValue::get_name).collect();
        Refused::new("mode", format!("must be one of {}", names.join(", ")))
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// `GET /control`
pub(super) async fn show(State(mock): State<MockAi>) -> Json<Control> {
    Json(mock.control())
}

/// `PUT /control`: any content type, so that `curl -d` works as it is.
pub(super) async fn change(State(mock): State<MockAi>, body: Bytes) -> Result<Json<Control>, Problem> {
    let change: Value = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "not_json", format!("the body is not JSON: {error}")))?;
    let control = mock.change_control(|control| control.with(&change))?;
    tracing::info!(?control, "control changed");
    Ok(Json(control))
}
