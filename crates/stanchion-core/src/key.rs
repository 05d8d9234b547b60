//! The bytes by which a store knows a key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A key with a byte form, which is how a store outside this process knows it.
///
/// The bytes must be equal exactly when the keys are. They may be any bytes,
/// of any length.
///
/// ```
/// use stanchion_core::Key;
///
/// struct Tenant { id: u64 }
///
/// impl Key for Tenant {
///     fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
///         self.id.with_bytes(use_bytes)
///     }
/// }
/// assert_eq!(Tenant { id: 1 }.with_bytes(<[u8]>::len), 8);
/// ```
pub trait Key {
    /// Hands the key's bytes to `use_bytes`.
    fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T;
}

impl Key for [u8] {
    fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        use_bytes(self)
    }
}

impl Key for str {
    fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        use_bytes(self.as_bytes())
    }
}

impl<K: Key + ?Sized> Key for &K {
    fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        (**self).with_bytes(use_bytes)
    }
}

impl Key for String {
    fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        self.as_str().with_bytes(use_bytes)
    }
}

impl Key for Vec<u8> {
    fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        self.as_slice().with_bytes(use_bytes)
    }
}

impl<const N: usize> Key for [u8; N] {
    fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        use_bytes(self)
    }
}

/// Big-endian, so that stores show the digits in reading order.
macro_rules! integers {
    ($($int:ty)*) => { $(
        impl Key for $int {
            fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
                use_bytes(&self.to_be_bytes())
            }
        }
    )* };
}
integers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);

impl Key for Ipv4Addr {
    fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        use_bytes(&self.octets())
    }
}

impl Key for Ipv6Addr {
    fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        use_bytes(&self.octets())
    }
}

/// 4 octets or 16: the two families never meet.
impl Key for IpAddr {
    fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Self::V4(address) => address.with_bytes(use_bytes),
            Self::V6(address) => address.with_bytes(use_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: &(impl Key + ?Sized)) -> Vec<u8> {
        key.with_bytes(<[u8]>::to_vec)
    }

    #[test]
    fn owned_and_borrowed_keys_are_the_same() {
        assert_eq!(bytes("ab"), bytes(&String::from("ab")));
        assert_eq!(bytes(&b"ab"[..]), bytes(&Vec::from("ab")));
    }

    #[test]
    fn addresses_of_two_families_never_meet() {
        let four: IpAddr = "127.0.0.1".parse().unwrap();
        let six: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        assert_ne!(bytes(&four), bytes(&six));
    }
}
