//! How a change is told from one store to another.

use std::hash::{BuildHasher, RandomState};

/// A store among those of one name: a number that no other one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity([u8; 16]);

impl Identity {
    /// Of 128 bits, from the operating system's randomness.
    pub(super) fn random() -> Self {
        let half = || RandomState::new().hash_one("a store").to_le_bytes();
        let mut both = [0; 16];
        both[..8].copy_from_slice(&half());
        both[8..].copy_from_slice(&half());
        Self(both)
    }
}

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Key,
    Tag,
    All,
}

/// What is told: who did it, what kind of thing was changed, and which.
pub(super) fn message(from: Identity, kind: Kind, what: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(17 + what.len());
    message.extend_from_slice(&from.0);
    message.push(match kind {
        Kind::Key => b'k',
        Kind::Tag => b't',
        Kind::All => b'a',
    });
    message.extend_from_slice(what);
    message
}

/// Something that a listener is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Key(Vec<u8>),
    Tag(String),
    All,
    Interrupted,
    Resumed,
}

/// What a message says to a store: nothing if it is its own, `None` if it makes no sense.
pub(super) fn read(message: &[u8], own: Identity) -> Option<Option<Told>> {
    let (from, rest) = message.split_first_chunk::<16>()?;
    let (kind, what) = rest.split_first()?;
    let told = match kind {
        b'k' => Told::Key(what.to_vec()),
        b't' => Told::Tag(String::from_utf8(what.to_vec()).ok()?),
        b'a' if what.is_empty() => Told::All,
        _ => return None,
    };
    Some((*from != own.0).then_some(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_by_all_but_its_sender() {
        let (one, other) = (Identity::random(), Identity::random());
        assert_ne!(one, other);
        let key = message(one, Kind::Key, b"\0\xff");
        assert_eq!(read(&key, one), Some(None));
        assert_eq!(read(&key, other), Some(Some(Told::Key(b"\0\xff".to_vec()))));
        assert_eq!(read(&message(one, Kind::Tag, "ü".as_bytes()), other), Some(Some(Told::Tag("ü".to_owned()))));
        assert_eq!(read(&message(one, Kind::All, b""), other), Some(Some(Told::All)));
    }

    #[test]
    fn what_makes_no_sense_is_known() {
        let own = Identity::random();
        let garbage = [&b""[..], b"k", &[7; 16], &[7; 17], &[b'k'; 15]];
        assert!(garbage.iter().all(|message| read(message, own).is_none()));
        assert_eq!(read(&message(Identity([1; 16]), Kind::Tag, b"\xff"), own), None);
        assert_eq!(read(&message(Identity([1; 16]), Kind::All, b"x"), own), None);
    }
}
