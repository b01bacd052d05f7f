//! Externs: what only the running kernel knows, looked up before anything is made.

use super::LoadError;
use super::types::{Found, KernelTypes};
use crate::error::{Error, Result, near};
use crate::kallsyms;
use crate::kconfig::{self, Kconfig};
use skep_btf::Kind;
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
        .map(|(_, e)| essence(&e.name))
        .collect();
    let addresses = match untyped.as_slice() {
        [] => Default::default(),
        names => kallsyms::addresses(names).map_err(|cause| failed(names[0], cause))?,
    };
    let kconfig_map = spec.maps.iter().position(|m| m.origin == MapOrigin::Kconfig);
    if let Some(map) = kconfig_map {
        fill_kconfig(spec, map)?;
    }
    let mut resolved = Vec::with_capacity(spec.externs.len());
    for (index, ext) in spec.externs.iter().enumerate() {
        let name = essence(&ext.name);
        resolved.push(match ext.kind {
            ExternKind::Kconfig { offset, .. } => match kconfig_map {
                Some(map) => Resolved::Kconfig { map: MapIdx(map), offset },
                None => Resolved::Unused,
            },
            _ if !used.contains(&index) => Resolved::Unused,
            ExternKind::UntypedKsym => match addresses.get(name) {
                Some(address) => Resolved::Address(*address),
                None => absent(ext, "kernel symbol", || kallsyms::near_symbols(name))?,
            },
            ExternKind::TypedKsym { .. } => match types.find(name, Kind::Var).map_err(|e| failed(&ext.name, e))? {
                Some(found) => Resolved::Btf(found),
                None => absent(ext, "kernel variable with a type", || types.near("", name, Kind::Var))?,
            },
            ExternKind::Kfunc { .. } => match types.find(name, Kind::Func).map_err(|e| failed(&ext.name, e))? {
                Some(found) => Resolved::Btf(found),
                None => absent(ext, "kernel function", || types.near("", name, Kind::Func))?,
            },
        });
    }
    Ok(resolved)
}

/// A name without its flavour.
fn essence(name: &str) -> &str {
    match name.find("___") {
        Some(at) if at > 0 => name.get(..at).unwrap_or(name),
        _ => name,
    }
}

fn failed(name: &str, cause: Error) -> LoadError {
    LoadError::Extern { name: name.to_owned(), cause }
}

fn absent(ext: &ExternSpec, what: &'static str, near: impl FnOnce() -> Vec<String>) -> Result<Resolved, LoadError> {
    if ext.weak {
        return Ok(Resolved::Missing);
    }
    let cause = Error::NoSuch {
        what,
        name: essence(&ext.name).to_owned(),
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
