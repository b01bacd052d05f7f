//! CO-RE: fitting a program to the types of the kernel it will run in.
//!
//! Clang leaves a record beside each instruction whose number depends on a kernel type: `r1 = *(u32 *)(r2 + 2496)`,
//! "byte offset of `task_struct.pid`". [`relocate`] looks the same path up in the types of the target kernel and writes
//! the number that is right there. A record has one of three outcomes:
//!
//! - there is one answer: it is written into the instruction;
//! - there is none: the instruction is replaced by [`POISON`], and [`ProgramSpec::poisoned`](crate::ProgramSpec::poisoned)
//!   says why. The verifier refuses it if it can be reached; code guarded by `bpf_core_field_exists` never is;
//! - it is wrong in itself, or candidates disagree: an [`Error::Core`].
//!
//! Candidates are the target's types of the same name and kind; what follows `___` in a name is a flavour and not
//! compared. The rules by which they match are libbpf's (`relo_core.c`), see the modules `access` and `compat`; the loaders must
//! agree, or an object would mean something else under each.
//!
//! Limits: 64 steps in a path, 32 nested types in a comparison, 10 000 000 members looked at for one record.

mod access;
mod compat;
mod patch;
mod target;
mod value;

use std::collections::HashMap;
use std::sync::Arc;

use skep_abi::insn::CoreReloKind;
use skep_btf::{Btf, Kind, Type, TypeId};
use skep_isa::{Endian, InsnIdx, Raw, opcode};

use crate::{CoreReloc, Error, ObjectSpec, ProgramSpec};
use access::Access;
use compat::Budget;
use patch::{Answer, Patched};
use target::{Candidate, Target};

/// What replaces an instruction that cannot be relocated: a call of a helper that does not exist. The number is
/// libbpf's (0xbad2310, "bad relo"), so that tools which know it can explain the verifier's message.
pub const POISON: Raw = Raw { opcode: opcode::CLASS_JMP | opcode::JMP_CALL, dst: 0, src: 0, off: 0, imm: 0x0bad_2310 };

/// Bytes of a record's text.
const MAX_DESCRIBED: usize = 512;

/// Recursion that comparisons of types allow.
const MAX_LEVEL: u32 = 32;

/// A name without its flavour: `task_struct___old` is another shape of `task_struct`.
pub fn essential_name(name: &str) -> &str {
    let bytes = name.as_bytes();
    let divider = bytes.windows(5).rposition(|w| w[0] != b'_' && w[1..4] == *b"___" && w[4] != b'_');
    // Within UTF-8, what stands before an underscore is a whole character.
    divider.and_then(|i| name.get(..=i)).unwrap_or(name)
}

/// Whether the target's type is the local type by and large, as the kernel's function or variable that is called or read must
/// be: kinds agree all the way down, of integers not the size, of structs, unions and enumerations neither name nor contents
/// are looked at. A function is compared by its prototype, a variable by its type. What cannot be compared (an id that is
/// none, nesting past 32 levels) is not the same. libbpf's `bpf_core_types_are_compat`.
pub fn types_match(local: &Btf, local_id: TypeId, target: &Btf, target_id: TypeId) -> bool {
    let beneath = |btf: &Btf, id: TypeId| -> Result<TypeId, skep_btf::Error> {
        let at = btf.resolve(id)?;
        match btf.get(at)? {
            Type::Func { proto, .. } => Ok(proto),
            Type::Var { target, .. } => btf.resolve(target),
            _ => Ok(at),
        }
    };
    let (Ok(a), Ok(b)) = (beneath(local, local_id), beneath(target, target_id)) else { return false };
    compat::types(local, a, target, b, MAX_LEVEL, &mut Budget::new()).unwrap_or(false)
}

/// Whether any program has a record that only the types of a target kernel can answer.
pub fn needs_target(spec: &ObjectSpec) -> bool {
    let local = CoreReloKind::TypeIdLocal.as_u32();
    spec.programs.iter().any(|program| program.core_relocs.iter().any(|reloc| reloc.kind != local))
}

/// Applies every CO-RE record of every program against the target kernel's types. What cannot be satisfied poisons
/// its instruction.
///
/// # Errors
/// [`Error::Core`], the first; the spec is then partly relocated and of no more use.
pub fn relocate(spec: &mut ObjectSpec, target: &Btf) -> Result<(), Error> {
    relocate_with(spec, std::slice::from_ref(target))
}

/// As [`relocate`], against the kernel's types and those of its modules: `targets` starts with the kernel's, behind it come
/// split BTFs. A module is asked only for types that the kernel itself has none of. An empty list will do for a spec
/// that does not [need a target](needs_target).
///
/// # Errors
/// As [`relocate`].
pub fn relocate_with(spec: &mut ObjectSpec, targets: &[Btf]) -> Result<(), Error> {
    if spec.programs.iter().all(|program| program.core_relocs.is_empty()) {
        return Ok(());
    }
    let needed = needs_target(spec);
    let Some(local) = spec.btf.clone() else {
        return Err(Error::Btf {
            file: spec.name.clone(),
            what: "relocate its programs".to_owned(),
            cause: "there are CO-RE records but no type information".to_owned(),
        });
    };
    let mut relocator = Relocator {
        local: &local,
        // The pass over the strings is saved where nobody will ask.
        target: Target::new(if needed { targets } else { &[] }),
        endian: spec.endian,
        answers: HashMap::new(),
    };
    for program in &mut spec.programs {
        relocator.relocate(program)?;
    }
    Ok(())
}

/// The outcome of a record.
#[derive(Clone, Debug)]
enum Outcome {
    Answer(Answer),
    /// None, and why.
    Nothing(String),
}

struct Relocator<'a> {
    local: &'a Btf,
    target: Target<'a>,
    endian: Endian,
    /// Subprograms are linked into several programs, and one field is accessed in many places.
    answers: HashMap<(u32, u32, Arc<str>), Outcome>,
}

impl Relocator<'_> {
    fn relocate(&mut self, program: &mut ProgramSpec) -> Result<(), Error> {
        for reloc in std::mem::take(&mut program.core_relocs) {
            let fail = |local: &Btf, cause: String| Error::Core {
                program: program.name.clone(),
                insn: reloc.insn,
                what: describe(Some(local), &reloc),
                cause,
            };
            let key = (reloc.ty.0, reloc.kind, reloc.access.clone());
            let outcome = match self.answers.get(&key) {
                Some(known) => known.clone(),
                None => {
                    let found = self.answer(&reloc).map_err(|cause| fail(self.local, cause))?;
                    self.answers.insert(key, found.clone());
                    found
                }
            };
            let insns = &mut program.insns;
            let why = match outcome {
                Outcome::Answer(answer) => {
                    match patch::apply(insns, reloc.insn, &answer).map_err(|cause| fail(self.local, cause))? {
                        Patched::Done => continue,
                        Patched::Unfit(why) => why,
                    }
                }
                Outcome::Nothing(why) => why,
            };
            patch::poison(insns, reloc.insn);
            program.poisoned.push((reloc.insn, shorten(format!("{}: {why}", describe(Some(self.local), &reloc)))));
        }
        program.poisoned.sort_by_key(|(insn, _): &(InsnIdx, String)| *insn);
        Ok(())
    }

    fn answer(&mut self, reloc: &CoreReloc) -> Result<Outcome, String> {
        let kind = CoreReloKind::from_u32(reloc.kind)
            .ok_or_else(|| format!("kind {} of CO-RE record is not known to this version of skep", reloc.kind))?;
        let local = self.local;
        let wanted = Access::parse(local, reloc.ty, &reloc.access, kind)?;
        if kind == CoreReloKind::TypeIdLocal {
            let number = u64::from(reloc.ty.0);
            return Ok(Outcome::Answer(Answer { expected: None, number, sizes: (0, 0), may_resize: false }));
        }
        let name = local.name(reloc.ty).map_err(|e| e.to_string())?;
        if name.is_empty() {
            return Err("an anonymous type cannot be found in another kernel; give it a name".to_owned());
        }
        if self.target.is_empty() {
            return Err("there are no types of a target kernel (it was built without CONFIG_DEBUG_INFO_BTF)".to_owned());
        }
        let held = value::of(local, Some(&wanted), kind, self.endian)?;
        let held = held.ok_or("the record has no answer in the object's own types")?;

        let candidates = self.target.candidates(local, reloc.ty)?.clone();
        let mut budget = Budget::new();
        let mut matching: Vec<Candidate> = Vec::new();
        let mut found: Option<(u64, Answer)> = None;
        for candidate in &candidates {
            let Some(btf) = self.target.btf(candidate.btf) else { continue };
            let Some(path) = match_candidate(local, &wanted, kind, btf, candidate, &mut budget)? else { continue };
            let there = value::of(btf, Some(&path), kind, self.endian)?.ok_or("a path leads nowhere")?;
            let answer = Answer {
                expected: held.exact.then_some(held.number),
                number: there.number,
                sizes: (held.size, there.size),
                may_resize: held.size == there.size || value::may_resize(local, held.ty, btf, there.ty),
            };
            match &found {
                None => found = Some((path.bit_offset, answer)),
                Some((bits, first)) if *bits != path.bit_offset || first.number != answer.number => {
                    return Err(format!(
                        "ambiguous: the target has several types {name} that disagree ({} and {})",
                        first.number, answer.number
                    ));
                }
                Some(_) => {}
            }
            matching.push(*candidate);
        }
        if !matching.is_empty() {
            *self.target.candidates(local, reloc.ty)? = matching;
        }
        if let Some((_, answer)) = found {
            return Ok(Outcome::Answer(answer));
        }
        Ok(match value::of(local, None, kind, self.endian)? {
            Some(absent) => Outcome::Answer(Answer {
                expected: held.exact.then_some(held.number),
                number: absent.number,
                sizes: (held.size, absent.size),
                may_resize: true,
            }),
            None if candidates.is_empty() => {
                Outcome::Nothing(shorten(format!("the kernel has no type {}", essential_type_name(local, reloc))))
            }
            None => {
                let (ty, path) = (essential_type_name(local, reloc), wanted.to_text());
                Outcome::Nothing(shorten(match kind {
                    CoreReloKind::EnumvalValue => {
                        format!("the kernel's {ty} has no such enumerator: {}", path.trim_start_matches('.'))
                    }
                    _ => format!("the kernel's {ty} has no {} of a fitting type", path.trim_start_matches('.')),
                }))
            }
        })
    }
}

fn match_candidate<'t>(
    local: &Btf,
    wanted: &Access<'_>,
    kind: CoreReloKind,
    btf: &'t Btf,
    candidate: &Candidate,
    budget: &mut Budget,
) -> Result<Option<Access<'t>>, String> {
    if kind.is_enumval() {
        return wanted.match_enumerator(btf, candidate.id);
    }
    if kind.is_field() {
        return wanted.match_field(local, btf, candidate.id, budget);
    }
    let same = if kind == CoreReloKind::TypeMatches {
        compat::matches(local, wanted.root, btf, candidate.id, false, MAX_LEVEL, budget)?
    } else {
        compat::types(local, wanted.root, btf, candidate.id, MAX_LEVEL, budget)?
    };
    Ok(same.then(|| Access { root: candidate.id, steps: Vec::new(), bit_offset: 0 }))
}

/// `struct task_struct`, without flavour.
fn essential_type_name(btf: &Btf, reloc: &CoreReloc) -> String {
    let name = essential_name(btf.name(reloc.ty).unwrap_or_default());
    let prefix = match btf.kind(reloc.ty) {
        Ok(Kind::Struct) => "struct ",
        Ok(Kind::Union) => "union ",
        Ok(Kind::Enum | Kind::Enum64) => "enum ",
        _ => "",
    };
    format!("{prefix}{name}")
}

/// A record as text, such as `byte_off of struct task_struct.pid`.
pub(crate) fn describe(btf: Option<&Btf>, reloc: &CoreReloc) -> String {
    shorten(describe_whole(btf, reloc))
}

/// A path of 64 long names, for every record, would be a lot.
fn shorten(mut text: String) -> String {
    if text.len() > MAX_DESCRIBED {
        let end = (0..=MAX_DESCRIBED).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
    }
    text
}

fn describe_whole(btf: Option<&Btf>, reloc: &CoreReloc) -> String {
    let Some(kind) = CoreReloKind::from_u32(reloc.kind) else { return format!("kind {}", reloc.kind) };
    let Some(btf) = btf else { return format!("{kind} {}", reloc.access) };
    let ty = btf.type_name(reloc.ty);
    match Access::parse(btf, reloc.ty, &reloc.access, kind) {
        Ok(path) if kind.is_enumval() => format!("{kind} of {ty}::{}", path.to_text().trim_start_matches('.')),
        Ok(path) => format!("{kind} of {ty}{}", path.to_text()),
        Err(_) => format!("{kind} of {ty} {}", reloc.access),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flavours_are_cut_off_where_libbpf_cuts() {
        let check = |name: &str, expected: &str| assert_eq!(essential_name(name), expected, "{name}");
        check("task_struct", "task_struct");
        check("task_struct___old", "task_struct");
        check("a___b___c", "a___b");
        check("____x", "____x");
        check("x____y", "x____y");
        check("x___", "x___");
        check("___x", "___x");
        check("ä___y", "ä");
        check("", "");
    }
    #[test]
    fn functions_match_by_their_prototypes() {
        use skep_btf::{Builder, Linkage};

        let mut b = Builder::new();
        let int = b.int("int", 4, true).expect("int");
        let long = b.int("long", 8, true).expect("long");
        let task = b.structure("task_struct", 4, &[("pid", int, 0)]).expect("task");
        let other = b.structure("file", 0, &[]).expect("file");
        let name = b.typedef("task_t", task).expect("typedef");
        let constant = b.add(&Type::Const { target: name }).expect("const");
        let [task, other, constant] = [task, other, constant].map(|ty| b.ptr(ty).expect("pointer"));
        let mut func = |ret, params: &[_]| {
            let proto = b.func_proto(ret, params).expect("prototype");
            b.func("f", proto, Linkage::Extern).expect("function")
        };
        let one = func(int, &[("t", task)]);
        let same = func(long, &[("x", constant)]);
        let more = func(int, &[("t", task), ("n", int)]);
        let number = func(int, &[("t", int)]);
        let void = func(TypeId::VOID, &[("t", task)]);
        let file = func(int, &[("t", other)]);
        let var = b.var("v", int, Linkage::Extern).expect("variable");
        let btf = Btf::parse(b.build().expect("build")).expect("parse");
        let check = |a, b| types_match(&btf, a, &btf, b);
        assert!(check(one, one) && check(one, same) && check(one, file) && check(var, int));
        for not in [more, number, void, var, TypeId(9999)] {
            assert!(!check(one, not), "{not:?}");
        }
    }
}
