//! The running kernel's types, read when first asked for: its own, then each module's.

use crate::btf_object::{BtfObject, kernel_btf};
use crate::error::{Error, Result, near};
use crate::sys::obj;
use skep_btf::{Btf, Kind, TypeId};

/// A type of the kernel: its id, and the module whose types it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) id: TypeId,
    /// Index of a module, `None` for the kernel itself.
    pub(crate) module: Option<usize>,
}

/// A module that has types.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) object: BtfObject,
    btf: Btf,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct KernelTypes {
    modules: Option<Vec<Module>>,
    /// What was odd but not wrong.
    pub(crate) warnings: Vec<String>,
}

impl KernelTypes {
    /// Finds a type by name: in the kernel itself, then in its modules. `module:name` looks in that module only.
    pub(crate) fn find(&mut self, name: &str, kind: Kind) -> Result<Option<Found>> {
        let (wanted, name) = match name.split_once(':') {
            Some((module, name)) => (Some(module), name),
            None => (None, name),
        };
        if wanted.is_none()
            && let Some(id) = kernel_btf()?.find(name, kind)
        {
            return Ok(Some(Found { id, module: None }));
        }
        let modules = self.modules()?;
        let first = kernel_btf()?.type_count();
        Ok(modules.iter().enumerate().filter(|(_, m)| wanted.is_none_or(|w| w == m.name)).find_map(|(index, m)| {
            let id = m.btf.find(name, kind).filter(|id| id.0 >= first)?;
            Some(Found { id, module: Some(index) })
        }))
    }

    /// The types that a found one is in.
    pub(crate) fn btf(&self, found: Found) -> Result<Btf> {
        match found.module.and_then(|index| self.module(index)) {
            Some(module) => Ok(module.btf.clone()),
            None => kernel_btf(),
        }
    }

    /// A module by index.
    pub(crate) fn module(&self, index: usize) -> Option<&Module> {
        self.modules.as_ref()?.get(index)
    }

    /// The types of every module.
    pub(crate) fn module_btfs(&mut self) -> Result<Vec<Btf>> {
        Ok(self.modules()?.iter().map(|module| module.btf.clone()).collect())
    }

    fn modules(&mut self) -> Result<&[Module]> {
        if self.modules.is_none() {
            self.modules = Some(read_modules(&mut self.warnings)?);
        }
        Ok(self.modules.as_deref().unwrap_or(&[]))
    }

    /// Names of the kernel's types of a kind that begin with `prefix` and look like `name` behind it.
    pub(crate) fn near(&self, prefix: &str, name: &str, kind: Kind) -> Vec<String> {
        let Ok(btf) = kernel_btf() else { return Vec::new() };
        let names = (1..btf.type_count())
            .map(TypeId)
            .filter(|id| btf.kind(*id) == Ok(kind))
            .filter_map(|id| btf.name(id).ok()?.strip_prefix(prefix));
        near(name, names, 4)
    }
}

/// A bound on the walk over BTF objects, which other processes make and delete meanwhile.
const MOST_OBJECTS: usize = 1 << 16;

fn read_modules(warnings: &mut Vec<String>) -> Result<Vec<Module>> {
    let mut modules = Vec::new();
    let mut id = 0;
    for _ in 0..MOST_OBJECTS {
        let next = match obj::next_id(obj::Kind::Btf, id) {
            Ok(next) => next,
            // What is not in the modules is still to be had.
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                warnings.push("types of kernel modules are left out: to read them takes CAP_SYS_ADMIN".to_owned());
                break;
            }
            Err(e) => return Err(Error::kernel("walk", "BTF objects", e)),
        };
        let Some(next) = next else { break };
        id = next;
        // One that is gone meanwhile is no module that is wanted.
        let Ok(object) = BtfObject::from_id(id) else { continue };
        let Ok(info) = object.info() else { continue };
        if !info.kernel || info.name == "vmlinux" {
            continue;
        }
        if let Some(btf) = readable(&info.name, object.read(), warnings) {
            modules.push(Module { name: info.name, object, btf });
        }
    }
    Ok(modules)
}

/// One module's types that cannot be read are no reason not to load a program that has nothing to do with it.
fn readable(name: &str, read: Result<Btf>, warnings: &mut Vec<String>) -> Option<Btf> {
    read.map_err(|cause| warnings.push(format!("the types of kernel module {name} are left out: {cause}"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_whose_types_are_broken_is_left_out() {
        let mut warnings = Vec::new();
        let broken = Btf::parse(vec![0; 24]).map_err(|source| Error::Btf { of: "veth".into(), source });
        assert!(readable("veth", broken, &mut warnings).is_none());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("the types of kernel module veth are left out: "), "{warnings:?}");
    }
}
