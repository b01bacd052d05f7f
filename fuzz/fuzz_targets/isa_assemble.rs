//! Any text as a program: what assembles, prints to text that assembles to the same; errors lie within the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_isa::{Listing, MAX_ERRORS, assemble, encode};

fuzz_target!(|text: &str| {
    match assemble(text) {
        Ok(insns) => {
            let listing = Listing::new(&encode(&insns)).to_string();
            assert_eq!(assemble(&listing), Ok(insns), "{listing}");
        }
        Err(errors) => {
            assert!(!errors.is_empty() && errors.len() <= MAX_ERRORS);
            for error in errors {
                let line = text.lines().nth(error.line - 1).expect("the line exists");
                assert!((1..=line.chars().count() + 1).contains(&error.column), "{error}");
            }
        }
    }
});
