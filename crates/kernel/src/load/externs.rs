//! Externs: what only the running kernel knows, looked up before anything is made.
//!
//! Of a function's name the part after `___` is a flavour and not looked up, so that an object can declare several
//! prototypes of one function; a variable's name is taken as it is. What is found must have the declared type (see
//! [`types_match`]); a weak function of another type counts as missing, as one that is not there. These are libbpf's
//! rules (`bpf_object__resolve_externs`).

use super::LoadError;
use super::types::{Found, KernelTypes};
use crate::error::{Error, Result, near};
use crate::kallsyms::{self, Place};
use crate::kconfig::{self, Kconfig};
use skep_btf::{Btf, Kind, Type, TypeId};
use skep_object::core::{essential_name, types_match};
use skep_object::{ExternKind, ExternSpec, MapIdx, MapOrigin, ObjectSpec, RelocKind};
use std::collections::HashSet;

/// What an extern turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resolved {
    /// A variable at an offset of the `.kconfig` map.
    Kconfig { map: MapIdx, offset: u32 },
    /// An address.
    Address(u64),
    /// A kernel variable or function by BTF id.
    Btf(Found),
    /// Weak, and not there.
    Missing,
    /// No program that is loaded refers to it.
    Unused,
}

/// Looks up every extern that a program to be loaded refers to, and the values of all `.kconfig` variables, which are
/// written into the data of that map.
pub(crate) fn resolve(
    spec: &mut ObjectSpec,
    selected: &[bool],
    types: &mut KernelTypes,
) -> Result<Vec<Resolved>, LoadError> {
    let used: HashSet<usize> = spec
        .programs
        .iter()
        .zip(selected)
        .filter(|(_, selected)| **selected)
        .flat_map(|(p, _)| &p.relocs)
        .filter_map(|r| match r.kind {
            RelocKind::Extern(e) | RelocKind::ExternCall(e) => Some(e.0),
            _ => None,
        })
        .collect();
    let untyped: Vec<&str> = spec
        .externs
        .iter()
        .enumerate()
        .filter(|(i, e)| e.kind == ExternKind::UntypedKsym && used.contains(i))
        .map(|(_, e)| e.name.as_str())
        .collect();
    let places = match untyped.as_slice() {
        [] => Default::default(),
        names => kallsyms::places(names).map_err(|cause| failed(names[0], cause))?,
    };
    let kconfig_map = spec.maps.iter().position(|m| m.origin == MapOrigin::Kconfig);
    if let Some(map) = kconfig_map {
        fill_kconfig(spec, map)?;
    }
    let mut resolved = Vec::with_capacity(spec.externs.len());
    for (index, ext) in spec.externs.iter().enumerate() {
        let name = ext.name.as_str();
        resolved.push(match ext.kind {
            ExternKind::Kconfig { offset, .. } => match kconfig_map {
                Some(map) => Resolved::Kconfig { map: MapIdx(map), offset },
                None => Resolved::Unused,
            },
            _ if !used.contains(&index) => Resolved::Unused,
            ExternKind::UntypedKsym => match places.get(name) {
                Some(Place::At(address)) => Resolved::Address(*address),
                Some(Place::Ambiguous(one, other)) => {
                    return Err(failed(name, kallsyms::ambiguous(name, *one, *other)));
                }
                None => absent(ext, name, "kernel symbol", || kallsyms::near_symbols(name))?,
            },
            ExternKind::TypedKsym { ty } => match find(spec, types, name, name, ty, Kind::Var)? {
                Sought::Found(found) => Resolved::Btf(found),
                Sought::Differs(cause) => return Err(failed(name, cause)),
                Sought::Missing => {
                    absent(ext, name, "kernel variable with a type", || types.near("", name, Kind::Var))?
                }
            },
            ExternKind::Kfunc { ty } => {
                let essence = essential_name(name);
                match find(spec, types, name, essence, ty, Kind::Func)? {
                    Sought::Found(found) => Resolved::Btf(found),
                    Sought::Differs(_) if ext.weak => Resolved::Missing,
                    Sought::Differs(cause) => return Err(failed(name, cause)),
                    Sought::Missing => absent(ext, essence, "kernel function", || types.near("", essence, Kind::Func))?,
                }
            }
        });
    }
    Ok(resolved)
}

/// What there is of a name in the kernel's types.
enum Sought {
    Found(Found),
    /// It has another type than the object declares.
    Differs(Error),
    Missing,
}

/// Looks for a function or variable of the type `ty` of the object.
fn find(
    spec: &ObjectSpec,
    types: &mut KernelTypes,
    declared: &str,
    name: &str,
    ty: TypeId,
    kind: Kind,
) -> Result<Sought, LoadError> {
    let fail = |cause| failed(declared, cause);
    let Some(found) = types.find(name, kind).map_err(fail)? else { return Ok(Sought::Missing) };
    let (Some(local), target) = (&spec.btf, types.btf(found).map_err(fail)?) else { return Ok(Sought::Found(found)) };
    if types_match(local, ty, &target, found.id) {
        return Ok(Sought::Found(found));
    }
    let what = if kind == Kind::Func { "function" } else { "variable" };
    Ok(Sought::Differs(Error::Invalid {
        action: "use",
        object: format!("kernel {what} `{name}`"),
        why: format!(
            "it is declared as `{}`, but in the running kernel it is `{}`; {}",
            declaration(local, ty, declared),
            declaration(&target, found.id, name),
            match forward(local, ty) {
                // As with libbpf, so that an object loads with both or with neither.
                Some(name) => format!("define {name}: one that is only declared is not compared"),
                None => "declare it so".to_owned(),
            }
        ),
    }))
}

/// The first type in a declaration that has no body in the object.
fn forward(btf: &Btf, id: TypeId) -> Option<String> {
    let beneath = |id: TypeId| {
        let mut id = btf.resolve(id).ok()?;
        // Pointers to pointers; more than this nobody declares.
        for _ in 0..8 {
            match btf.get(id).ok()? {
                Type::Ptr { target } => id = btf.resolve(target).ok()?,
                Type::Fwd { .. } => return Some(format!("`{}`", btf.type_name(id))),
                _ => return None,
            }
        }
        None
    };
    let id = match btf.get(id).ok()? {
        Type::Func { proto, .. } => proto,
        _ => id,
    };
    match btf.get(id).ok()? {
        Type::FuncProto(proto) => {
            std::iter::once(proto.ret).chain(proto.params.iter().map(|param| param.ty)).find_map(beneath)
        }
        _ => beneath(id),
    }
}

/// A function or variable as C declares it.
fn declaration(btf: &Btf, id: TypeId, name: &str) -> String {
    let ty = match btf.get(id) {
        Ok(Type::Func { proto, .. }) => proto,
        Ok(Type::Var { target, .. }) => target,
        _ => id,
    };
    btf.declaration(ty, name)
}

fn failed(name: &str, cause: Error) -> LoadError {
    LoadError::Extern { name: name.to_owned(), cause }
}

fn absent(
    ext: &ExternSpec,
    name: &str,
    what: &'static str,
    near: impl FnOnce() -> Vec<String>,
) -> Result<Resolved, LoadError> {
    if ext.weak {
        return Ok(Resolved::Missing);
    }
    let cause = Error::NoSuch {
        what,
        name: name.to_owned(),
        near: near(),
        next: "declare it `__weak` and test for it if the program can do without".into(),
    };
    Err(failed(&ext.name, cause))
}

/// Names that are no settings.
const VIRTUAL: [&str; 3] = ["LINUX_KERNEL_VERSION", "LINUX_HAS_BPF_COOKIE", "LINUX_HAS_SYSCALL_WRAPPER"];

fn fill_kconfig(spec: &mut ObjectSpec, map: usize) -> Result<(), LoadError> {
    let Some(btf) = spec.btf.clone() else { return Ok(()) };
    let mut data = spec.maps.get_mut(map).and_then(|m| m.data.take()).unwrap_or_default();
    let mut config: Option<Kconfig> = None;
    for ext in &spec.externs {
        let ExternKind::Kconfig { offset, size, ty } = ext.kind else { continue };
        let fail = |cause| failed(&ext.name, cause);
        let end = offset as usize + size as usize;
        if data.len() < end {
            data.resize(end, 0);
        }
        let Some(room) = data.get_mut(offset as usize..end) else { continue };
        match ext.name.as_str() {
            "LINUX_KERNEL_VERSION" => {
                let code = kconfig::kernel_version_code().map_err(fail)?;
                kconfig::put(room, code.into(), &ext.name).map_err(fail)?;
            }
            "LINUX_HAS_BPF_COOKIE" => {
                let has = crate::features::bpf_cookie();
                kconfig::put(room, has.into(), &ext.name).map_err(fail)?;
            }
            "LINUX_HAS_SYSCALL_WRAPPER" => {
                let has = crate::features::syscall_wrapper();
                kconfig::put(room, has.into(), &ext.name).map_err(fail)?;
            }
            name if name.starts_with("CONFIG_") => {
                let known = match &config {
                    Some(config) => config,
                    None => match Kconfig::read() {
                        Ok(read) => config.insert(read),
                        Err(_) if ext.weak => continue,
                        Err(cause) => return Err(fail(cause)),
                    },
                };
                match known.get(name) {
                    Some(value) => kconfig::encode(&btf, ty, name, value, room).map_err(fail)?,
                    None if ext.weak => {}
                    None => {
                        let cause = Error::NoSuch {
                            what: "setting of this kernel",
                            name: name.to_owned(),
                            near: known.near(name),
                            next: "it is not set here; declare the variable `__weak` to read it as 0".into(),
                        };
                        return Err(fail(cause));
                    }
                }
            }
            _ if ext.weak => {}
            name => {
                let cause = Error::NoSuch {
                    what: "`__kconfig` value",
                    name: name.to_owned(),
                    near: near(name, VIRTUAL.into_iter(), 1),
                    next: "such names begin with CONFIG_ or LINUX_".into(),
                };
                return Err(fail(cause));
            }
        }
    }
    if let Some(m) = spec.maps.get_mut(map) {
        m.data = Some(data);
    }
    Ok(())
}
