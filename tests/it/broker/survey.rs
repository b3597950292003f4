use std::time::Duration;

use callfleet::broker::survey;
use callfleet::domain::Lane;
use callfleet::wire::outgoing::Outgoing;

use super::scratch::Scratch;

fn message(subject: &str) -> Outgoing {
    Outgoing {
        msg_id: subject.to_owned(),
        subject: subject.to_owned(),
        payload: format!("body of {subject}").into(),
        replaces: false,
    }
}

#[tokio::test]
async fn a_survey_counts_what_waits_and_what_is_held() {
    let scratch = Scratch::bare().await;
    assert_eq!(survey::take(&scratch.broker).await.unwrap().streams, [], "nothing is there yet");
    let jobs: Vec<_> = (0..5).map(|n| message(&format!("call.work.live.t.{n}"))).collect();
    scratch.broker.publish(&jobs).await;
    let mut pull = scratch.broker.consumer(Lane::Live).pull(2, Duration::from_secs(5)).await.unwrap();
    pull.next().await.unwrap().unwrap();
    pull.next().await.unwrap().unwrap();
    let survey = survey::take(&scratch.broker).await.unwrap();
    assert_eq!(survey.stream("CALL_WORK").unwrap().messages, 5);
    assert_eq!(survey.stream("CALL_STATE").unwrap().messages, 0);
    let live = survey.consumers.iter().find(|consumer| consumer.lane == "live").unwrap();
    assert_eq!((live.pending, live.ack_pending), (3, 2));
    scratch.end().await;
}

#[tokio::test]
async fn dead_letters_are_listed_shown_and_deleted_one_by_one() {
    let scratch = Scratch::bare().await;
    assert_eq!(survey::dead_letter_subjects(&scratch.broker).await.unwrap(), Vec::<String>::new());
    let subjects = ["call.dlq.invalid.t.b.1", "call.dlq.permanent.t.a.1", "call.dlq.permanent.t.a.2"];
    let letters: Vec<_> = subjects.iter().map(|subject| message(subject)).collect();
    assert!(scratch.broker.publish(&letters).await.iter().all(Result::is_ok));
    assert!(scratch.broker.publish(&letters).await.iter().all(Result::is_ok), "twice is once");
    assert_eq!(survey::dead_letter_subjects(&scratch.broker).await.unwrap(), subjects);
    let [first, ..] = subjects;
    let body = survey::dead_letter(&scratch.broker, first).await.unwrap();
    assert_eq!(body.unwrap(), format!("body of {first}"));
    assert!(survey::delete_dead_letter(&scratch.broker, first).await.unwrap());
    assert!(!survey::delete_dead_letter(&scratch.broker, first).await.unwrap());
    assert_eq!(survey::dead_letter(&scratch.broker, first).await.unwrap(), None);
    assert_eq!(survey::dead_letter_subjects(&scratch.broker).await.unwrap(), subjects[1..]);
    scratch.end().await;
}
