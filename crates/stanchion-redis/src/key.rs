//! How keys are called in Redis.

use sha2::{Digest, Sha256};
use stanchion_core::ConfigError;

/// Longer keys are hashed: Redis would keep every byte of them.
const LONGEST_PLAIN: usize = 128;

/// What all keys of a store begin with.
#[derive(Debug, Clone)]
pub(crate) struct Prefix(String);

impl Prefix {
    /// Refuses braces, which would move the hash tag.
    pub(crate) fn new(prefix: &str) -> Result<Self, ConfigError> {
        if prefix.contains(['{', '}']) {
            return Err(ConfigError::new("prefix", prefix, "must not contain braces"));
        }
        Ok(Self(prefix.to_owned()))
    }

    /// `prefix:family:{key}:name`. Keys that differ only in the name share a
    /// hash slot, since Redis hashes what is between the first braces.
    ///
    /// A key that is empty, long, has a closing brace or looks like a hash is
    /// replaced by `#` and its SHA-256, so that any bytes are a key.
    pub(crate) fn key(&self, family: &str, key: &[u8], name: &str) -> Vec<u8> {
        let mut full = Vec::with_capacity(self.0.len() + family.len() + key.len().min(LONGEST_PLAIN) + name.len() + 6);
        self.begin(family, &mut full);
        full.push(b'{');
        plain_or_hashed(key, &mut full);
        full.extend_from_slice(b"}:");
        full.extend_from_slice(name.as_bytes());
        full
    }

    /// `prefix:family:{name.part}:kind:key`, or without the last for what is the part's. Keys of
    /// one part share a hash slot, since Redis hashes what is between the first braces. Names and keys may be
    /// any bytes, as above.
    pub(crate) fn key_in_part(&self, family: &str, name: &[u8], part: u32, kind: &str, key: Option<&[u8]>) -> Vec<u8> {
        let longest = name.len().min(LONGEST_PLAIN) + key.map_or(0, |key| key.len().min(LONGEST_PLAIN));
        let mut full = Vec::with_capacity(self.0.len() + family.len() + kind.len() + longest + 16);
        self.begin(family, &mut full);
        full.push(b'{');
        plain_or_hashed(name, &mut full);
        full.extend_from_slice(format!(".{part}}}:").as_bytes());
        full.extend_from_slice(kind.as_bytes());
        if let Some(key) = key {
            full.push(b':');
            plain_or_hashed(key, &mut full);
        }
        full
    }

    /// `prefix:family:database:name`: what is told of a name is told here.
    pub(crate) fn channel(&self, family: &str, database: i64, name: &[u8]) -> Vec<u8> {
        let mut full = Vec::new();
        self.begin(family, &mut full);
        full.extend_from_slice(format!("{database}:").as_bytes());
        plain_or_hashed(name, &mut full);
        full
    }

    fn begin(&self, family: &str, full: &mut Vec<u8>) {
        full.extend_from_slice(self.0.as_bytes());
        full.push(b':');
        full.extend_from_slice(family.as_bytes());
        full.push(b':');
    }
}

fn plain_or_hashed(key: &[u8], full: &mut Vec<u8>) {
    if key.is_empty() || key.len() > LONGEST_PLAIN || key[0] == b'#' || key.contains(&b'}') {
        full.push(b'#');
        for byte in Sha256::digest(key) {
            full.push(HEX[usize::from(byte >> 4)]);
            full.push(HEX[usize::from(byte & 15)]);
        }
    } else {
        full.extend_from_slice(key);
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix() -> Prefix {
        Prefix::new("app").unwrap()
    }

    /// What Redis hashes: between the first `{` and the first `}` after it.
    fn slot_of(key: &[u8]) -> &[u8] {
        let open = key.iter().position(|&byte| byte == b'{').unwrap() + 1;
        let close = key[open..].iter().position(|&byte| byte == b'}').unwrap();
        &key[open..open + close]
    }

    #[test]
    fn a_plain_key_is_readable() {
        assert_eq!(prefix().key("rate", b"alice", "api"), b"app:rate:{alice}:api");
        assert_eq!(prefix().key_in_part("cache1", b"users", 3, "e", Some(b"alice")), b"app:cache1:{users.3}:e:alice");
        assert_eq!(prefix().key_in_part("cache1", b"users", 3, "s", None), b"app:cache1:{users.3}:s");
        assert_eq!(prefix().channel("cache1", 2, b"users"), b"app:cache1:2:users");
        assert_eq!(Prefix::new("a{b").unwrap_err().to_string(), "prefix is a{b: must not contain braces");
    }

    #[test]
    fn a_mebibyte_becomes_a_hash() {
        let long = vec![b'x'; 1 << 20];
        assert_eq!(prefix().key("rate", &long, "api").len(), "app:rate:{#}:api".len() + 64);
        let known = prefix().key("rate", b"", "api");
        assert_eq!(known, b"app:rate:{#e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}:api");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_key_of_their_own_in_one_slot(
            one in prop::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'#'), any::<u8>()], 0..200),
            other in prop::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'#'), any::<u8>()], 0..200),
        ) {
            let key = |key: &[u8], name| prefix().key("rate", key, name);
            let (second, hour) = (key(&one, "second"), key(&one, "hour"));
            prop_assert_eq!(slot_of(&second), slot_of(&hour));
            prop_assert!(!slot_of(&second).is_empty());
            prop_assert_eq!(key(&one, "x") == key(&other, "x"), one == other);

            // The same bytes as a cache's name and as keys in it.
            let part = |name: &[u8], part, key: &[u8]| prefix().key_in_part("cache1", name, part, "e", Some(key));
            let (here, there, elsewhere) = (part(&one, 7, &one), part(&one, 7, &other), part(&one, 17, &one));
            prop_assert_eq!(slot_of(&here), slot_of(&there));
            prop_assert_ne!(slot_of(&here), slot_of(&elsewhere));
            prop_assert_eq!(part(&one, 7, b"k") == part(&other, 7, b"k"), one == other);
            prop_assert_eq!(part(b"n", 7, &one) == part(b"n", 7, &other), one == other);
            let channel = |name: &[u8]| prefix().channel("cache1", 0, name);
            prop_assert_eq!(channel(&one) == channel(&other), one == other);
        }
    }
}
