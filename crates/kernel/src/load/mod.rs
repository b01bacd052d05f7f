//! An [`ObjectSpec`] to programs and maps in the running kernel.
//!
//! ```no_run
//! # use skep_kernel::load::{LoadOptions, load};
//! # let spec: skep_object::ObjectSpec = todo();
//! # fn todo() -> skep_object::ObjectSpec { std::process::exit(0) }
//! let loaded = load(&spec, &LoadOptions::default())?;
//! for program in loaded.programs() {
//!     println!("{} is loaded", program.name());
//! }
//! # Ok::<(), skep_kernel::load::LoadError>(())
//! ```
//!
//! In this order: what only the running kernel knows is looked up (configuration, symbols, functions), CO-RE records are
//! applied, the object's BTF is loaded, maps are made or adopted from their pins and filled, programs are loaded, slots
//! of program arrays are set. Each step is left out when the object does not need it: the kernel's own 5 MB of types are
//! read only for an object that refers to them, and what the kernel can do is tried only after it has refused.
//!
//! Nothing stays when a step fails. Maps that are pinned by name are pinned from the start, so that another load finds
//! them, but a pin that this load made goes with the [`Loaded`] unless [`Loaded::keep_pins`] was called: only the caller
//! knows when all that comes behind the load, such as attaching, has succeeded. Pins that were there before stay.
//!
//! Limits: programs for struct_ops are refused.

mod error;
mod externs;
mod hooks;
mod maps;
mod programs;
mod types;

pub use error::LoadError;

use crate::error::{Error, near};
use crate::program::LogLevel;
use crate::{BtfObject, Map, Program};
use skep_abi::insn::CoreReloKind;
use skep_btf::Btf;
use skep_object::{CoreReloc, MapIdx, ObjectSpec, ProgramIdx, core};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// Which programs of an object to load.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Selection {
    /// All but those whose section starts with `?`.
    #[default]
    Autoload,
    /// Those with these names.
    Named(Vec<String>),
}

/// How to load.
#[derive(Debug)]
pub struct LoadOptions {
    /// Which programs.
    pub programs: Selection,
    /// What the verifier is to say of programs that it accepts, see [`Program::log`].
    pub log_level: LogLevel,
    /// What it is to say of a program that it refuses.
    pub refusal_level: LogLevel,
    /// Where maps that are pinned by name live.
    pub pin_root: PathBuf,
    /// Types to relocate against in place of the running kernel's.
    pub kernel_btf: Option<Btf>,
    /// Maps to use in place of those that the object declares, by name. They must fit.
    pub reuse: HashMap<String, Map>,
    /// Loaded programs that freplace programs are for, by the name of the freplace program.
    pub extends: HashMap<String, Program>,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions {
            programs: Selection::default(),
            log_level: LogLevel::None,
            refusal_level: LogLevel::Level1,
            pin_root: PathBuf::from(crate::pin::BPFFS),
            kernel_btf: None,
            reuse: HashMap::new(),
            extends: HashMap::new(),
        }
    }
}

/// What was loaded. Dropping it lets go of everything that nothing else holds, and takes back the pins that the load made
/// unless [`Loaded::keep_pins`] was called.
#[derive(Debug)]
pub struct Loaded {
    pins: maps::Pins,
    maps: Vec<Map>,
    programs: Vec<Option<Program>>,
    btf: Option<BtfObject>,
    warnings: Vec<String>,
}

impl Loaded {
    /// The maps, in the order of [`ObjectSpec::maps`].
    pub fn maps(&self) -> &[Map] {
        &self.maps
    }

    /// The map of this index.
    pub fn map(&self, index: MapIdx) -> Option<&Map> {
        self.maps.get(index.0)
    }

    /// The map of this name.
    pub fn map_named(&self, name: &str) -> Option<&Map> {
        self.maps.iter().find(|m| m.name() == name)
    }

    /// The programs that were loaded, in the order of [`ObjectSpec::programs`].
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.programs.iter().flatten()
    }

    /// The program of this index, `None` if it was not selected.
    pub fn program(&self, index: ProgramIdx) -> Option<&Program> {
        self.programs.get(index.0)?.as_ref()
    }

    /// The program of this name, `None` if it was not selected.
    pub fn program_named(&self, name: &str) -> Option<&Program> {
        self.programs().find(|p| p.name() == name)
    }

    /// The object's BTF in the kernel, `None` if it has none or the kernel takes none.
    pub fn btf(&self) -> Option<&BtfObject> {
        self.btf.as_ref()
    }

    /// The maps that this load pinned by name stay pinned, also when this is dropped. To be called when whatever else is
    /// to succeed, such as attaching, has succeeded.
    pub fn keep_pins(&mut self) {
        self.pins.keep();
    }

    /// What was odd but not wrong.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Loads an object, see the [module](self).
pub fn load(spec: &ObjectSpec, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let invalid = |why: String| LoadError::Invalid { object: spec.name.clone(), why };
    if spec.endian != skep_isa::Endian::NATIVE {
        return Err(invalid(
            "it was compiled for machines of the other byte order; use -target bpf, or bpfel or bpfeb".into(),
        ));
    }
    let selected = select(spec, &options.programs)?;
    // What is looked up goes into a copy: the caller's spec stays as it is on every machine.
    let mut spec = spec.clone();
    let mut warnings = Vec::new();
    let mut types = types::KernelTypes::default();
    let externs = externs::resolve(&mut spec, &selected, &mut types)?;
    relocate(&mut spec, &selected, options, &mut types)?;
    let btf = load_btf(&spec, &mut warnings)?;
    let mut pins = maps::Pins::default();
    let maps = maps::create_all(&spec, btf.as_ref(), options, &mut pins)?;
    let around = programs::Around { spec: &spec, maps: &maps, btf: btf.as_ref(), externs: &externs, options };
    let mut programs = Vec::with_capacity(spec.programs.len());
    for (program, selected) in spec.programs.iter().zip(&selected) {
        programs.push(match selected {
            true => Some(programs::load(program, &around, &mut types)?),
            false => None,
        });
    }
    for program in programs.iter().flatten().filter(|p: &&Program| p.log_is_cut()) {
        warnings
            .push(format!("the verifier's log of {} is longer than 64 MiB; a part of it is left out", program.name()));
    }
    warnings.append(&mut types.warnings);
    set_program_slots(&spec, &maps, &programs)?;
    Ok(Loaded { pins, maps, programs, btf, warnings })
}

fn select(spec: &ObjectSpec, selection: &Selection) -> Result<Vec<bool>, LoadError> {
    match selection {
        Selection::Autoload => Ok(spec.programs.iter().map(|p| p.hook.autoload).collect()),
        Selection::Named(names) => {
            if let Some(name) = names.iter().find(|n| spec.program(n).is_none()) {
                let known = spec.programs.iter().map(|p| p.name.as_str());
                let cause = Error::NoSuch {
                    what: "program in this object",
                    name: name.clone(),
                    near: near(name, known, 3),
                    next: String::new(),
                };
                return Err(LoadError::Hook { name: name.clone(), cause });
            }
            Ok(spec.programs.iter().map(|p| names.contains(&p.name)).collect())
        }
    }
}

/// Fits the programs to the kernel's types, if any of those to be loaded needs it.
fn relocate(
    spec: &mut ObjectSpec,
    selected: &[bool],
    options: &LoadOptions,
    types: &mut types::KernelTypes,
) -> Result<(), LoadError> {
    for (program, selected) in spec.programs.iter_mut().zip(selected) {
        if !selected {
            program.core_relocs.clear();
        }
    }
    let targets = match &options.kernel_btf {
        _ if !core::needs_target(spec) => Vec::new(),
        // Given types are those of the whole target.
        Some(btf) => vec![btf.clone()],
        None => {
            let mut targets = vec![crate::kernel_btf()?];
            if wants_modules(spec, &targets[0]) {
                targets.extend(types.module_btfs()?);
            }
            targets
        }
    };
    core::relocate_with(spec, &targets)
        .map_err(|e| LoadError::Btf { what: format!("CO-RE relocation: {e}"), log: String::new() })
}

/// Whether a record is about a type that the kernel itself does not have.
fn wants_modules(spec: &ObjectSpec, kernel: &Btf) -> bool {
    let Some(local) = &spec.btf else { return false };
    let missing = |id| match (local.name(id), local.kind(id)) {
        (Ok(name), Ok(kind)) => kernel.find(core::essential_name(name), kind).is_none(),
        _ => false,
    };
    let of_kernel = |record: &&CoreReloc| record.kind != CoreReloKind::TypeIdLocal.as_u32();
    let records = spec.programs.iter().flat_map(|program| &program.core_relocs).filter(of_kernel);
    records.map(|record| record.ty).collect::<HashSet<_>>().into_iter().any(missing)
}

/// Loads the object's types. Kinds that this kernel does not know are replaced, but only after it has refused.
fn load_btf(spec: &ObjectSpec, warnings: &mut Vec<String>) -> Result<Option<BtfObject>, LoadError> {
    let Some(btf) = &spec.btf else { return Ok(None) };
    let refused = match BtfObject::load(btf.bytes()) {
        Ok(object) => return Ok(Some(object)),
        Err(refused) => refused,
    };
    if refused.errno.0 == libc::EPERM {
        let (missing, remedy) = crate::privilege::diagnose(&["CAP_BPF"]);
        return Err(LoadError::Permission { object: format!("the types of {}", spec.name), missing, remedy });
    }
    let features = crate::features::btf();
    if features != skep_btf::load::Features::ALL
        && let Ok(bytes) = skep_btf::load::sanitize(btf, features)
        && let Ok(object) = BtfObject::load(&bytes)
    {
        return Ok(Some(object));
    }
    // Types help inspection and messages; a program that cannot do without them is refused by the verifier.
    let reason = refused.log.lines().last().unwrap_or_default();
    warnings.push(format!("the kernel does not take the types of {}: {} {reason}", spec.name, refused.errno));
    Ok(None)
}

fn set_program_slots(spec: &ObjectSpec, maps: &[Map], programs: &[Option<Program>]) -> Result<(), LoadError> {
    for (map_spec, map) in spec.maps.iter().zip(maps) {
        for slot in &map_spec.initial {
            let skep_object::InitialValue::Program(index) = slot.value else { continue };
            let Some(Some(program)) = programs.get(index.0) else { continue };
            map.set_fd(&slot.slot.to_ne_bytes(), program.fd())
                .map_err(|cause| LoadError::Map { name: map_spec.name.clone(), cause })?;
        }
    }
    Ok(())
}
