//! A cache as its definition has it.

use std::time::Duration;

use stanchion_core::{Fence, NewValue, StoredValue};

/// All that ever happened, in its order. It is right by being naive: each question is answered by
/// reading the history from its end.
#[derive(Debug, Default)]
pub(super) struct Model {
    history: Vec<Event>,
}

#[derive(Debug)]
enum Event {
    Granted { key: Vec<u8>, fence: Fence, at: Duration, until: Duration },
    Renewed { fence: Fence, until: Duration },
    Released { key: Vec<u8> },
    Stored { key: Vec<u8>, born: Duration, since: usize, keep_for: Duration, value: StoredValue },
    Invalidated { key: Vec<u8> },
    InvalidatedTag { tag: String },
    Cleared,
}

/// A lease that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) fence: Fence,
    pub(super) until: Duration,
    at: Duration,
    /// Its place in the history.
    place: usize,
}

impl Model {
    pub(super) fn get(&self, key: &[u8], now: Duration) -> Option<StoredValue> {
        let stored =
            self.history.iter().rposition(|event| matches!(event, Event::Stored { key: of, .. } if *of == key));
        let stored = stored?;
        let Event::Stored { born, since, keep_for, value, .. } = &self.history[stored] else { return None };
        let invalidated = |event: &Event| matches!(event, Event::Invalidated { key: of } if *of == key);
        let gone = now >= born.saturating_add(*keep_for)
            || self.history[stored..].iter().any(invalidated)
            || self.is_void(*since, &value.tags);
        (!gone).then(|| StoredValue { age: now - *born, ..value.clone() })
    }

    pub(super) fn standing(&self, key: &[u8], now: Duration) -> Option<Standing> {
        let granted = |event: &Event| matches!(event, Event::Granted { key: of, .. } if *of == key);
        let place = self.history.iter().rposition(granted)?;
        let Event::Granted { fence, at, mut until, .. } = self.history[place] else { return None };
        for event in &self.history[place + 1..] {
            match event {
                Event::Renewed { fence: of, until: later } if *of == fence => until = *later,
                Event::Cleared => return None,
                Event::Released { key: of } | Event::Stored { key: of, .. } | Event::Invalidated { key: of }
                    if *of == key =>
                {
                    return None;
                }
                _ => {}
            }
        }
        (now < until).then_some(Standing { fence, until, at, place })
    }

    pub(super) fn grant(&mut self, key: &[u8], fence: Fence, now: Duration, duration: Duration) {
        self.history.push(Event::Granted { key: key.to_vec(), fence, at: now, until: now.saturating_add(duration) });
    }

    pub(super) fn renew(&mut self, key: &[u8], fence: Fence, now: Duration, duration: Duration) -> bool {
        let holds = self.standing(key, now).is_some_and(|standing| standing.fence == fence);
        if holds {
            self.history.push(Event::Renewed { fence, until: now.saturating_add(duration) });
        }
        holds
    }

    pub(super) fn release(&mut self, key: &[u8], fence: Fence, now: Duration) -> bool {
        let holds = self.standing(key, now).is_some_and(|standing| standing.fence == fence);
        if holds {
            self.history.push(Event::Released { key: key.to_vec() });
        }
        holds
    }

    pub(super) fn put(&mut self, key: &[u8], fence: Fence, value: NewValue<'_>, now: Duration) -> bool {
        let Some(standing) = self.standing(key, now).filter(|standing| standing.fence == fence) else { return false };
        let allowed = !self.is_void(standing.place, value.tags);
        if allowed {
            self.store(key, value, standing.at, standing.place);
        } else {
            self.history.push(Event::Released { key: key.to_vec() });
        }
        allowed
    }

    pub(super) fn insert(&mut self, key: &[u8], value: NewValue<'_>, now: Duration) {
        self.store(key, value, now, self.history.len());
    }

    pub(super) fn invalidate(&mut self, key: &[u8]) {
        self.history.push(Event::Invalidated { key: key.to_vec() });
    }

    pub(super) fn invalidate_tag(&mut self, tag: &str) {
        self.history.push(Event::InvalidatedTag { tag: tag.to_owned() });
    }

    pub(super) fn clear(&mut self) {
        self.history.push(Event::Cleared);
    }

    fn store(&mut self, key: &[u8], value: NewValue<'_>, born: Duration, since: usize) {
        let tags = value.tags.iter().map(|&tag| tag.to_owned()).collect();
        let stored = StoredValue { bytes: value.bytes.to_vec(), age: Duration::ZERO, fresh_for: value.fresh_for, tags };
        self.history.push(Event::Stored { key: key.to_vec(), born, since, keep_for: value.keep_for, value: stored });
    }

    /// Whether all was cleared, or one of these tags invalidated, since that place.
    fn is_void<T: AsRef<str>>(&self, since: usize, tags: &[T]) -> bool {
        self.history[since..].iter().any(|event| match event {
            Event::Cleared => true,
            Event::InvalidatedTag { tag } => tags.iter().any(|of| of.as_ref() == tag),
            _ => false,
        })
    }
}
