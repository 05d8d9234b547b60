//! Keys that come back from the store.

use std::sync::Arc;

use stanchion_core::Key;

/// A key that has a byte form and can be read from it again: other instances name by it what was
/// invalidated.
///
/// ```
/// use stanchion_cache::RemoteKey;
/// use stanchion_core::Key;
///
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct Article { tenant: u32, id: u32 }
///
/// impl Key for Article {
///     fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
///         use_bytes(format!("{}:{}", self.tenant, self.id).as_bytes())
///     }
/// }
/// impl RemoteKey for Article {
///     fn from_bytes(bytes: &[u8]) -> Option<Self> {
///         let (tenant, id) = std::str::from_utf8(bytes).ok()?.split_once(':')?;
///         Some(Self { tenant: tenant.parse().ok()?, id: id.parse().ok()? })
///     }
/// }
/// ```
pub trait RemoteKey: Key + Sized {
    /// The key of these bytes. `None` if there is none: what is in memory is forgotten
    /// then, as nobody knows what was meant.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl RemoteKey for String {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok().map(Self::from)
    }
}

impl RemoteKey for Vec<u8> {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl<const N: usize> RemoteKey for [u8; N] {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok()
    }
}

macro_rules! integers {
    ($($int:ty)*) => { $(
        impl RemoteKey for $int {
            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_be_bytes)
            }
        }
    )* };
}
integers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);

/// A key's bytes, shared.
pub(super) fn bytes_of<K: Key>(key: &K) -> Arc<[u8]> {
    key.with_bytes(|bytes| Arc::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_back<K: RemoteKey + PartialEq>(key: &K) -> bool {
        K::from_bytes(&bytes_of(key)).is_some_and(|back| back == *key)
    }

    #[test]
    fn keys_come_back_and_other_bytes_are_none() {
        assert!(comes_back(&String::from("Ä")) && comes_back(&vec![0, 255]) && comes_back(&[1, 2]));
        assert!(comes_back(&7u8) && comes_back(&u128::MAX) && comes_back(&i64::MIN));
        assert_eq!(u64::from_bytes(&[1, 2, 3]), None);
        assert_eq!(String::from_bytes(&[0xff]), None);
    }
}
