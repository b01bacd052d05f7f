//! What a program is made for, as the kernel wants to know it at load time: the BTF id of a function, a tracepoint, an
//! LSM hook or an iterator.
//!
//! | section | what is looked up |
//! |---|---|
//! | `tp_btf/NAME` | typedef `btf_trace_NAME` |
//! | `fentry/FUNC`, `fexit/FUNC`, `fmod_ret/FUNC` | function `FUNC`, also in modules |
//! | `lsm/HOOK`, `lsm_cgroup/HOOK` | function `bpf_lsm_HOOK` |
//! | `iter/KIND` | function `bpf_iter_KIND` |
//! | `freplace/FUNC` | function `FUNC` of the program to be extended |

use super::types::{Found, KernelTypes};
use crate::error::{Error, Result};
use crate::{BtfObject, Program};
use skep_btf::{Kind, TypeId};
use skep_object::{ProgramSpec, Target};

/// Where the `attach_btf_id` is an id in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Nothing,
    Kernel(TypeId),
    Module(TypeId, usize),
    Program(TypeId),
}

/// Finds what a program is made for.
pub(crate) fn resolve(program: &ProgramSpec, extends: Option<&Program>, types: &mut KernelTypes) -> Result<Place> {
    let unnamed = |what: &str| Error::Invalid {
        action: "load",
        object: format!("section {}", program.section),
        why: format!("it names no {what}; write one behind a slash"),
    };
    match &program.hook.target {
        Target::BtfTracepoint(name) => {
            let name = name.as_deref().ok_or_else(|| unnamed("tracepoint"))?;
            find(types, "tracepoint", "btf_trace_", name, Kind::Typedef)
        }
        Target::BtfFunc(name) if program.hook.prog_type == skep_abi::ProgramType::Ext => {
            let target = extends.ok_or_else(|| Error::Unsupported {
                what: format!("section {}", program.section),
                why: "it replaces a function of another program, and none was given".into(),
                next: "load the program that it extends first and name it".into(),
            })?;
            let name = name.as_deref().ok_or_else(|| unnamed("function"))?;
            extended(target, name)
        }
        Target::BtfFunc(name) => {
            let name = name.as_deref().ok_or_else(|| unnamed("function"))?;
            find(types, "kernel function", "", name, Kind::Func)
        }
        Target::Lsm(name) => {
            let name = name.as_deref().ok_or_else(|| unnamed("LSM hook"))?;
            find(types, "LSM hook", "bpf_lsm_", name, Kind::Func)
        }
        Target::Iter(name) => {
            let name = name.as_deref().ok_or_else(|| unnamed("iterator"))?;
            find(types, "iterator", "bpf_iter_", name, Kind::Func)
        }
        Target::StructOps(_) => Err(Error::Unsupported {
            what: format!("section {}", program.section),
            why: "skep does not register struct_ops".into(),
            next: "load it with bpftool struct_ops register".into(),
        }),
        _ => Ok(Place::Nothing),
    }
}

fn find(types: &mut KernelTypes, what: &'static str, prefix: &str, name: &str, kind: Kind) -> Result<Place> {
    let full = match name.split_once(':') {
        Some((module, name)) => format!("{module}:{prefix}{name}"),
        None => format!("{prefix}{name}"),
    };
    match types.find(&full, kind)? {
        Some(Found { id, module: None }) => Ok(Place::Kernel(id)),
        Some(Found { id, module: Some(module) }) => Ok(Place::Module(id, module)),
        None => Err(Error::NoSuch {
            what,
            name: name.to_owned(),
            near: types.near(prefix, name, kind),
            next: match what {
                "kernel function" => {
                    "functions that the compiler inlined, or gave a suffix such as .isra.0, cannot be traced".into()
                }
                _ => String::new(),
            },
        }),
    }
}

/// A function of a loaded program.
fn extended(target: &Program, name: &str) -> Result<Place> {
    let info = target.info()?;
    if info.btf_id == 0 {
        return Err(Error::Unsupported {
            what: format!("replacing {name} of program {}", target.name()),
            why: "that program has no types in the kernel".into(),
            next: "compile it with -g".into(),
        });
    }
    let btf = BtfObject::from_id(info.btf_id)?.read()?;
    btf.find(name, Kind::Func).map(Place::Program).ok_or_else(|| Error::NoSuch {
        what: "function of the program to be extended",
        name: name.to_owned(),
        near: Vec::new(),
        next: String::new(),
    })
}
