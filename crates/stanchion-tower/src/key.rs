//! Whom a request is counted for.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName};
use http::{Extensions, Method, Request, Uri};
use stanchion_core::ConfigError;

/// All of a request but its body.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RequestHead<'r> {
    /// The method.
    pub method: &'r Method,
    /// The URI.
    pub uri: &'r Uri,
    /// The headers.
    pub headers: &'r HeaderMap,
    /// What layers further out have left, such as the peer's address.
    pub extensions: &'r Extensions,
}

impl<'r> RequestHead<'r> {
    /// The head of a request.
    pub fn of<B>(request: &'r Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}

/// Finds the key of a request.
///
/// Implemented by [`Header`], by [`ForwardedFor`], and by closures:
///
/// ```
/// use stanchion_tower::{KeyExtractor, RequestHead};
///
/// let by_path = |head: &RequestHead<'_>| Some(head.uri.path().to_owned());
/// let request = http::Request::get("/orders?page=2").body(()).unwrap();
/// assert_eq!(by_path.key(&RequestHead::of(&request)).unwrap(), "/orders".as_bytes());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't find a request's key",
    note = "use `Header::new(\"x-api-key\")?`, `ForwardedFor::proxies(1)?`, or a closure `|head: &RequestHead<'_>| -> Option<String>`"
)]
pub trait KeyExtractor: Send + Sync {
    /// The key, or `None` where the request has none.
    fn key<'r>(&self, head: &RequestHead<'r>) -> Option<Cow<'r, [u8]>>;
}

impl<F: Fn(&RequestHead<'_>) -> Option<String> + Send + Sync> KeyExtractor for F {
    fn key<'r>(&self, head: &RequestHead<'r>) -> Option<Cow<'r, [u8]>> {
        self(head).map(|key| Cow::Owned(key.into_bytes()))
    }
}

/// The value of a header, such as an API key. Of several the first.
///
/// Unless something further out has checked it, strangers choose it: then the
/// limiter wants [`WhenFull::Forget`](stanchion_limit::WhenFull), or a flood of
/// made-up keys fills its table, and new keys are answered 503.
#[derive(Debug, Clone)]
pub struct Header(HeaderName);

impl Header {
    /// The header of this name.
    ///
    /// # Errors
    /// A name that no header can have.
    pub fn new(name: &str) -> Result<Self, ConfigError> {
        match name.parse() {
            Ok(name) => Ok(Self(name)),
            Err(_) => Err(ConfigError::new("header", name, "must be a name that a header can have")),
        }
    }
}

impl From<HeaderName> for Header {
    fn from(name: HeaderName) -> Self {
        Self(name)
    }
}

impl KeyExtractor for Header {
    fn key<'r>(&self, head: &RequestHead<'r>) -> Option<Cow<'r, [u8]>> {
        head.headers.get(&self.0).map(|value| Cow::Borrowed(value.as_bytes()))
    }
}

/// The client's address, by `X-Forwarded-For` behind a known number of proxies.
///
/// Each proxy appends the address that it was called from, so with `n` proxies
/// of one's own the `n`th entry from the right is the client's; whatever is left
/// of it, the client has made up. Entries with ports are understood. IPv6
/// addresses count by their /64, of which one client commonly has all; an IPv4
/// address in IPv6's clothes counts as IPv4.
///
/// ```
/// use stanchion_tower::{ForwardedFor, KeyExtractor, RequestHead};
///
/// let behind_one_proxy = ForwardedFor::proxies(1)?;
/// let request = http::Request::get("/").header("x-forwarded-for", "6.6.6.6, 203.0.113.7:4711").body(()).unwrap();
/// let key = behind_one_proxy.key(&RequestHead::of(&request)).unwrap();
/// assert_eq!(key, [203, 0, 113, 7].as_slice());
/// # Ok::<(), stanchion_limit::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ForwardedFor {
    proxies: usize,
}

impl ForwardedFor {
    /// Behind this many proxies of one's own.
    ///
    /// # Errors
    /// A count of 0: without a proxy the header is the client's own invention.
    pub fn proxies(count: usize) -> Result<Self, ConfigError> {
        if count == 0 {
            return Err(ConfigError::new(
                "proxies",
                count,
                "must be at least 1: without one the header can't be trusted",
            ));
        }
        Ok(Self { proxies: count })
    }
}

impl KeyExtractor for ForwardedFor {
    fn key<'r>(&self, head: &RequestHead<'r>) -> Option<Cow<'r, [u8]>> {
        // Several headers are one list, in order (RFC 9110, section 5.3).
        let lines = head.headers.get_all("x-forwarded-for").into_iter().rev();
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
        let entry = entries.into_iter().nth(self.proxies - 1)?;
        let address = address(std::str::from_utf8(entry).ok()?.trim())?;
        Some(Cow::Owned(network(address)))
    }
}

/// An address with or without a port, with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// The bytes by which an address counts: 4, or the 8 of an IPv6 /64.
fn network(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets()[..8].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn forwarded(proxies: usize, headers: &[&str]) -> Option<Vec<u8>> {
        let mut request = Request::new(());
        for header in headers {
            request.headers_mut().append("x-forwarded-for", header.parse().unwrap());
        }
        let extractor = ForwardedFor::proxies(proxies).unwrap();
        extractor.key(&RequestHead::of(&request)).map(Cow::into_owned)
    }

    #[test]
    fn the_entry_that_ones_own_proxy_wrote_counts() {
        let headers = ["6.6.6.6, 1.2.3.4", "5.6.7.8"];
        assert_eq!(forwarded(1, &headers), Some(vec![5, 6, 7, 8]));
        assert_eq!(forwarded(2, &headers), Some(vec![1, 2, 3, 4]));
        assert_eq!(forwarded(4, &headers), None);
        assert_eq!(forwarded(1, &[]), None);
        assert!(ForwardedFor::proxies(0).is_err());
    }

    #[test]
    fn addresses_count_by_their_network() {
        let six = Some(vec![0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2]);
        assert_eq!(forwarded(1, &["2001:db8:1:2:3:4:5:6"]), six);
        assert_eq!(forwarded(1, &["[2001:db8:1:2::9]:443"]), six);
        assert_eq!(forwarded(1, &["[2001:db8:1:2::9]"]), six);
        assert_eq!(forwarded(1, &["::ffff:1.2.3.4"]), Some(vec![1, 2, 3, 4]));
        assert_eq!(forwarded(1, &["1.2.3.4:80"]), Some(vec![1, 2, 3, 4]));
        assert_eq!(forwarded(1, &["unknown"]), None);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), proxies in 1..4_usize) {
            if let Ok(value) = http::HeaderValue::from_bytes(&bytes) {
                let mut request = Request::new(());
                request.headers_mut().insert("x-forwarded-for", value);
                ForwardedFor::proxies(proxies).unwrap().key(&RequestHead::of(&request));
            }
        }
    }
}
