//! Wires that are cut, slow or half-open, while the servers at their ends are well.

use std::time::Duration;

use crate::proxy::Wire;
use crate::roles::To;
use crate::scene::Scene;
use crate::stack::AI_TIMEOUT;
use crate::stop::Outcome;
use crate::wait;

/// All wires to one server so for a while, then whole again.
async fn all_wires(scene: &mut Scene, to: To, wire: Wire, ms: std::ops::Range<u64>) -> Outcome {
    scene.one_store_down(to != To::Ai);
    scene.stack.wire_all(to, wire);
    scene.hold_ms(ms).await;
    scene.stack.wire_all(to, Wire::Whole);
    scene.one_store_down(false);
    scene.healed();
    Ok(())
}

pub(super) async fn postgres_cut(scene: &mut Scene) -> Outcome {
    all_wires(scene, To::Postgres, Wire::Cut, 500..2500).await
}

pub(super) async fn nats_cut(scene: &mut Scene) -> Outcome {
    all_wires(scene, To::Nats, Wire::Cut, 500..2500).await
}

pub(super) async fn ai_cut(scene: &mut Scene) -> Outcome {
    // Shorter than all attempts of a call take.
    all_wires(scene, To::Ai, Wire::Cut, 200..500).await
}

pub(super) async fn postgres_silent(scene: &mut Scene) -> Outcome {
    all_wires(scene, To::Postgres, Wire::Silent, 4000..7000).await
}

pub(super) async fn nats_silent(scene: &mut Scene) -> Outcome {
    all_wires(scene, To::Nats, Wire::Silent, 4000..7000).await
}

pub(super) async fn ai_silent(scene: &mut Scene) -> Outcome {
    // Longer than a request may take: some run into their time-out, some are answered after all.
    let longest = u64::try_from(AI_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
    all_wires(scene, To::Ai, Wire::Silent, longest / 2..longest + 2000).await
}

pub(super) async fn postgres_slow(scene: &mut Scene) -> Outcome {
    slow_then_cut(scene, To::Postgres).await
}

pub(super) async fn nats_slow(scene: &mut Scene) -> Outcome {
    slow_then_cut(scene, To::Nats).await
}

/// Makes every commit and every acknowledgement take long, and cuts the wires in the middle of them:
/// most of what was under way is then half done.
async fn slow_then_cut(scene: &mut Scene, to: To) -> Outcome {
    for _ in 0..3 {
        let delay = scene.time_ms(100..250);
        scene.stack.wire_all(to, Wire::Slow(delay));
        scene.hold_ms(1200..2000).await;
        scene.stack.wire_all(to, Wire::Cut);
        wait::hold(Duration::from_millis(100)).await;
        scene.stack.wire_all(to, Wire::Whole);
        scene.hold_ms(200..500).await;
    }
    scene.healed();
    Ok(())
}

pub(super) async fn one_link(scene: &mut Scene) -> Outcome {
    let place = scene.dice.usize(..scene.stack.roles.len());
    let to = if scene.dice.bool() { To::Postgres } else { To::Nats };
    let wire = if scene.dice.bool() { Wire::Cut } else { Wire::Silent };
    let name = scene.role(place)?.name().to_owned();
    scene.notes.push(format!("{name} to {to:?}: {wire:?}"));
    scene.role(place)?.wires.set(to, wire);
    scene.one_store_down(true);
    scene.hold_ms(2000..6000).await;
    scene.one_store_down(false);
    scene.role(place)?.wires.set(to, Wire::Whole);
    scene.healed();
    Ok(())
}
