//! See `properties::dockerfile_parse`.

#![no_main]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|text: &str| properties::dockerfile_parse(text));
