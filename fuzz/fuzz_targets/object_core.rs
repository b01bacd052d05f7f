//! Two objects in one input (a little-endian length, the first, the second): the first is relocated against the types
//! of the second.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_object::{ObjectSpec, core};

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (first, second) = rest.split_at(length);
    let Ok(mut spec) = ObjectSpec::parse("first", first) else { return };
    let target = match ObjectSpec::parse("second", second) {
        Ok(second) => second.btf,
        Err(_) => spec.btf.clone(),
    };
    let Some(target) = target else { return };
    if core::relocate(&mut spec, &target).is_ok() {
        assert!(spec.programs.iter().all(|program| program.core_relocs.is_empty()));
    }
});
