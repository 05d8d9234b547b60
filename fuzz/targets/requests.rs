//! Any headers: the extractors don't panic.
#![no_main]

use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use stanchion_tower::{ForwardedFor, Header, KeyExtractor, RequestHead};

fuzz_target!(|input: (Vec<(bool, Vec<u8>)>, u8)| {
    let (lines, proxies) = input;
    let mut request = Request::new(());
    for (forwarded, value) in lines {
        let name = HeaderName::from_static(if forwarded { "x-forwarded-for" } else { "x-api-key" });
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            request.headers_mut().append(name, value);
        }
    }
    let head = RequestHead::of(&request);
    if let Ok(extractor) = ForwardedFor::proxies(usize::from(proxies)) {
        let key = extractor.key(&head);
        assert!(key.is_none_or(|key| key.len() == 4 || key.len() == 8));
    }
    Header::new("x-api-key").expect("a header's name").key(&head);
});
