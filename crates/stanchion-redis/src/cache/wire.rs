//! What the scripts are told, and what they answer.

use std::time::Duration;

use redis::Value;
use stanchion_core::{Fence, Lease, StoredValue};

/// Nothing is kept for longer: thirty days, as the scripts have it.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// In microseconds, rounded up, and no longer than the longest.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.min(LONGEST).as_nanos().div_ceil(1_000)).expect("thirty days are few microseconds")
}

/// Tags in one string: each with its length before it.
pub(super) fn packed(tags: &[&str]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(tags.iter().map(|tag| tag.len() + 4).sum());
    for tag in tags {
        packed.extend_from_slice(format!("{}:", tag.len()).as_bytes());
        packed.extend_from_slice(tag.as_bytes());
    }
    packed
}

/// The tags in a string; `None` if it is none of ours.
fn unpacked(mut packed: &[u8]) -> Option<Vec<String>> {
    let mut tags = Vec::new();
    while !packed.is_empty() {
        let colon = packed.iter().take(20).position(|byte| *byte == b':')?;
        let length: usize = std::str::from_utf8(&packed[..colon]).ok()?.parse().ok()?;
        let (tag, rest) = packed[colon + 1..].split_at_checked(length)?;
        tags.push(std::str::from_utf8(tag).ok()?.to_owned());
        packed = rest;
    }
    Some(tags)
}

/// What was found under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) value: Option<StoredValue>,
    /// If it was asked for, and there is no fresh value.
    pub(super) lease: Option<Lease>,
}

impl Looked {
    /// The answer of `look.lua`; `None` if it is something else. A value whose tags are none isn't ours.
    pub(super) fn of(reply: Value) -> Option<Self> {
        let Value::Array(parts) = reply else { return None };
        let [found, age, fresh, tags, bytes, leased, number]: [Value; 7] = parts.try_into().ok()?;
        let value = match (found, bytes, tags) {
            (Value::Int(0), ..) => None,
            (Value::Int(1), Value::BulkString(bytes), Value::BulkString(tags)) => {
                let [age, fresh_for] = [duration(&age)?, duration(&fresh)?];
                unpacked(&tags).map(|tags| StoredValue { bytes, age, fresh_for, tags })
            }
            _ => return None,
        };
        let lease = match leased {
            Value::Int(0) => None,
            Value::Int(1) => Some(Lease::Held(Fence::new(whole(&number)?))),
            Value::Int(2) => Some(Lease::Taken { retry_after: duration(&number)? }),
            _ => return None,
        };
        Some(Self { value, lease })
    }
}

fn whole(number: &Value) -> Option<u64> {
    let Value::Int(number) = number else { return None };
    u64::try_from(*number).ok()
}

fn duration(micros: &Value) -> Option<Duration> {
    whole(micros).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_rounded_up_and_cut() {
        assert_eq!(micros(Duration::ZERO), 0);
        assert_eq!(micros(Duration::from_nanos(1)), 1);
        assert_eq!(micros(Duration::from_nanos(1_001)), 2);
        assert_eq!(micros(Duration::MAX), 2_592_000_000_000);
    }

    fn value() -> impl Strategy<Value = redis::Value> {
        prop_oneof![
            4 => (0..4_i64).prop_map(Value::Int),
            1 => any::<i64>().prop_map(Value::Int),
            3 => prop::collection::vec(any::<u8>(), 0..9).prop_map(Value::BulkString),
            1 => Just(Value::BulkString(b"1:a".to_vec())),
            1 => Just(Value::Nil),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn tags_come_back(tags in prop::collection::vec(".{0,20}", 0..5)) {
            let packed = packed(&tags.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(unpacked(&packed), Some(tags));
        }

        #[test]
        fn whatever_lies_there_is_tags_or_none(bytes in prop::collection::vec(
            prop_oneof![Just(b':'), b'0'..=b'9', any::<u8>()], 0..30,
        )) {
            if let Some(tags) = unpacked(&bytes) {
                prop_assert!(tags.iter().map(|tag| tag.len() + 2).sum::<usize>() <= bytes.len());
            }
        }

        #[test]
        fn a_garbled_reply_is_none_and_no_panic(reply in prop::collection::vec(value(), 5..9)) {
            if let Some(looked) = Looked::of(Value::Array(reply.clone())) {
                prop_assert_eq!(reply.len(), 7);
                prop_assert!(looked.value.is_none() || reply[0] == Value::Int(1));
                prop_assert_eq!(looked.lease.is_none(), reply[5] == Value::Int(0));
            }
        }
    }
}
