//! The examples are the `[[example]]`s beside this file. Here the README's is tested.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]
