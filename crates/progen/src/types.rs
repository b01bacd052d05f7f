//! The BTF of a generated program: its functions, the values of its maps, the kernel functions it calls.

use skep_btf::{Btf, Builder, Error, Linkage, TypeId};

use crate::kfuncs::{self, Ty};
use crate::program::{Generated, Param, Special};

/// Where things are in the BTF.
pub(crate) struct Ids {
    pub(crate) funcs: Vec<TypeId>,
    pub(crate) kfuncs: Vec<TypeId>,
    /// Key and value, for maps whose value has a field that the kernel keeps.
    pub(crate) maps: Vec<Option<(TypeId, TypeId)>>,
}

/// `None` only where a name is no C identifier, which a text that was read back may have.
pub(crate) fn btf(program: &Generated) -> Option<(Btf, Ids)> {
    let (bytes, ids) = build(program).ok()?;
    Some((Btf::parse(bytes).ok()?, ids))
}

struct Basic {
    int: TypeId,
    u32: TypeId,
    u64: TypeId,
    long: TypeId,
    any: TypeId,
}

fn build(program: &Generated) -> Result<(Vec<u8>, Ids), Error> {
    let mut out = Builder::new();
    let basic = Basic {
        int: out.int("int", 4, true)?,
        u32: out.int("unsigned int", 4, false)?,
        u64: out.int("unsigned long", 8, false)?,
        long: out.int("long", 8, true)?,
        any: out.ptr(TypeId::VOID)?,
    };
    let context = context_name(program);
    let context = match context {
        Some(name) => {
            let body = out.structure(name, 0, &[])?;
            out.ptr(body)?
        }
        None => basic.any,
    };
    let mut mems: Vec<(u32, TypeId)> = Vec::new();
    let mut funcs = Vec::new();
    for func in &program.funcs {
        let mut params = Vec::new();
        for (index, param) in func.params.iter().enumerate() {
            let ty = match *param {
                Param::Int => basic.int,
                Param::Long => basic.long,
                Param::Ctx => context,
                Param::Any => basic.any,
                Param::Mem(size) => match mems.iter().find(|(have, _)| *have == size) {
                    Some((_, ty)) => *ty,
                    None => {
                        let byte = out.int("char", 1, true)?;
                        let bytes = out.array(byte, basic.u32, size)?;
                        let body = out.structure(&format!("mem{size}"), size, &[("bytes", bytes, 0)])?;
                        let ty = out.ptr(body)?;
                        mems.push((size, ty));
                        ty
                    }
                },
            };
            params.push((ARGS.get(index).copied().unwrap_or("more"), ty));
        }
        let ret = if func.void { TypeId::VOID } else { basic.int };
        let proto = out.func_proto(ret, &params)?;
        let linkage = if func.global { Linkage::Global } else { Linkage::Static };
        funcs.push(out.func(&func.name, proto, linkage)?);
    }
    let mut kernel = Vec::new();
    for name in &program.kfuncs {
        kernel.push(declare(&mut out, &basic, name)?);
    }
    let mut maps = Vec::new();
    for map in &program.maps {
        maps.push(match map.field {
            Some((field, offset)) => Some((
                // Arrays take nothing but a number.
                match map.key_size {
                    4 => basic.u32,
                    size => value(&mut out, size, None, &format!("{}_key", map.name))?,
                },
                value(&mut out, map.value_size, Some((field, offset)), &format!("{}_value", map.name))?,
            )),
            None => None,
        });
    }
    Ok((out.build()?, Ids { funcs, kfuncs: kernel, maps }))
}

const ARGS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Bytes, with one field among them.
fn value(out: &mut Builder, size: u32, field: Option<(Special, u32)>, name: &str) -> Result<TypeId, Error> {
    let byte = out.int("unsigned char", 1, false)?;
    let index = out.int("unsigned int", 4, false)?;
    let mut members = Vec::new();
    let bytes = |out: &mut Builder, count: u32| out.array(byte, index, count);
    match field {
        None => members.push(("bytes", bytes(out, size)?, 0)),
        Some((field, offset)) => {
            let (kind, width) = match field {
                Special::SpinLock => (out.structure("bpf_spin_lock", 4, &[("val", index, 0)])?, 4),
                Special::Timer => {
                    let word = out.int("unsigned long", 8, false)?;
                    let words = out.array(word, index, 2)?;
                    (out.structure("bpf_timer", 16, &[("__opaque", words, 0)])?, 16)
                }
            };
            if offset > 0 {
                members.push(("before", bytes(out, offset)?, 0));
            }
            members.push(("field", kind, offset.saturating_mul(8)));
            let end = offset.saturating_add(width);
            if size > end {
                members.push(("behind", bytes(out, size - end)?, end.saturating_mul(8)));
            }
        }
    }
    out.structure(name, size, &members)
}

fn declare(out: &mut Builder, basic: &Basic, name: &str) -> Result<TypeId, Error> {
    let Some(kfunc) = kfuncs::by_name(name) else {
        let proto = out.func_proto(TypeId::VOID, &[])?;
        return out.func(name, proto, Linkage::Global);
    };
    let ty = |out: &mut Builder, ty: &Ty| {
        Ok::<TypeId, Error>(match *ty {
            Ty::Void => TypeId::VOID,
            Ty::Int => basic.int,
            Ty::U32 => basic.u32,
            Ty::U64 => basic.u64,
            Ty::Any => basic.any,
            Ty::IntPtr => out.ptr(basic.int)?,
            Ty::U64Ptr => out.ptr(basic.u64)?,
            Ty::CharPtr => {
                let byte = out.int("char", 1, true)?;
                out.ptr(byte)?
            }
            Ty::Struct(name) => {
                let body = out.structure(name, 0, &[])?;
                out.ptr(body)?
            }
        })
    };
    let ret = ty(out, &kfunc.ret)?;
    let mut params = Vec::new();
    for (index, param) in kfunc.params.iter().enumerate() {
        params.push((ARGS.get(index).copied().unwrap_or("more"), ty(out, param)?));
    }
    let proto = out.func_proto(ret, &params)?;
    // The kernel takes no types with extern functions.
    out.func(name, proto, Linkage::Global)
}

/// The struct that a global function's parameter must point to in order to be the context.
fn context_name(program: &Generated) -> Option<&'static str> {
    match skep_abi::context::kind(program.prog_type) {
        skep_abi::context::ContextKind::Struct(context) => Some(context.name),
        _ => None,
    }
}
