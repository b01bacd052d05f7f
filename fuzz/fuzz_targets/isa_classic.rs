//! Any bytes as a classic filter, and as the text of one: what decodes, prints to text and numbers that mean the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_isa::{Endian, classic};

fuzz_target!(|bytes: &[u8]| {
    let whole = &bytes[..bytes.len() - bytes.len() % 8];
    let filter = classic::SockFilter::parse(whole, Endian::Little).expect("a whole number of instructions");
    assert_eq!(classic::parse_numbers(&classic::to_numbers(&filter)).as_ref(), Ok(&filter));
    let checked = classic::check(&filter);
    match classic::decode(&filter) {
        Ok(program) => {
            let text = classic::Text(&program).to_string();
            assert_eq!(classic::assemble(&text).as_ref(), Ok(&program), "{text}");
            let clean = classic::encode(&program);
            assert_eq!(classic::check(&clean), checked);
            assert_eq!(classic::decode(&clean), Ok(program));
        }
        Err(_) => assert!(checked.is_err()),
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = classic::assemble(text);
        let _ = classic::parse_numbers(text);
    }
});
