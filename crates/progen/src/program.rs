//! A generated program: everything that loading it takes, as a value.

use std::sync::Arc;

use skep_abi::{AttachType, MapType, ProgramType};
use skep_btf::Btf;
use skep_isa::{Call, Endian, Insn, InsnIdx, Wide, encode};
use skep_object::{
    ExternIdx, ExternKind, ExternSpec, FuncSpan, Hook, InitialSlot, InitialValue, MapIdx, MapOrigin, MapSpec,
    ObjectSpec, ProgramIdx, ProgramSpec, Reloc, RelocKind, Target,
};

use crate::types::{Ids, btf};

/// A program with the maps and kernel functions that it uses.
///
/// In [`Generated::insns`] a map is its index in [`Generated::maps`] (`map_by_idx(0)`, `map_val(map_by_idx(0)) + 8`)
/// and a kernel function its index in [`Generated::kfuncs`] (`call kfunc(0)`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Generated {
    /// Family and seed.
    pub name: String,
    /// The family that made it.
    pub family: String,
    /// Type; [`ProgramType::Unspec`] for one that is run on plain memory.
    pub prog_type: ProgramType,
    /// Where it would be attached, for types that must say so.
    pub attach_type: Option<AttachType>,
    /// Name of the kernel function or tracepoint that it is for, for types that name one when they are loaded.
    pub target: Option<String>,
    /// Whether it is loaded as one that may sleep.
    pub sleepable: bool,
    /// Licence.
    pub license: String,
    /// Bytes that `r1` points to, with this length in `r2`: for programs of no type, which `skep exec` runs.
    pub memory: Option<u32>,
    /// The instructions.
    pub insns: Vec<Insn>,
    /// Functions in order; the first starts at slot 0.
    pub funcs: Vec<Func>,
    /// Maps.
    pub maps: Vec<MapDef>,
    /// Names of kernel functions, see [`crate::kfuncs`].
    pub kfuncs: Vec<String>,
    /// What it consists of and what was done to it, for a person.
    pub notes: Vec<String>,
}

/// A function of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Func {
    /// First slot.
    pub start: InsnIdx,
    /// Name.
    pub name: String,
    /// Global functions are verified once, by their types; static ones at each call.
    pub global: bool,
    /// Types of the parameters.
    pub params: Vec<Param>,
    /// Whether it returns nothing.
    pub void: bool,
}

/// Type of a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Param {
    /// `int`
    Int,
    /// `long`
    Long,
    /// The program's context.
    Ctx,
    /// A pointer to a struct of so many bytes, or null.
    Mem(u32),
    /// `void *`
    Any,
}

/// A map of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapDef {
    /// Name.
    pub name: String,
    /// Type.
    pub map_type: MapType,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// Elements; bytes for a ring buffer.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// `map_extra`.
    pub extra: u64,
    /// A field of the value that the kernel keeps.
    pub field: Option<(Special, u32)>,
    /// Template of the maps in a map of maps.
    pub inner: Option<Box<MapDef>>,
    /// Contents of a frozen read-only array of one element.
    pub rodata: Option<Vec<u8>>,
    /// A program array whose slot 0 holds the program itself.
    pub holds_self: bool,
}

/// A field of a map value that programs touch only by helpers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Special {
    /// `struct bpf_spin_lock`, 4 bytes.
    SpinLock,
    /// `struct bpf_timer`, 16 bytes.
    Timer,
}

impl MapDef {
    /// A map without anything special.
    pub fn new(name: &str, map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> MapDef {
        MapDef {
            name: name.to_owned(),
            map_type,
            key_size,
            value_size,
            max_entries,
            flags: 0,
            extra: 0,
            field: None,
            inner: None,
            rodata: None,
            holds_self: false,
        }
    }

    fn spec(&self, ids: Option<(skep_btf::TypeId, skep_btf::TypeId)>) -> MapSpec {
        let origin = if self.rodata.is_some() { MapOrigin::Rodata } else { MapOrigin::Declared };
        let initial = match self.holds_self {
            true => vec![InitialSlot { slot: 0, value: InitialValue::Program(ProgramIdx(0)) }],
            false => Vec::new(),
        };
        MapSpec {
            name: self.name.clone(),
            origin,
            map_type: self.map_type,
            key_size: self.key_size,
            value_size: self.value_size,
            max_entries: self.max_entries,
            flags: self.flags,
            numa_node: 0,
            map_extra: self.extra,
            key_type: ids.map(|(key, _)| key),
            value_type: ids.map(|(_, value)| value),
            record_type: None,
            pin_by_name: false,
            inner: self.inner.as_ref().map(|inner| Box::new(inner.spec(None))),
            initial,
            data: self.rodata.clone(),
            vars: Vec::new(),
        }
    }
}

impl Generated {
    /// Slots of the program.
    pub fn slots(&self) -> usize {
        self.insns.iter().map(|insn| insn.slots() as usize).sum()
    }

    /// What the loader, the verifier and the vm take: one program, named `prog`.
    pub fn to_spec(&self) -> ObjectSpec {
        let types = self.needs_types().then(|| btf(self)).flatten();
        let (btf, ids): (Option<Btf>, Option<Ids>) = types.unzip();
        let mut relocs = Vec::new();
        let mut insns = self.insns.clone();
        let mut at = 0;
        for insn in &mut insns {
            let here = InsnIdx(at);
            at += insn.slots();
            let kind = match insn {
                Insn::LoadWide { value: value @ Wide::MapIdx(_), .. } => {
                    let Wide::MapIdx(index) = *value else { continue };
                    *value = Wide::MapFd(0);
                    RelocKind::Map(MapIdx(index as usize))
                }
                Insn::LoadWide { value: value @ Wide::MapIdxValue { .. }, .. } => {
                    let Wide::MapIdxValue { idx, off } = *value else { continue };
                    *value = Wide::MapValue { fd: 0, off };
                    RelocKind::MapValue(MapIdx(idx as usize))
                }
                Insn::Call(Call::Kfunc { btf_id, .. }) => {
                    let index = *btf_id as usize;
                    *btf_id = -1;
                    RelocKind::ExternCall(ExternIdx(index))
                }
                _ => continue,
            };
            relocs.push(Reloc { insn: here, kind });
        }
        let func_id = |index: usize| ids.as_ref().and_then(|ids| ids.funcs.get(index)).copied().unwrap_or_default();
        // The kernel counts only functions that something refers to.
        let used = self.referred();
        let funcs = self
            .funcs
            .iter()
            .enumerate()
            .filter(|(index, func)| *index == 0 || used.contains(&func.start))
            .map(|(index, func)| FuncSpan {
                start: func.start,
                name: Arc::from(func.name.as_str()),
                ty: func_id(index),
            })
            .collect();
        let program = ProgramSpec {
            name: "prog".to_owned(),
            section: self.prog_type.short_name().to_owned(),
            hook: self.hook(),
            insns: encode(&insns),
            relocs,
            core_relocs: Vec::new(),
            funcs,
            lines: Vec::new(),
            poisoned: Vec::new(),
        };
        let externs = self
            .kfuncs
            .iter()
            .enumerate()
            .map(|(index, name)| ExternSpec {
                name: name.clone(),
                weak: false,
                kind: ExternKind::Kfunc {
                    ty: ids.as_ref().and_then(|ids| ids.kfuncs.get(index)).copied().unwrap_or_default(),
                },
            })
            .collect();
        let map_ids = |index: usize| ids.as_ref().and_then(|ids| ids.maps.get(index)).copied().flatten();
        ObjectSpec {
            name: self.name.clone(),
            endian: Endian::NATIVE,
            license: self.license.clone(),
            kernel_version: 0,
            programs: vec![program],
            maps: self.maps.iter().enumerate().map(|(index, map)| map.spec(map_ids(index))).collect(),
            externs,
            btf,
            warnings: Vec::new(),
        }
    }

    /// Slots that are called or whose address is taken.
    fn referred(&self) -> Vec<InsnIdx> {
        let mut at = InsnIdx(0);
        let mut out = Vec::new();
        for insn in &self.insns {
            if matches!(insn, Insn::Call(Call::Subprog(_)) | Insn::LoadWide { value: Wide::Func(_), .. }) {
                out.extend(insn.target(at));
            }
            at.0 += insn.slots();
        }
        out
    }

    /// Types cost the kernel time, so that a program has them only where it does not load without.
    fn needs_types(&self) -> bool {
        self.funcs.len() > 1 || !self.kfuncs.is_empty() || self.maps.iter().any(|map| map.field.is_some())
    }

    fn hook(&self) -> Hook {
        let target = self.target.clone();
        let target = match (self.prog_type, self.attach_type) {
            (ProgramType::Tracing, Some(AttachType::TraceRawTp)) => Target::BtfTracepoint(target),
            (ProgramType::Tracing, Some(AttachType::TraceIter)) => Target::Iter(target),
            (ProgramType::Tracing, _) => Target::BtfFunc(target),
            (ProgramType::Lsm, _) => Target::Lsm(target),
            (ProgramType::RawTracepoint, _) => Target::RawTracepoint(target),
            _ => Target::Unspecified,
        };
        Hook {
            prog_type: self.prog_type,
            attach_type: self.attach_type,
            target,
            sleepable: self.sleepable,
            xdp_frags: false,
            autoload: true,
        }
    }
}
