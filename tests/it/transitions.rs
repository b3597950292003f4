//! The table of legal steps, in code and in the database.

use callfleet::domain::State;

use crate::world::World;

#[tokio::test]
async fn code_and_database_hold_the_same_table_of_steps() {
    let world = World::new().await;
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT from_state, to_state FROM call_transitions_allowed")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    for from in State::ALL {
        for to in State::ALL {
            let is_listed = rows.iter().any(|(f, t)| f == from.as_str() && t == to.as_str());
            assert_eq!(is_listed, from.may_become(to), "{from} to {to}");
        }
    }
    assert!(rows.iter().all(|(from, to)| from.parse::<State>().is_ok() && to.parse::<State>().is_ok()));
    world.finish().await;
}

/// A row in each state, with whatever its constraints ask for.
fn columns(state: State) -> &'static str {
    match state {
        State::InProgress => {
            "state = 'IN_PROGRESS', ai_status = 'NONE', lease_token = NULL, lease_until = NULL, next_attempt_at = NULL, completed_at = NULL, archived_at = NULL"
        }
        State::Completed => {
            "state = 'COMPLETED', ai_status = 'PENDING', lease_token = NULL, lease_until = NULL, next_attempt_at = NULL, completed_at = now(), archived_at = NULL"
        }
        State::ProcessingAi => {
            "state = 'PROCESSING_AI', ai_status = 'RUNNING', lease_token = gen_random_uuid(), lease_until = now(), next_attempt_at = NULL, completed_at = now(), archived_at = NULL"
        }
        State::Failed => {
            "state = 'FAILED', ai_status = 'RETRY_SCHEDULED', lease_token = NULL, lease_until = NULL, next_attempt_at = now(), completed_at = now(), archived_at = NULL"
        }
        State::Archived => {
            "state = 'ARCHIVED', ai_status = 'SUCCEEDED', lease_token = NULL, lease_until = NULL, next_attempt_at = NULL, completed_at = now(), archived_at = now()"
        }
    }
}

#[tokio::test]
async fn the_database_takes_every_legal_step_and_refuses_every_other() {
    let world = World::new().await;
    for from in State::ALL {
        for to in State::ALL {
            let key = world.open(&format!("{from} to {to}"), &[]).await;
            let mut tx = world.pool.begin().await.unwrap();
            let set = |columns, version| {
                format!("UPDATE calls SET {columns}, version = {version} WHERE key = '{}'", key.as_uuid())
            };
            // Into the state it starts from, past the guard.
            sqlx::query("ALTER TABLE calls DISABLE TRIGGER calls_guard").execute(&mut *tx).await.unwrap();
            sqlx::query(sqlx::AssertSqlSafe(set(columns(from), 2))).execute(&mut *tx).await.unwrap();
            sqlx::query("ALTER TABLE calls ENABLE TRIGGER calls_guard").execute(&mut *tx).await.unwrap();
            let step = sqlx::query(sqlx::AssertSqlSafe(set(columns(to), 3))).execute(&mut *tx).await;
            // Staying (PROCESSING_AI apart) is no step: metadata may change in every state.
            let is_legal = from == to || from.may_become(to);
            assert_eq!(step.is_ok(), is_legal, "{from} to {to}: {step:?}");
            if let Err(error) = step {
                let constraint = error.as_database_error().and_then(sqlx::error::DatabaseError::constraint);
                assert_eq!(constraint, Some("calls_legal_transition"));
            }
            tx.rollback().await.unwrap();
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn the_database_refuses_versions_that_jump_and_stay() {
    let world = World::new().await;
    let key = world.open("c", &[]).await;
    for version in [1, 3] {
        let update = sqlx::query("UPDATE calls SET queue = 'sales', version = $2 WHERE key = $1");
        let refused = update.bind(key.as_uuid()).bind(version).execute(&world.pool).await.unwrap_err();
        let constraint = refused.as_database_error().and_then(sqlx::error::DatabaseError::constraint);
        assert_eq!(constraint, Some("calls_version_contiguous"));
    }
    world.finish().await;
}
