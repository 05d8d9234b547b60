//! Who is told what.

use super::heard::{Heard, Told};
use super::{Subject, any_bytes, value};

/// Of every kind of change, to all others of the name and to nobody else.
pub async fn others_are_told_and_not_oneself(subject: &Subject) {
    let [one, two, three] = ["told"; 3].map(|name| subject.store(name));
    let stranger = subject.store("told-stranger");
    let mut by_one = Heard::by(&one).await;
    let (mut by_two, mut by_three) = (Heard::by(&two).await, Heard::by(&three).await);
    let mut by_stranger = Heard::by(&stranger).await;

    let own = [Told::Key(b"inserted".to_vec()), Told::Key(b"gone".to_vec()), Told::Tag("ü".to_owned()), Told::All];
    one.insert(b"inserted", value(b"v", &["tag"])).await;
    one.invalidate(b"gone").await;
    one.invalidate_tag("ü").await;
    one.clear().await;
    by_two.all(&own).await;
    by_three.all(&own).await;
    // Who loads changes nothing that others can have.
    let fence = one.lease(b"loaded").await;
    assert!(one.put(b"loaded", fence, value(b"v", &[])).await);
    two.invalidate_tag("end").await;
    stranger.invalidate_tag("strange").await;
    let end = [Told::Tag("end".to_owned())];
    let mut never = own.to_vec();
    never.push(Told::Key(b"loaded".to_vec()));
    by_one.all_and_never(&end, &never).await;
    by_three.all(&end).await;
    for key in any_bytes() {
        two.invalidate(&key).await;
        two.invalidate_tag(&String::from_utf8_lossy(&key)).await;
        by_one.all(&[Told::Key(key.clone()), Told::Tag(String::from_utf8_lossy(&key).into_owned())]).await;
    }
    let last = subject.store("told-stranger");
    last.invalidate_tag("end").await;
    never.push(Told::Tag("strange".to_owned()));
    by_stranger.all_and_never(&end, &never).await;
}

/// And what is changed afterwards is told to the others only.
pub async fn an_ended_subscription_lets_go_of_its_listener(subject: &Subject) {
    let [one, two, three] = ["told-end"; 3].map(|name| subject.store(name));
    let (mut by_one, mut by_two) = (Heard::by(&one).await, Heard::by(&two).await);
    by_one.subscription = None;
    assert_eq!(by_one.next().await, None);
    three.invalidate(b"k").await;
    by_two.all(&[Told::Key(b"k".to_vec())]).await;
    // Several of one store, each by itself; and one can begin anew.
    let (mut again, mut twice) = (Heard::by(&one).await, Heard::by(&one).await);
    three.clear().await;
    for heard in [&mut again, &mut twice, &mut by_two] {
        heard.all(&[Told::All]).await;
    }
    again.subscription = None;
    assert_eq!(again.next().await, None);
    three.invalidate(b"k").await;
    twice.all(&[Told::Key(b"k".to_vec())]).await;
}
