//! Any bytes as instructions: what decodes, encodes to the same slots; what is listed, assembles to them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_isa::{Endian, Insn, Listing, Raw, assemble, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    let (chunks, _) = bytes.as_chunks();
    for endian in [Endian::Little, Endian::Big] {
        let slots: Vec<Raw> = chunks.iter().map(|&chunk| Raw::from_bytes(chunk, endian)).collect();
        let listing = Listing::new(&slots).to_string();
        match decode(&slots) {
            Ok(decoded) => {
                let insns: Vec<Insn> = decoded.into_iter().map(|(_, insn)| insn).collect();
                assert_eq!(encode(&insns), slots);
                assert_eq!(assemble(&listing), Ok(insns), "{listing}");
            }
            Err(error) => {
                assert!(error.at.as_usize() < slots.len());
                assert!(assemble(&listing).is_err(), "{listing}");
            }
        }
    }
});
