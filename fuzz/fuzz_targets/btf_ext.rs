//! Arbitrary bytes as `.BTF.ext`: what can be read can be written and read again.
#![no_main]

#[path = "../../crates/btf/tests/support/exercise.rs"]
#[allow(dead_code, clippy::allow_attributes, reason = "the other target uses the rest")]
mod exercise;

use std::sync::LazyLock;

use skep_btf::{Btf, Builder};

static STRINGS: LazyLock<Btf> = LazyLock::new(|| {
    let mut builder = Builder::new();
    builder.string("socket").expect("a string");
    Btf::parse(builder.build().expect("a BTF")).expect("a BTF that opens")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| exercise::ext(data, &STRINGS));
