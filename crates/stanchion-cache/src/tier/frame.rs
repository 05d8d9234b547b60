//! What lies around a value's bytes in the store.
//!
//! ```text
//! offset  0  'S' 'c'     that it is one of ours
//!         2  1           the frame's own version
//!         3  codec       whose bytes these are
//!         4  schema      of the user's type, u32
//!         8  flags       1 compressed, 2 there is no such thing, 4 weight, 8 version
//!         9  load time   in ms, u32
//!        13  checksum    CRC-32 of all the rest, u32
//!        17  weight      u64, if flagged; then the version, u64, if flagged
//!         …  payload
//! ```
//! Numbers are little-endian. Whatever is not exactly so is no value.

use std::time::Duration;

use super::codec::Codec;
use crate::loaded::Loaded;

const MAGIC: [u8; 3] = [b'S', b'c', 1];
const HEADER: usize = 17;
const COMPRESSED: u8 = 1;
const ABSENT: u8 = 2;
const WEIGHT: u8 = 4;
const VERSION: u8 = 8;

/// How values are framed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Framing {
    pub(super) schema: u32,
    pub(super) compress_above: Option<usize>,
    pub(super) max_bytes: usize,
}

/// Why there is nothing to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unstorable {
    NotEncoded,
    TooLarge,
}

/// A value out of a frame.
#[derive(Debug)]
pub(super) struct Unframed<V> {
    /// Without tags and time to live, which the store keeps beside it.
    pub(super) loaded: Loaded<V>,
    pub(super) load_time: Duration,
}

impl Framing {
    /// A loader's answer as bytes.
    pub(super) fn seal<V>(
        &self,
        codec: &dyn Codec<V>,
        loaded: &Loaded<V>,
        load_time: Duration,
    ) -> Result<Vec<u8>, Unstorable> {
        let payload = match &loaded.value {
            Some(value) => codec.encode(value).map_err(|_| Unstorable::NotEncoded)?,
            None => Vec::new(),
        };
        let (payload, mut flags) = self.squeezed(payload);
        if loaded.value.is_none() {
            flags |= ABSENT;
        }
        let mut bytes = Vec::with_capacity(HEADER + 16 + payload.len());
        bytes.extend(MAGIC);
        bytes.push(codec.number());
        bytes.extend(self.schema.to_le_bytes());
        bytes.push(0);
        bytes.extend(u32::try_from(load_time.as_millis()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend([0; 4]);
        if let Some(weight) = loaded.weight {
            flags |= WEIGHT;
            bytes.extend(weight.to_le_bytes());
        }
        if loaded.version > 0 {
            flags |= VERSION;
            bytes.extend(loaded.version.to_le_bytes());
        }
        bytes[8] = flags;
        bytes.extend(payload);
        if bytes.len() > self.max_bytes {
            return Err(Unstorable::TooLarge);
        }
        let sum = checksum(&bytes);
        bytes[13..HEADER].copy_from_slice(&sum.to_le_bytes());
        Ok(bytes)
    }

    /// The same back. `None` if it isn't what [`seal`](Self::seal) made, with the same codec and
    /// schema.
    pub(super) fn open<V>(&self, codec: &dyn Codec<V>, bytes: &[u8]) -> Option<Unframed<V>> {
        let (header, mut rest) = bytes.split_first_chunk::<HEADER>()?;
        let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let is_ours = header[..3] == MAGIC && header[3] == codec.number() && number(4) == self.schema;
        if !is_ours || number(13) != checksum(bytes) {
            return None;
        }
        let flags = header[8];
        let mut next = |flag| -> Option<Option<u64>> {
            if flags & flag == 0 {
                return Some(None);
            }
            let (number, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            Some(Some(u64::from_le_bytes(*number)))
        };
        let (weight, version) = (next(WEIGHT)?, next(VERSION)?);
        let value = match (flags & ABSENT != 0, flags & COMPRESSED != 0) {
            (true, _) => None,
            (false, true) => Some(codec.decode(&unsqueezed(rest, self.max_bytes)?).ok()?),
            (false, false) => Some(codec.decode(rest).ok()?),
        };
        let loaded = Loaded { value, weight, version: version.unwrap_or(0), ..Loaded::absent() };
        Some(Unframed { loaded, load_time: Duration::from_millis(number(9).into()) })
    }

    /// The payload, compressed if it is large enough and that makes it smaller.
    #[cfg(feature = "lz4")]
    fn squeezed(&self, payload: Vec<u8>) -> (Vec<u8>, u8) {
        if self.compress_above.is_some_and(|least| payload.len() >= least.max(1)) {
            let small = lz4_flex::compress_prepend_size(&payload);
            if small.len() < payload.len() {
                return (small, COMPRESSED);
            }
        }
        (payload, 0)
    }

    #[cfg(not(feature = "lz4"))]
    fn squeezed(&self, payload: Vec<u8>) -> (Vec<u8>, u8) {
        // Refused when the cache is built.
        debug_assert!(self.compress_above.is_none());
        (payload, 0)
    }
}

/// As long as a value may be that is uncompressed in so many bytes: LZ4 makes 255 of one.
#[cfg(feature = "lz4")]
fn unsqueezed(bytes: &[u8], max_bytes: usize) -> Option<Vec<u8>> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?);
    // Nobody is to make us reserve what can't be in there.
    let most = bytes.len().saturating_mul(255).min(max_bytes.saturating_mul(255));
    (usize::try_from(length).ok()? <= most).then(|| lz4_flex::decompress_size_prepended(bytes).ok())?
}

#[cfg(not(feature = "lz4"))]
fn unsqueezed(_: &[u8], _: usize) -> Option<Vec<u8>> {
    None
}

/// Of everything but its own place.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..13]);
    hasher.update(&bytes[HEADER..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tier::Raw;
    use proptest::prelude::*;

    const FRAMING: Framing = Framing { schema: 3, compress_above: None, max_bytes: 1_000 };

    fn seal(framing: &Framing, loaded: &Loaded<Vec<u8>>) -> Result<Vec<u8>, Unstorable> {
        framing.seal(&Raw, loaded, Duration::from_millis(70))
    }

    fn open(framing: &Framing, bytes: &[u8]) -> Option<Unframed<Vec<u8>>> {
        framing.open(&Raw, bytes)
    }

    #[test]
    fn another_schema_codec_or_version_is_no_value() {
        let bytes = seal(&FRAMING, &Loaded::new(vec![7])).unwrap();
        assert!(open(&FRAMING, &bytes).is_some());
        assert!(open(&Framing { schema: 4, ..FRAMING }, &bytes).is_none());
        for at in [2, 3] {
            let mut other = bytes.clone();
            other[at] += 1;
            // With a checksum that is right for it.
            let sum = checksum(&other);
            other[13..17].copy_from_slice(&sum.to_le_bytes());
            assert!(open(&FRAMING, &other).is_none(), "byte {at}");
        }
    }

    #[test]
    fn what_is_too_large_is_not_stored() {
        assert!(seal(&FRAMING, &Loaded::new(vec![7; 983])).is_ok());
        assert_eq!(seal(&FRAMING, &Loaded::new(vec![7; 984])).unwrap_err(), Unstorable::TooLarge);
    }

    #[cfg(feature = "lz4")]
    #[test]
    fn a_bomb_is_no_value_and_reserves_nothing() {
        let framing = Framing { compress_above: Some(100), ..FRAMING };
        let sealed = seal(&framing, &Loaded::new(vec![7; 10_000])).unwrap();
        assert!(sealed.len() < 200);
        assert_eq!(open(&framing, &sealed).unwrap().loaded.value, Some(vec![7; 10_000]));
        let mut bomb = sealed;
        bomb[17..21].copy_from_slice(&u32::MAX.to_le_bytes());
        let sum = checksum(&bomb);
        bomb[13..17].copy_from_slice(&sum.to_le_bytes());
        assert!(open(&framing, &bomb).is_none());
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened_and_what_was_changed_is_not(
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
            weight in any::<Option<u64>>(), version in any::<u64>(),
            compress in any::<bool>(), at in any::<prop::sample::Index>(), bit in 0..8,
        ) {
            let compress_above = (compress && cfg!(feature = "lz4")).then_some(50);
            let framing = Framing { compress_above, ..FRAMING };
            let loaded = Loaded { weight, version, ..Loaded::from(value.clone()) };
            let mut bytes = seal(&framing, &loaded).unwrap();
            let opened = open(&framing, &bytes).unwrap();
            prop_assert_eq!(opened.loaded.value, value);
            prop_assert_eq!((opened.loaded.weight, opened.loaded.version), (weight, version));
            prop_assert_eq!(opened.load_time, Duration::from_millis(70));
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert!(open(&framing, &bytes).is_none(), "byte {}", at);
            bytes.truncate(at);
            prop_assert!(open(&framing, &bytes).is_none());
        }

        #[test]
        fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(open(&FRAMING, &bytes).is_none());
        }
    }
}
