//! No prefix, bit flip or other damage of a real object makes the reader panic, hang, or use memory without bound.

mod common;

use common::files;
use proptest::prelude::*;
use skep_object::{ObjectSpec, core};

fn objects() -> Vec<Vec<u8>> {
    files("prebuilt", "o").iter().map(|path| std::fs::read(path).expect("object")).collect()
}

/// Everything that is done to a spec without a kernel.
fn exercise(bytes: &[u8]) {
    if let Ok(mut spec) = ObjectSpec::parse("damaged", bytes) {
        let _ = spec.dump().to_string().len();
        let names: Vec<String> = spec.globals().map(|(_, var)| var.name.clone()).collect();
        for name in names {
            let _ = spec.set_global_text(&name, "1");
        }
        // Its own types are as good a target as any.
        if let Some(btf) = spec.btf.clone() {
            let _ = core::relocate(&mut spec, &btf);
        }
    }
}

#[test]
fn every_prefix_is_refused_or_read() {
    for object in objects() {
        for end in 0..object.len() {
            exercise(&object[..end]);
        }
        exercise(&object);
    }
}

#[test]
fn each_byte_changed_is_refused_or_read() {
    for (number, object) in objects().into_iter().enumerate() {
        let mut bytes = object.clone();
        for at in 0..bytes.len() {
            let good = bytes[at];
            // A large, a small, a nearby and a negative value in turn: all of them for each byte take minutes.
            bytes[at] = [0xff, 0, good.wrapping_add(1), good ^ 0x80][(at + number) % 4];
            exercise(&bytes);
            bytes[at] = good;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_damage_is_refused_or_read(
        which: prop::sample::Index,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        words in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 0..4),
    ) {
        let objects = objects();
        let mut bytes = which.get(&objects).clone();
        for (at, value) in flips {
            *at.get_mut(&mut bytes) ^= value;
        }
        for (at, word) in words {
            let at = at.index(bytes.len() / 4) * 4;
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        exercise(&bytes);
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.extend(bytes);
        exercise(&elf);
    }
}
