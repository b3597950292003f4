//! Several faults at once, as a bad day has them.

use nix::sys::signal::Signal;

use crate::proxy::Wire;
use crate::roles::To;
use crate::scene::Scene;
use crate::stop::Outcome;

pub(super) async fn storm(scene: &mut Scene) -> Outcome {
    scene.stack.load.shared.set_may_be_silent(true);
    for _ in 0..scene.dice.usize(4..9) {
        let place = scene.dice.usize(..scene.stack.roles.len());
        let name = scene.role(place)?.name().to_owned();
        let did = match scene.dice.usize(..8) {
            0 | 1 => {
                scene.role(place)?.kill().await?;
                scene.role(place)?.start()?;
                format!("{name} killed")
            }
            2 => {
                scene.role(place)?.signal(Signal::SIGSTOP)?;
                format!("{name} paused")
            }
            3 => {
                scene.stack.postgres.kill().await?;
                scene.stack.postgres.start_again().await?;
                "PostgreSQL killed".to_owned()
            }
            4 => {
                let all = scene.stack.nats.all();
                scene.stack.nats.kill(&all).await?;
                scene.stack.nats.start_again().await?;
                "NATS killed".to_owned()
            }
            5 => {
                let to = if scene.dice.bool() { To::Postgres } else { To::Nats };
                scene.role(place)?.wires.set(to, Wire::Silent);
                format!("{name} to {to:?} silent")
            }
            6 => {
                scene.stack.wire_all(To::Ai, Wire::Cut);
                "AI cut".to_owned()
            }
            _ => {
                let delay = scene.time_ms(20..200);
                scene.role(place)?.wires.set(To::Postgres, Wire::Slow(delay));
                format!("{name} to PostgreSQL slow")
            }
        };
        scene.notes.push(did);
        scene.hold_ms(200..2000).await;
    }
    scene.stack.mend().await?;
    scene.healed();
    Ok(())
}
