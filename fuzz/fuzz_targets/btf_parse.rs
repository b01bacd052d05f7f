//! Arbitrary bytes as BTF: everything that can be asked of them returns.
#![no_main]

#[path = "../../crates/btf/tests/support/exercise.rs"]
#[allow(dead_code, clippy::allow_attributes, reason = "the other target uses the rest")]
mod exercise;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exercise::btf(data));
