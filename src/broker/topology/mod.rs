//! Streams and consumers: what is missing is created, what differs is shown, and changed only when
//! an operator says so.
//!
//! Roles call [`ensure`], which never changes or deletes what is there: two versions of Callfleet
//! side by side would flip it for ever. [`check`] and [`apply`] are the operator's; [`apply`]
//! deletes nothing either.

mod plan;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::api::{self, ApiError};
use super::connect::Broker;
pub use plan::BadPlan;
use plan::{Kind, Object};

/// Settings that the server never changes on what exists.
const FIXED: &[&str] =
    &["storage", "retention", "deliver_policy", "ack_policy", "replay_policy", "max_waiting", "mem_storage"];

/// Why the topology could not be read or made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TopologyError {
    /// JetStream failed or said no.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The program's own plan is wrong.
    #[error(transparent)]
    Plan(#[from] BadPlan),
}

impl TopologyError {
    /// Whether it may pass by itself.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Api(ApiError::Disconnected | ApiError::TimedOut { .. } | ApiError::NoJetStream))
    }
}

/// One setting that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `stream CALL_WORK` or `consumer CALL_WORK/live`.
    pub object: String,
    /// The server's name of the setting, or `exists` for an object that is missing.
    pub field: String,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub found: String,
}

/// What [`apply`] did to one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// `stream CALL_WORK` or `consumer CALL_WORK/live`.
    pub object: String,
    /// What became of it.
    pub action: Action,
    /// The settings that were changed.
    pub changed: Vec<String>,
    /// The settings that the server would not change, with its reason.
    pub refused: BTreeMap<String, String>,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It was missing.
    Created,
    /// It differed.
    Updated,
    /// It was as it should be, or could not be changed.
    Kept,
}

/// Creates the streams and consumers that are missing and says which; leaves the others as they are.
///
/// # Errors
/// When JetStream is away or refuses.
pub async fn ensure(broker: &Broker) -> Result<Vec<String>, TopologyError> {
    let _one_at_a_time = broker.inner().ensuring.lock().await;
    let mut created = Vec::new();
    for object in plan::objects(broker)? {
        if found(broker, &object).await?.is_none() && create(broker, &object).await? {
            tracing::info!(object = object.title(), "created what was missing in JetStream");
            metrics::counter!("callfleet_broker_topology_created_total").increment(1);
            created.push(object.title());
        }
    }
    Ok(created)
}

/// Compares what the server has with what it should have, setting by setting.
///
/// # Errors
/// When JetStream is away or refuses.
pub async fn check(broker: &Broker) -> Result<Vec<Difference>, TopologyError> {
    let mut differences = Vec::new();
    for object in plan::objects(broker)? {
        match found(broker, &object).await? {
            None => differences.push(Difference {
                object: object.title(),
                field: "exists".to_owned(),
                wanted: "yes".to_owned(),
                found: "no".to_owned(),
            }),
            Some(found) => differences.extend(compare(&object, &found)),
        }
    }
    Ok(differences)
}

/// Creates what is missing and changes what differs; deletes nothing, and says what the server
/// would not change.
///
/// # Errors
/// When JetStream is away, or refuses to create.
pub async fn apply(broker: &Broker) -> Result<Vec<Applied>, TopologyError> {
    let mut done = Vec::new();
    for object in plan::objects(broker)? {
        let mut applied =
            Applied { object: object.title(), action: Action::Kept, changed: Vec::new(), refused: BTreeMap::new() };
        match found(broker, &object).await? {
            None => {
                create(broker, &object).await?;
                applied.action = Action::Created;
            }
            Some(found) => update(broker, &object, found, &mut applied).await?,
        }
        done.push(applied);
    }
    Ok(done)
}

/// The settings of what is there, or none.
async fn found(broker: &Broker, object: &Object) -> Result<Option<Map<String, Value>>, ApiError> {
    let request = object.info_request();
    match api::ask(broker, &request, &json!({})).await {
        Ok(mut answer) => match answer.get_mut("config").map(Value::take) {
            Some(Value::Object(config)) => Ok(Some(config)),
            _ => Err(ApiError::unreadable(&request, "config")),
        },
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it was us who created it: somebody else may be faster, or have it with other settings.
async fn create(broker: &Broker, object: &Object) -> Result<bool, ApiError> {
    let wanted = &object.wanted;
    let created = match object.kind {
        Kind::Stream => api::ask(broker, &format!("STREAM.CREATE.{}", object.stream), &json!(wanted)).await,
        Kind::Consumer => {
            let body = json!({ "stream_name": object.stream, "config": wanted, "action": "create" });
            api::ask(broker, &consumer_request(object), &body).await
        }
    };
    match created {
        Ok(_) => Ok(true),
        Err(error) if error.is_name_in_use() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn update(
    broker: &Broker,
    object: &Object,
    found: Map<String, Value>,
    applied: &mut Applied,
) -> Result<(), ApiError> {
    let differing = compare(object, &found).into_iter().map(|difference| difference.field);
    let (fixed, changeable): (Vec<_>, Vec<_>) = differing.partition(|field| FIXED.contains(&field.as_str()));
    for field in fixed {
        applied.refused.insert(field, "the server cannot change this on what exists".to_owned());
    }
    if changeable.is_empty() {
        return Ok(());
    }
    let mut config = found;
    for field in &changeable {
        config.insert(field.clone(), object.wanted.get(field).cloned().unwrap_or_default());
    }
    let updated = match object.kind {
        Kind::Stream => api::ask(broker, &format!("STREAM.UPDATE.{}", object.stream), &json!(config)).await,
        Kind::Consumer => {
            let body = json!({ "stream_name": object.stream, "config": config, "action": "update" });
            api::ask(broker, &consumer_request(object), &body).await
        }
    };
    match updated {
        Ok(_) => {
            applied.action = Action::Updated;
            applied.changed = changeable;
        }
        Err(ApiError::Refused { reason, .. }) => {
            applied.refused.extend(changeable.into_iter().map(|field| (field, reason.clone())));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn consumer_request(object: &Object) -> String {
    format!("CONSUMER.CREATE.{}.{}", object.stream, object.name)
}

/// Every setting of the plan that the server has otherwise; the server leaves out what is at zero.
fn compare(object: &Object, found: &Map<String, Value>) -> Vec<Difference> {
    let differs = |field: &str, wanted: &Value| match found.get(field) {
        Some(found) => found != wanted,
        None => !is_zero(wanted),
    };
    let fields = object.wanted.iter().filter(|(field, wanted)| differs(field, wanted));
    fields
        .map(|(field, wanted)| Difference {
            object: object.title(),
            field: field.clone(),
            wanted: plan::shown(field, wanted),
            found: plan::shown(field, found.get(field).unwrap_or(&Value::Null)),
        })
        .collect()
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}
