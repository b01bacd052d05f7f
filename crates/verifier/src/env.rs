//! What does not change during a check: decoded instructions, functions, maps, types, options.

use std::collections::{BTreeMap, BTreeSet};

use skep_abi::flags::map_create;
use skep_abi::{AttachType, KernelVersion, MapType, ProgramType};
use skep_btf::{Btf, Kind, Linkage, Type, TypeId};
use skep_isa::{Call, Insn, InsnIdx, Wide, decode_at};
use skep_object::{ExternSpec, MapIdx, MapOrigin, MapSpec, ObjectSpec, ProgramSpec, RelocKind};

use crate::state::MapId;
use crate::stop::Stop;
use crate::{Code, Options};

/// A kind of field that the kernel manages within map values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FieldKind {
    SpinLock,
    ResSpinLock,
    Timer,
    WorkQueue,
    TaskWork,
    /// `__kptr` and its kin.
    Kptr,
    ListHead,
    ListNode,
    RbRoot,
    RbNode,
    Refcount,
}

impl FieldKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            FieldKind::SpinLock => "bpf_spin_lock",
            FieldKind::ResSpinLock => "bpf_res_spin_lock",
            FieldKind::Timer => "bpf_timer",
            FieldKind::WorkQueue => "bpf_wq",
            FieldKind::TaskWork => "bpf_task_work",
            FieldKind::Kptr => "kptr",
            FieldKind::ListHead => "bpf_list_head",
            FieldKind::ListNode => "bpf_list_node",
            FieldKind::RbRoot => "bpf_rb_root",
            FieldKind::RbNode => "bpf_rb_node",
            FieldKind::Refcount => "bpf_refcount",
        }
    }

    fn by_struct(name: &str) -> Option<(FieldKind, u32)> {
        Some(match name {
            "bpf_spin_lock" => (FieldKind::SpinLock, 4),
            "bpf_res_spin_lock" => (FieldKind::ResSpinLock, 4),
            "bpf_timer" => (FieldKind::Timer, 16),
            "bpf_wq" => (FieldKind::WorkQueue, 16),
            "bpf_task_work" => (FieldKind::TaskWork, 8),
            "bpf_list_head" => (FieldKind::ListHead, 16),
            "bpf_list_node" => (FieldKind::ListNode, 24),
            "bpf_rb_root" => (FieldKind::RbRoot, 16),
            "bpf_rb_node" => (FieldKind::RbNode, 32),
            "bpf_refcount" => (FieldKind::Refcount, 4),
            _ => return None,
        })
    }
}

/// A field that the kernel manages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SpecialField {
    pub(crate) kind: FieldKind,
    /// Bytes from the value's start.
    pub(crate) offset: u32,
    /// Bytes.
    pub(crate) size: u32,
}

/// A map as the check sees it.
#[derive(Clone, Debug)]
pub(crate) struct MapInfo<'a> {
    pub(crate) spec: &'a MapSpec,
    /// The object's map; none for a template of inner maps.
    pub(crate) idx: Option<MapIdx>,
    /// The template of its inner maps.
    pub(crate) inner: Option<MapId>,
    pub(crate) fields: Vec<SpecialField>,
    /// Contents that nothing can change once the program runs.
    pub(crate) frozen: Option<&'a [u8]>,
}

impl MapInfo<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(crate) fn map_type(&self) -> MapType {
        self.spec.map_type
    }

    pub(crate) fn can_read(&self) -> bool {
        u64::from(self.spec.flags) & map_create::BPF_F_WRONLY_PROG == 0
    }

    pub(crate) fn can_write(&self) -> bool {
        u64::from(self.spec.flags) & map_create::BPF_F_RDONLY_PROG == 0
    }

    pub(crate) fn field(&self, kind: FieldKind) -> Option<&SpecialField> {
        self.fields.iter().find(|field| field.kind == kind)
    }
}

/// A function of the program.
#[derive(Clone, Debug)]
pub(crate) struct Subprog {
    /// First slot.
    pub(crate) start: u32,
    /// Slot behind its last.
    pub(crate) end: u32,
    pub(crate) name: Option<String>,
    /// Its `Func` in the object's types.
    pub(crate) btf: Option<TypeId>,
    /// Checked on its own, by its argument types.
    pub(crate) global: bool,
    /// Parameters, where types say.
    pub(crate) params: Option<usize>,
    pub(crate) has_tail_call: bool,
    /// It or what it calls contains `LD_ABS` or `LD_IND`.
    pub(crate) has_ld_abs: bool,
    /// It or what it calls may move the packet.
    pub(crate) changes_packet: bool,
    /// It or what it calls may sleep.
    pub(crate) might_sleep: bool,
}

/// The program type and place that the check is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) prog_type: ProgramType,
    pub(crate) attach: Option<AttachType>,
    pub(crate) sleepable: bool,
}

/// Everything that stays the same during a check.
pub(crate) struct Env<'a> {
    pub(crate) spec: &'a ObjectSpec,
    pub(crate) program: &'a ProgramSpec,
    pub(crate) options: &'a Options<'a>,
    pub(crate) kernel: KernelVersion,
    pub(crate) place: Place,
    /// The kernel's types.
    pub(crate) kernel_btf: Option<&'a Btf>,
    /// The object's types.
    pub(crate) object_btf: Option<&'a Btf>,
    pub(crate) privileged: bool,
    /// Whether the licence is one that the kernel takes for GPL-compatible.
    pub(crate) gpl: bool,
    /// By slot; the second slot of a wide load repeats the load.
    pub(crate) insns: Vec<Insn>,
    /// Whether a slot is the second of a wide load.
    pub(crate) second: Vec<bool>,
    relocs: BTreeMap<u32, RelocKind>,
    /// In the order of their starts; the entry function is the first.
    pub(crate) subprogs: Vec<Subprog>,
    pub(crate) maps: Vec<MapInfo<'a>>,
    pub(crate) warnings: Vec<String>,
}

impl<'a> Env<'a> {
    pub(crate) fn new(
        spec: &'a ObjectSpec,
        program: &'a ProgramSpec,
        options: &'a Options<'a>,
    ) -> Result<Env<'a>, Stop> {
        let hook = &program.hook;
        let prog_type = options.prog_type.unwrap_or(hook.prog_type);
        let attach = options.attach_type.or(if options.prog_type.is_none_or(|ty| ty == hook.prog_type) {
            hook.attach_type
        } else {
            None
        });
        let place = Place { prog_type, attach, sleepable: hook.sleepable || prog_type == ProgramType::Syscall };
        let mut env = Env {
            spec,
            program,
            options,
            kernel: options.kernel,
            place,
            kernel_btf: options.target_btf,
            object_btf: spec.btf.as_ref(),
            privileged: options.privileged,
            gpl: skep_abi::licence::is_gpl_compatible(&spec.license),
            insns: Vec::with_capacity(program.insns.len()),
            second: Vec::with_capacity(program.insns.len()),
            relocs: program.relocs.iter().map(|reloc| (reloc.insn.0, reloc.kind)).collect(),
            subprogs: Vec::new(),
            maps: Vec::new(),
            warnings: Vec::new(),
        };
        env.check_place()?;
        env.decode()?;
        env.read_maps();
        env.find_subprogs()?;
        Ok(env)
    }

    fn check_place(&self) -> Result<(), Stop> {
        match self.place.prog_type {
            ProgramType::Unspec => Err(Stop::reject(Code::Hook, "the program has no type")
                .title(format!("no convention says what a program in section `{}` is for", self.program.section))
                .help("name the section after a hook, such as SEC(\"xdp\"), or say the type with --type")),
            ProgramType::StructOps => Err(Stop::unsupported("struct_ops programs")),
            ProgramType::Ext => Err(Stop::unsupported("extension programs (freplace)")),
            ty if ty.since() > self.kernel => Err(Stop::reject(Code::KernelTooOld, "the program's type")
                .title(format!("Linux {} has no {} programs; {} is the first that has", self.kernel, ty, ty.since()))),
            _ => match self.place.attach {
                Some(attach) if attach.since() > self.kernel => {
                    Err(Stop::reject(Code::KernelTooOld, "the program's place").title(format!(
                        "Linux {} has no attach type {attach}; {} is the first that has",
                        self.kernel,
                        attach.since()
                    )))
                }
                _ => Ok(()),
            },
        }
    }

    fn decode(&mut self) -> Result<(), Stop> {
        let slots = &self.program.insns;
        let limit = self.options.limits.insns.max(1) as usize;
        if slots.is_empty() || slots.len() > limit {
            return Err(Stop::reject(Code::ProgramSize, "here")
                .title(format!("the program has {} instructions; 1 to {limit} are allowed", slots.len())));
        }
        let mut at = 0;
        while at < slots.len() {
            let idx = InsnIdx(at as u32);
            let insn = decode_at(slots, idx).map_err(|error| {
                Stop::reject(Code::BadInstruction, error.problem.to_string())
                    .at(idx)
                    .title("this is not a valid instruction")
                    .kernel("unknown opcode / BPF_ALU uses reserved fields")
            })?;
            if let Some((since, what)) = crate::versions::instruction_since(&insn)
                .filter(|(since, _)| *since > self.kernel && !self.relocs.contains_key(&idx.0))
            {
                return Err(Stop::reject(Code::KernelTooOld, format!("{what}: since {since}"))
                    .at(idx)
                    .title(format!("Linux {} does not have this instruction", self.kernel))
                    .help("compile for an older instruction set (clang -mcpu), or write it otherwise"));
            }
            self.insns.push(insn);
            self.second.push(false);
            at += 1;
            if insn.slots() == 2 {
                self.insns.push(insn);
                self.second.push(true);
                at += 1;
            }
        }
        Ok(())
    }

    fn read_maps(&mut self) {
        let spec = self.spec;
        for (index, map) in spec.maps.iter().enumerate() {
            let info = self.map_info(map, Some(MapIdx(index)));
            self.maps.push(info);
        }
        for index in 0..spec.maps.len() {
            let Some(inner) = spec.maps.get(index).and_then(|map| map.inner.as_deref()) else { continue };
            let id = MapId(self.maps.len() as u32);
            let info = self.map_info(inner, None);
            self.maps.push(info);
            if let Some(outer) = self.maps.get_mut(index) {
                outer.inner = Some(id);
            }
        }
    }

    fn map_info(&self, map: &'a MapSpec, idx: Option<MapIdx>) -> MapInfo<'a> {
        let frozen = match map.origin {
            MapOrigin::Rodata => map.data.as_deref(),
            // All zeros is what stands there before the kernel's configuration was filled in.
            MapOrigin::Kconfig => map.data.as_deref().filter(|data| data.iter().any(|byte| *byte != 0)),
            _ => None,
        };
        let mut fields = Vec::new();
        if let (Some(btf), Some(ty)) = (self.object_btf, map.value_type) {
            collect_fields(btf, ty, 0, 8, &mut fields);
        }
        MapInfo { spec: map, idx, inner: None, fields, frozen }
    }

    /// Where functions start: the entry, and whatever is called or has its address taken.
    fn find_subprogs(&mut self) -> Result<(), Stop> {
        let mut starts = BTreeSet::from([0u32]);
        for (at, insn) in self.insns.iter().enumerate() {
            if self.second[at] {
                continue;
            }
            if !matches!(insn, Insn::Call(Call::Subprog(_)) | Insn::LoadWide { value: Wide::Func(_), .. }) {
                continue;
            }
            let idx = InsnIdx(at as u32);
            let target = insn.target(idx).filter(|t| t.as_usize() < self.insns.len() && !self.second[t.as_usize()]);
            let Some(target) = target else {
                return Err(Stop::reject(Code::BadJump, "the function called is outside of the program")
                    .at(idx)
                    .kernel("invalid subprog"));
            };
            starts.insert(target.0);
        }
        if starts.len() > 256 {
            return Err(Stop::reject(Code::ProgramSize, "here")
                .title(format!("the program has {} functions; 256 are allowed", starts.len()))
                .kernel("too many subprograms"));
        }
        let all: Vec<u32> = starts.into_iter().collect();
        for (index, &start) in all.iter().enumerate() {
            let end = all.get(index + 1).map_or(self.insns.len() as u32, |next| *next);
            let span = self.program.funcs.iter().find(|span| span.start.0 == start);
            let btf_id = span.map(|span| span.ty).filter(|ty| *ty != TypeId::VOID);
            let mut global = false;
            let mut params = None;
            if let (Some(btf), Some(id)) = (self.object_btf, btf_id) {
                if let Ok(Type::Func { linkage, .. }) = btf.get(id) {
                    global = linkage == Linkage::Global && index > 0;
                }
                params = btf.prototype(id).ok().map(|proto| proto.params.len());
            }
            self.subprogs.push(Subprog {
                start,
                end,
                name: span.map(|span| span.name.to_string()),
                btf: btf_id,
                global,
                params,
                has_tail_call: false,
                has_ld_abs: false,
                changes_packet: false,
                might_sleep: false,
            });
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> u32 {
        self.insns.len() as u32
    }

    pub(crate) fn insn(&self, at: u32) -> Option<Insn> {
        self.insns.get(at as usize).copied()
    }

    pub(crate) fn reloc(&self, at: u32) -> Option<RelocKind> {
        self.relocs.get(&at).copied()
    }

    pub(crate) fn map(&self, id: MapId) -> Option<&MapInfo<'a>> {
        self.maps.get(id.0 as usize)
    }

    pub(crate) fn extern_spec(&self, index: skep_object::ExternIdx) -> Option<&'a ExternSpec> {
        self.spec.externs.get(index.0)
    }

    pub(crate) fn subprog(&self, index: u32) -> Option<&Subprog> {
        self.subprogs.get(index as usize)
    }

    /// The function that starts at this slot.
    pub(crate) fn subprog_at(&self, start: u32) -> Option<u32> {
        self.subprogs.binary_search_by_key(&start, |subprog| subprog.start).ok().map(|index| index as u32)
    }

    /// The function that this slot is in.
    pub(crate) fn subprog_of(&self, at: u32) -> u32 {
        self.subprogs.partition_point(|subprog| subprog.start <= at).saturating_sub(1) as u32
    }

    /// The function's name for messages.
    pub(crate) fn subprog_name(&self, index: u32) -> String {
        match self.subprog(index).and_then(|subprog| subprog.name.clone()) {
            Some(name) => name,
            None => format!("function {index}"),
        }
    }

    /// Whether this kernel has what came with that version.
    pub(crate) fn since(&self, major: u16, minor: u16) -> bool {
        self.kernel >= KernelVersion::new(major, minor)
    }
}

/// Finds the fields that the kernel manages, through structs, unions and arrays within one another.
pub(crate) fn collect_fields(btf: &Btf, ty: TypeId, base: u64, depth: u32, out: &mut Vec<SpecialField>) {
    /// Fields of one value.
    const MAX_FIELDS: usize = 64;
    if depth == 0 || out.len() >= MAX_FIELDS {
        return;
    }
    let Ok(at) = btf.resolve(ty) else { return };
    let mut push = |kind, size: u32| {
        if let Ok(offset) = u32::try_from(base) {
            out.push(SpecialField { kind, offset, size });
        }
    };
    match btf.get(at) {
        Ok(Type::Struct(composite)) => {
            if let Some((kind, size)) = FieldKind::by_struct(composite.name) {
                return push(kind, size.min(composite.size.max(4)));
            }
            for member in &composite.members {
                collect_fields(btf, member.ty, base + u64::from(member.bit_offset / 8), depth - 1, out);
            }
        }
        Ok(Type::Union(composite)) => {
            for member in &composite.members {
                collect_fields(btf, member.ty, base + u64::from(member.bit_offset / 8), depth - 1, out);
            }
        }
        Ok(Type::Array(array)) => {
            let before = out.len();
            collect_fields(btf, array.element, base, depth - 1, out);
            if out.len() > before {
                let Ok(size) = btf.size_of(array.element) else { return };
                for index in 1..u64::from(array.count).min(MAX_FIELDS as u64) {
                    collect_fields(btf, array.element, base + index * size, depth - 1, out);
                }
            }
        }
        Ok(Type::Ptr { target }) => {
            let mut tag = target;
            while let Ok(Type::TypeTag { name, target }) = btf.get(tag) {
                if matches!(name, "kptr" | "kptr_untrusted" | "percpu_kptr" | "uptr") {
                    return push(FieldKind::Kptr, 8);
                }
                tag = target;
            }
        }
        Ok(Type::Datasec(section)) => {
            for var in &section.vars {
                if let Ok(Type::Var { target, .. }) = btf.get(var.ty) {
                    collect_fields(btf, target, u64::from(var.offset), depth - 1, out);
                }
            }
        }
        _ => {}
    }
}

/// The struct, union or other type beneath a pointer, with modifiers taken away.
pub(crate) fn pointee(btf: &Btf, ty: TypeId) -> Option<TypeId> {
    let at = btf.resolve(ty).ok()?;
    match btf.get(at).ok()? {
        Type::Ptr { target } => btf.resolve(target).ok(),
        _ => None,
    }
}

/// Whether a type is a struct or a union.
pub(crate) fn is_composite(btf: &Btf, ty: TypeId) -> bool {
    matches!(btf.kind(ty), Ok(Kind::Struct | Kind::Union))
}
