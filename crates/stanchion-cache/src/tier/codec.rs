//! From values to bytes and back.

use std::error::Error;
use std::sync::Arc;

/// Why a value can't be encoded or decoded.
pub type CodecError = Box<dyn Error + Send + Sync>;

/// How values become bytes in the remote tier.
///
/// Bytes that another codec wrote are never handed to this one: each has a number.
pub trait Codec<V>: Send + Sync {
    /// Its number. Those below 128 are this crate's.
    fn number(&self) -> u8;

    /// The value as bytes.
    ///
    /// # Errors
    /// Whatever keeps it from being encoded. The value is not stored then, and whoever asked for
    /// it gets it all the same.
    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError>;

    /// The value of these bytes.
    ///
    /// # Errors
    /// What is wrong with them. It is as if there were no value.
    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError>;
}

/// Values that are bytes: `Vec<u8>`, `Arc<[u8]>`, `bytes::Bytes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Raw;

impl<V: AsRef<[u8]> + From<Vec<u8>>> Codec<V> for Raw {
    fn number(&self) -> u8 {
        1
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError> {
        Ok(value.as_ref().to_vec())
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        Ok(bytes.to_vec().into())
    }
}

/// Values as JSON, which a person can read with `redis-cli`, and which bears new optional fields.
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json;

#[cfg(feature = "json")]
impl<V: serde::Serialize + serde::de::DeserializeOwned> Codec<V> for Json {
    fn number(&self) -> u8 {
        2
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError> {
        Ok(serde_json::to_vec(value)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// Values in [postcard](https://postcard.jamesmunns.com)'s form: small and fast, and of exactly one shape. Raise the
/// [`schema`](super::TierConfig::schema) whenever the type changes.
#[cfg(feature = "postcard")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl<V: serde::Serialize + serde::de::DeserializeOwned> Codec<V> for Postcard {
    fn number(&self) -> u8 {
        3
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError> {
        Ok(postcard::to_stdvec(value)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        // What is left over would be of another shape.
        match postcard::take_from_bytes(bytes)? {
            (value, []) => Ok(value),
            (_, rest) => Err(format!("{} bytes are left over", rest.len()).into()),
        }
    }
}

/// Another codec, for values in an [`Arc`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shared<C>(pub C);

impl<V: Send + Sync, C: Codec<V>> Codec<Arc<V>> for Shared<C> {
    fn number(&self) -> u8 {
        self.0.number()
    }

    fn encode(&self, value: &Arc<V>) -> Result<Vec<u8>, CodecError> {
        self.0.encode(value)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Arc<V>, CodecError> {
        self.0.decode(bytes).map(Arc::new)
    }
}
