//! The examples are the `[[example]]`s beside this file. Here the README's is tested, and the guide's.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

#[cfg_attr(doctest, doc = include_str!("../docs/guide/limiter.md"))]
mod guide_to_limiters {}
