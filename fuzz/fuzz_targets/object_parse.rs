//! Any bytes as an object file: read it, show it, set its globals. Start from `tests/object/prebuilt`:
//! `cargo +nightly fuzz run object_parse fuzz/corpus/object_parse tests/object/prebuilt`
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_object::ObjectSpec;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut spec) = ObjectSpec::parse("fuzz", bytes) else { return };
    let names: Vec<String> = spec.globals().map(|(_, var)| var.name.clone()).take(16).collect();
    for name in names {
        let _ = spec.set_global_text(&name, "1");
    }
    let text = spec.dump().to_string();
    // The same bytes make the same spec.
    let again = ObjectSpec::parse("fuzz", bytes).map(|spec| spec.maps.len());
    assert!(again.is_ok() && !text.is_empty());
});
