//! The AI service misbehaves.

use serde_json::json;

use crate::ai::Ai;
use crate::findings::Sort;
use crate::scene::Scene;
use crate::stop::Outcome;

pub(super) async fn kill(scene: &mut Scene) -> Outcome {
    scene.stack.ai.kill().await?;
    scene.hold_ms(100..400).await;
    scene.stack.ai.role.start()?;
    scene.healed();
    Ok(())
}

pub(super) async fn garbage(scene: &mut Scene) -> Outcome {
    let_calls_die(scene).await?;
    scene.healed();
    Ok(())
}

/// Answers garbage until a few calls are given up, each with its letter.
pub(super) async fn let_calls_die(scene: &mut Scene) -> Outcome {
    let name = crate::load::prefix(scene.round);
    scene.stack.ai.control(&json!({ "mode": "garbage" })).await?;
    let dead = format!("SELECT count(*) FROM calls WHERE ai_status = 'DEAD_LETTERED' AND call_id LIKE '{name}%'");
    let died = scene.until_some("a call whose answers are garbage is given up", &dead).await;
    scene.stack.ai.control(&Ai::normal()).await?;
    died
}

pub(super) async fn hang(scene: &mut Scene) -> Outcome {
    for mode in ["hang", "drip", "refuse"] {
        scene.stack.ai.control(&json!({ "mode": mode })).await?;
        scene.hold_ms(300..700).await;
    }
    scene.stack.ai.control(&Ai::normal()).await?;
    scene.healed();
    Ok(())
}

pub(super) async fn outage(scene: &mut Scene) -> Outcome {
    let since = chrono::Utc::now();
    scene.stack.ai.control(&json!({ "mode": "outage" })).await?;
    // Five attempts, 0.2 + 0.4 + 0.8 + 1.6 s apart, and some.
    scene.hold_ms(8000..10_000).await;
    scene.stack.ai.control(&Ai::normal()).await?;
    scene.healed();
    let dead = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM dead_letters WHERE at >= $1");
    let dead = dead.bind(since).fetch_one(scene.stack.pool()).await?;
    if dead > 0 {
        scene.found(Sort::Broken, format!("an outage of the AI service put {dead} calls into the dead letters"));
    }
    Ok(())
}
