//! An [`ObjectSpec`] to maps and programs in this process.
//!
//! In this order: what a program asks of the kernel's configuration is answered, CO-RE records are applied against the
//! types that the engine has ([`vm_btf`](crate::source::tracepoints::vm_btf)), maps are made and filled, programs are
//! made ready, slots of program arrays and maps of maps are set.
//!
//! Types that are the same on every kernel (headers on the wire, contexts) hold as they were compiled. Any other type, function or field that the engine does not have is refused only where control reaches it: the instruction
//! becomes a fault that names it, so that a program which asks first (`bpf_core_type_exists`) runs.
//!
//! Limits: maps are not pinned, a map that asks for it is made anew (said in [`Object::warnings`]); the only
//! configuration is `LINUX_KERNEL_VERSION`.
#![expect(unsafe_code, reason = "the address of map memory goes into programs")]

use crate::code::{Callee, Linked, Resolve};
use crate::env::Env;
use crate::fault::FaultKind;
use crate::helper::{HelperResult, helper_fn};
use crate::helpers;
use crate::map::{Definition, Map, SpecialField, SpecialKind, TailTarget};
use crate::memory::{Region, RegionName};
use crate::program::{LoadError, Program, Vm, resolve_helper};
use skep_abi::{KernelVersion, MapType, ProgramType};
use skep_btf::{Btf, Type, TypeId};
use skep_isa::{InsnIdx, Wide};
use skep_object::{
    ExternKind, ExternSpec, InitialValue, MapIdx, MapOrigin, MapSpec, ObjectSpec, ProgramIdx, ProgramSpec, RelocKind,
    core, externs,
};
use std::collections::HashMap;
use std::sync::Arc;

/// The kernel whose layouts the engine's tracepoint records have, as programs see it in `LINUX_KERNEL_VERSION`.
pub const LIKE_KERNEL: KernelVersion = KernelVersion::new(6, 12);

/// How to load an object.
#[derive(Clone, Debug, Default)]
pub struct ObjectOptions {
    /// Only these programs, by name; empty loads all but those whose section starts with `?`.
    pub only: Vec<String>,
    /// Maps to use in place of those that the object declares, by name: shared with other objects or made by the caller.
    pub share: HashMap<String, Arc<Map>>,
    /// Types to relocate against in place of the engine's own.
    pub types: Option<Btf>,
}

/// A loaded object: maps and programs by their places in the spec.
#[derive(Debug)]
pub struct Object {
    spec: ObjectSpec,
    maps: Vec<Arc<Map>>,
    programs: Vec<Option<Program>>,
    warnings: Vec<String>,
}

impl Object {
    /// The spec as loaded.
    pub fn spec(&self) -> &ObjectSpec {
        &self.spec
    }

    /// A map.
    pub fn map(&self, index: MapIdx) -> Option<&Arc<Map>> {
        self.maps.get(index.0)
    }

    /// A map by its name.
    pub fn map_named(&self, name: &str) -> Option<&Arc<Map>> {
        self.map(self.spec.map(name)?.0)
    }

    /// A program, if it has been loaded.
    pub fn program(&self, index: ProgramIdx) -> Option<&Program> {
        self.programs.get(index.0)?.as_ref()
    }

    /// A program by its name, if it has been loaded.
    pub fn program_named(&self, name: &str) -> Option<&Program> {
        self.program(self.spec.program(name)?.0)
    }

    /// The loaded programs, in file order.
    pub fn programs(&self) -> impl Iterator<Item = (ProgramIdx, &Program)> {
        let programs = self.programs.iter().enumerate();
        programs.filter_map(|(index, program)| Some((ProgramIdx(index), program.as_ref()?)))
    }

    /// What was odd but not wrong.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl Drop for Object {
    /// A program array holds programs that hold the array: who made it empties it.
    fn drop(&mut self) {
        for (spec, map) in self.spec.maps.iter().zip(&self.maps) {
            for slot in &spec.initial {
                if let InitialValue::Program(_) = slot.value {
                    // Fails only where the slot is empty already.
                    let _ = map.user().delete(&slot.slot.to_ne_bytes());
                }
            }
        }
    }
}

impl Vm {
    /// Loads an object: its maps are made and filled, its programs made ready.
    pub fn load(&self, spec: &ObjectSpec, options: &ObjectOptions) -> Result<Object, LoadError> {
        let mut spec = spec.clone();
        let object_error = |cause: skep_object::Error| LoadError::Object { cause: cause.to_string() };
        externs::set_kconfig(&mut spec, |name| {
            (name == "LINUX_KERNEL_VERSION").then(|| LIKE_KERNEL.code().to_string())
        })
        .map_err(object_error)?;
        if let Some(btf) = &spec.btf {
            for program in &mut spec.programs {
                crate::stable::keep_as_compiled(btf, program);
            }
        }
        if core::needs_target(&spec) {
            let own;
            let types = match &options.types {
                Some(types) => types,
                None => {
                    own = crate::source::tracepoints::vm_btf()
                        .map_err(|error| LoadError::Object { cause: error.to_string() })?;
                    &own
                }
            };
            core::relocate(&mut spec, types).map_err(object_error)?;
        }
        let mut warnings = Vec::new();
        let mut maps = Vec::new();
        for map in &spec.maps {
            let made = match options.share.get(&map.name) {
                Some(shared) => shared.clone(),
                None => self.make_map(map, spec.btf.as_ref())?,
            };
            if map.pin_by_name && !options.share.contains_key(&map.name) {
                warnings
                    .push(format!("map {} is not pinned: the embedded engine's maps end with their process", map.name));
            }
            maps.push(made);
        }
        let wanted = |program: &ProgramSpec| match options.only.as_slice() {
            [] => program.hook.autoload,
            names => names.contains(&program.name),
        };
        if let Some(missing) = options.only.iter().find(|name| spec.program(name).is_none()) {
            let names: Vec<&str> = spec.programs.iter().map(|program| program.name.as_str()).collect();
            let cause = format!("{} has no program {missing}; it has {}", spec.name, names.join(", "));
            return Err(LoadError::Object { cause });
        }
        let mut programs = Vec::new();
        for program in &spec.programs {
            programs.push(match wanted(program) {
                true => Some(self.make_program(&spec, program, &maps)?),
                false => None,
            });
        }
        let object = Object { spec, maps, programs, warnings };
        object.set_slots(&options.share)?;
        Ok(object)
    }

    fn make_map(&self, spec: &MapSpec, btf: Option<&Btf>) -> Result<Arc<Map>, LoadError> {
        let cpus = self.shared.cpus.count();
        let fail = |cause: String| LoadError::Map { map: spec.name.clone(), cause };
        let map = self.define(spec, btf, cpus)?;
        if let Some(data) = &spec.data {
            map.user().update(&0u32.to_ne_bytes(), data, 0).map_err(|errno| fail(format!("fill it: {errno}")))?;
        }
        if matches!(spec.origin, MapOrigin::Rodata | MapOrigin::Kconfig) {
            map.user().freeze().map_err(|errno| fail(format!("freeze it: {errno}")))?;
        }
        Ok(map)
    }

    fn define(&self, spec: &MapSpec, btf: Option<&Btf>, cpus: u32) -> Result<Arc<Map>, LoadError> {
        let fail = |cause: String| LoadError::Map { map: spec.name.clone(), cause };
        let entries = match (spec.map_type, spec.max_entries) {
            (MapType::PerfEventArray, 0) => cpus,
            (_, entries) => entries,
        };
        let mut definition = Definition::new(&spec.name, spec.map_type, spec.key_size, spec.value_size, entries);
        definition.flags = spec.flags;
        definition.map_extra = spec.map_extra;
        if let (Some(btf), Some(value)) = (btf, spec.value_type) {
            definition.special = special_fields(btf, value);
        }
        if let Some(inner) = &spec.inner {
            definition.inner = Some(self.define(inner, btf, cpus)?);
        }
        let map = Map::create(&definition, cpus).map_err(|error| fail(error.to_string()))?;
        if spec.map_type == MapType::PerfEventArray {
            map.user().open_perf(PERF_BUFFER_BYTES).map_err(|errno| fail(format!("open it: {errno}")))?;
        }
        Ok(map)
    }

    fn make_program(&self, spec: &ObjectSpec, program: &ProgramSpec, maps: &[Arc<Map>]) -> Result<Program, LoadError> {
        let named = |cause| LoadError::Code { program: program.name.clone(), cause };
        let kind = program.hook.prog_type;
        let insns = skep_isa::decode(&program.insns).map_err(|error| named(error.into()))?;
        for reloc in &program.relocs {
            if let RelocKind::Extern(index) = reloc.kind
                && let Some(found) = spec.externs.get(index.0)
                && !found.weak
            {
                let cause = format!("{}: the embedded engine has no kernel variable {}", program.name, found.name);
                return Err(LoadError::Object { cause });
            }
        }
        let mut linker = Linker {
            vm: self,
            kind,
            externs: &spec.externs,
            relocs: program.relocs.iter().map(|reloc| (reloc.insn, reloc.kind)).collect(),
            poisoned: program.poisoned.iter().map(|(at, why)| (*at, why.as_str())).collect(),
            maps,
            used: Vec::new(),
            data: Vec::new(),
            reasons: Vec::new(),
        };
        self.load_insns(&program.name, kind, &insns, &mut linker)
    }
}

/// Bytes of a perf buffer for each CPU.
const PERF_BUFFER_BYTES: usize = 1 << 18;

impl Object {
    /// Fills program arrays and maps of maps.
    fn set_slots(&self, shared: &HashMap<String, Arc<Map>>) -> Result<(), LoadError> {
        for (spec, map) in self.spec.maps.iter().zip(&self.maps) {
            if shared.contains_key(&spec.name) {
                continue;
            }
            for slot in &spec.initial {
                let key = slot.slot.to_ne_bytes();
                let set = match slot.value {
                    InitialValue::Map(inner) => match self.maps.get(inner.0) {
                        Some(inner) => map.user().set_map(&key, inner.clone(), 0),
                        None => continue,
                    },
                    InitialValue::Program(program) => match self.program(program) {
                        Some(target) => map.user().set_program(&key, target.tail_target(), 0),
                        // Held back by its section: the slot stays empty, as with the kernel's loader.
                        None => continue,
                    },
                };
                set.map_err(|errno| LoadError::Map {
                    map: spec.name.clone(),
                    cause: format!("set slot {}: {errno}", slot.slot),
                })?;
            }
        }
        Ok(())
    }
}

impl Program {
    /// What stands for this program in a program array.
    pub fn tail_target(&self) -> Arc<TailTarget> {
        Arc::new(TailTarget { entry: self.entry(), id: self.id(), program: self.loaded.clone() })
    }
}

/// The fields of a value that belong to the engine, by their types.
fn special_fields(btf: &Btf, value: TypeId) -> Vec<SpecialField> {
    const KINDS: [SpecialKind; 3] = [SpecialKind::SpinLock, SpecialKind::Timer, SpecialKind::Workqueue];
    let Ok(Type::Struct(value)) = btf.resolve(value).and_then(|id| btf.get(id)) else { return Vec::new() };
    let name_of = |id: TypeId| btf.resolve(id).and_then(|id| btf.name(id)).unwrap_or_default();
    let special = value.members.iter().filter_map(|member| {
        let name = name_of(member.ty);
        let kind = KINDS.into_iter().find(|kind| kind.name().strip_prefix("struct ") == Some(name))?;
        Some(SpecialField { kind, offset: member.bit_offset / 8 })
    });
    special.collect()
}

/// Resolves what the instructions of a linked program name.
struct Linker<'s> {
    vm: &'s Vm,
    kind: ProgramType,
    externs: &'s [ExternSpec],
    relocs: HashMap<InsnIdx, RelocKind>,
    poisoned: HashMap<InsnIdx, &'s str>,
    maps: &'s [Arc<Map>],
    used: Vec<Arc<Map>>,
    data: Vec<Region>,
    reasons: Vec<String>,
}

impl Linker<'_> {
    fn use_map(&mut self, index: MapIdx) -> Result<Arc<Map>, String> {
        let map = self.maps.get(index.0).ok_or("it names a map that the object does not have")?.clone();
        if !self.used.iter().any(|used| Arc::ptr_eq(used, &map)) {
            self.used.push(map.clone());
        }
        Ok(map)
    }

    /// A call that ends the run and says why, for what cannot be had but may never be reached.
    fn refusal(&mut self, why: String) -> Callee {
        self.reasons.push(why);
        Callee { function: helper_fn!(refused), id: 0, host: Some(self.reasons.len() - 1) }
    }
}

/// Ends the run: what is called here could not be had.
fn refused(env: &mut Env, _: [u64; 5]) -> HelperResult {
    Err(FaultKind::Unavailable { why: env.refusal().unwrap_or_default() }.into())
}

impl Resolve for Linker<'_> {
    fn helper(&mut self, at: InsnIdx, id: u32) -> Result<Callee, String> {
        if let Some(why) = self.poisoned.get(&at) {
            let why = (*why).to_owned();
            return Ok(self.refusal(why));
        }
        resolve_helper(&self.vm.shared.helpers, self.kind, id)
    }

    fn kfunc(&mut self, at: InsnIdx, btf_id: i32, _: i16) -> Result<Callee, String> {
        let Some(RelocKind::ExternCall(index)) = self.relocs.get(&at) else {
            return Err(format!("kernel function {btf_id} has no name here"));
        };
        let found = self.externs.get(index.0).ok_or("it calls an extern that the object does not have")?;
        let name = found.lookup_name();
        match helpers::kfunc(name) {
            Some(builtin) => Ok(Callee { function: builtin.function, id: 0, host: None }),
            None if found.weak => Ok(self.refusal(format!("the embedded engine has no kernel function {name}"))),
            None => Err(format!(
                "kernel function {name} has no meaning outside the kernel, so the embedded engine does not have it"
            )),
        }
    }

    fn wide(&mut self, at: InsnIdx, value: Wide) -> Result<u64, String> {
        match (self.relocs.get(&at).copied(), value) {
            (Some(RelocKind::Map(index)), _) => Ok(Arc::as_ptr(&self.use_map(index)?).expose_provenance() as u64),
            (Some(RelocKind::MapValue(index)), Wide::MapValue { off, .. } | Wide::MapIdxValue { off, .. }) => {
                let map = self.use_map(index)?;
                let facts = map.array_facts().ok_or_else(|| format!("map {} has no address to load", map.name()))?;
                let start = facts.base.expose_provenance() as u64;
                let name = RegionName::MapValue(map.name().into());
                let region = Region { start, len: map.value_size().into(), writable: map.program_may_write(), name };
                if !self.data.contains(&region) {
                    self.data.push(region);
                }
                Ok(start + u64::from(off))
            }
            (Some(RelocKind::Extern(index)), _) => match self.externs.get(index.0) {
                Some(ExternSpec { weak: true, .. }) => Ok(0),
                Some(ExternSpec { kind: ExternKind::Kconfig { .. }, .. }) | None => {
                    Err("it loads an extern that the object does not have".to_owned())
                }
                Some(found) => Err(format!("the embedded engine has no kernel variable {}", found.name)),
            },
            _ => Err("it loads a map that the object does not name".to_owned()),
        }
    }

    fn finish(&mut self) -> Linked {
        Linked {
            maps: std::mem::take(&mut self.used),
            data: std::mem::take(&mut self.data),
            refusals: std::mem::take(&mut self.reasons),
        }
    }
}
