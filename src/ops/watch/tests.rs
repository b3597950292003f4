use super::Options;
use super::link::urls;
use super::screen::escaped;
use crate::domain::State;
use crate::ops::target::ApiOptions;

fn options(url: Option<&str>) -> Options {
    Options {
        states: Vec::new(),
        queues: Vec::new(),
        calls: Vec::new(),
        json: false,
        duration: None,
        count: None,
        api: ApiOptions { url: url.map(str::to_owned) },
        data_dir: "/nonexistent".into(),
    }
}

#[test]
fn what_is_asked_for_is_in_the_address_whatever_it_holds() {
    let asked = Options {
        states: vec![State::Failed, State::Archived],
        calls: vec!["a/b?c&d=é".to_owned()],
        ..options(Some("https://host/base/"))
    };
    assert_eq!(
        urls(&asked).unwrap(),
        [
            "wss://host/base/api/v1/ws/supervisor/callfleet-watch?state=FAILED&state=ARCHIVED&call_id=a%2Fb%3Fc%26d%3D%C3%A9"
        ]
    );
    assert!(urls(&options(Some("host:80"))).is_err());
}

#[test]
fn nobody_said_where_so_both_usual_places_are_tried() {
    let ports: Vec<bool> = urls(&options(None)).unwrap().iter().map(|url| url.contains(":800")).collect();
    assert_eq!(ports, [true, true]);
    assert_eq!(urls(&options(Some("http://127.0.0.1:8000"))).unwrap().len(), 1);
}

#[test]
fn a_call_id_does_not_steer_the_terminal() {
    assert_eq!(escaped("a\u{1b}[2J\u{202e}\u{9b}b"), "a\\u{1b}[2J\\u{202e}\\u{9b}b");
    assert_eq!(escaped("<a>\"'\\é 呼"), "<a>\"'\\é 呼");
}
