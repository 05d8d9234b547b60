//! What a subscriber was told.

use std::sync::Arc;
use std::time::Duration;

use stanchion_core::{Change, Subscription};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::Instance;

/// A change that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Key(Vec<u8>),
    Tag(String),
    All,
    Interrupted,
    Resumed,
}

/// A subscription with what it has heard.
pub(super) struct Heard {
    told: UnboundedReceiver<Told>,
    pub(super) subscription: Option<Subscription>,
}

/// How long a change may be on its way, in real time.
const PATIENCE: Duration = Duration::from_secs(10);

impl Heard {
    /// What `store` hears from now on.
    pub(super) async fn by(store: &Instance) -> Self {
        let (tell, told) = unbounded_channel();
        let subscription = store.0.subscribe(Arc::new(move |change| {
            let told = match change {
                Change::Key(key) => Told::Key(key.to_vec()),
                Change::Tag(tag) => Told::Tag(tag.to_owned()),
                Change::All => Told::All,
                Change::Interrupted => Told::Interrupted,
                Change::Resumed => Told::Resumed,
            };
            tell.send(told).ok();
        }));
        let mut heard = Self { told, subscription: Some(subscription) };
        assert_eq!(heard.next().await, Some(Told::Resumed), "the first that is heard");
        heard
    }

    /// The next change; `None` if nothing more can come.
    pub(super) async fn next(&mut self) -> Option<Told> {
        tokio::time::timeout(PATIENCE, self.told.recv()).await.expect("a change is told")
    }

    /// Waits for all of these, in any order, among others; or for the word that it may have missed them.
    pub(super) async fn all(&mut self, expected: &[Told]) {
        self.all_and_never(expected, &[]).await;
    }

    /// The same, and none of the others on the way.
    pub(super) async fn all_and_never(&mut self, expected: &[Told], never: &[Told]) {
        let mut missing = expected.to_vec();
        while !missing.is_empty() {
            let told = self.next().await.expect("a subscription lasts");
            assert!(!never.contains(&told), "{told:?} was told");
            missing.retain(|change| *change != told);
            if told == Told::Interrupted {
                while self.next().await != Some(Told::Resumed) {}
                return;
            }
        }
    }
}
