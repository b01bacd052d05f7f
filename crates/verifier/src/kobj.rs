//! Kernel objects by their types: reading fields, following pointers, and which of the pointers are known to be good.

use skep_abi::MapType;
use skep_btf::{Btf, Kind, Type, TypeId};
use skep_isa::Reg;

use crate::Code;
use crate::exec::name;
use crate::explore::Verifier;
use crate::mem::Access;
use crate::state::{BtfOf, MapId, RegFlags, RegKind, RegState};
use crate::stop::Stop;

/// Fields whose pointers are as good as the object they are in. Source: `BTF_TYPE_SAFE_TRUSTED` in kernel/bpf/verifier.c.
const SAFE_TRUSTED: &[(&str, &[&str])] = &[
    ("bpf_iter_meta", &["seq"]),
    ("bpf_iter__task", &["meta", "task"]),
    ("linux_binprm", &["file"]),
    ("file", &["f_inode"]),
];

/// The same, but they may be null. Source: `BTF_TYPE_SAFE_TRUSTED_OR_NULL`.
const SAFE_TRUSTED_OR_NULL: &[(&str, &[&str])] =
    &[("socket", &["sk"]), ("dentry", &["d_inode"]), ("vm_area_struct", &["vm_mm", "vm_file"])];

/// Good within an RCU section. Source: `BTF_TYPE_SAFE_RCU`.
const SAFE_RCU: &[(&str, &[&str])] = &[
    ("task_struct", &["cpus_ptr", "cgroups", "real_parent", "group_leader"]),
    ("cgroup", &["kn"]),
    ("css_set", &["dfl_cgrp"]),
    ("cgroup_subsys_state", &["cgroup"]),
];

/// The same, but they may be null. Source: `BTF_TYPE_SAFE_RCU_OR_NULL`.
const SAFE_RCU_OR_NULL: &[(&str, &[&str])] =
    &[("mm_struct", &["exe_file"]), ("sk_buff", &["sk"]), ("request_sock", &["sk"])];

fn listed(list: &[(&str, &[&str])], ty: &str, field: &str) -> bool {
    list.iter().any(|(name, fields)| *name == ty && fields.contains(&field))
}

/// What stands at an offset of a struct.
#[derive(Debug)]
enum Walk<'b> {
    Number,
    /// A pointer to a struct; the struct and the field that holds the pointer, and its tag (`user`, `percpu`, `rcu`).
    Object {
        ty: TypeId,
        owner: &'b str,
        field: &'b str,
        tag: RegFlags,
    },
    /// A pointer to something else.
    Address,
}

/// How deep structs may be nested.
const MAX_NESTING: u32 = 32;

fn walk(btf: &Btf, start: TypeId, off: i64, size: i64, lenient: bool) -> Result<Walk<'_>, String> {
    let mut at = start;
    let mut off = off;
    // What lies in a union may be something else: its pointers are not known to be good, and sizes are taken as they come.
    let (mut lenient, mut in_union) = (lenient, RegFlags::NONE);
    'again: for _ in 0..MAX_NESTING {
        let composite = match btf.get(at) {
            Ok(Type::Struct(composite)) => composite,
            Ok(Type::Union(composite)) => {
                if composite.members.len() != 1 {
                    lenient = true;
                    in_union = RegFlags::UNTRUSTED;
                }
                composite
            }
            _ => return Err(format!("{} is no struct", btf.type_name(at))),
        };
        let total = i64::from(composite.size);
        if off + size > total {
            // An array without a size at the end goes on.
            let open = composite.members.last().filter(|member| {
                btf.resolve(member.ty).is_ok_and(|ty| matches!(btf.get(ty), Ok(Type::Array(array)) if array.count == 0))
            });
            let Some(open) = open else {
                return Err(format!("struct {} has {total} bytes", composite.name));
            };
            let start = i64::from(open.bit_offset / 8);
            let Ok(Type::Array(array)) = btf.resolve(open.ty).and_then(|ty| btf.get(ty)) else {
                return Err(String::new());
            };
            let element = btf.resolve(array.element).map_err(|e| e.to_string())?;
            let step = btf.size_of(element).map_err(|e| e.to_string())? as i64;
            if off < start || step == 0 {
                return Err(format!("struct {} has {total} bytes", composite.name));
            }
            let within = (off - start) % step;
            if matches!(btf.kind(element), Ok(Kind::Struct | Kind::Union)) {
                at = element;
                off = within;
                continue 'again;
            }
            return if within + size <= step {
                Ok(Walk::Number)
            } else {
                Err("the access spans array elements".to_owned())
            };
        }
        for member in &composite.members {
            let bit = i64::from(member.bit_offset);
            if member.bit_size != 0 {
                if off * 8 <= bit && bit + i64::from(member.bit_size) <= (off + size) * 8 {
                    return Ok(Walk::Number);
                }
                continue;
            }
            let mut start = bit / 8;
            let mut ty = btf.resolve(member.ty).map_err(|e| e.to_string())?;
            let whole = btf.size_of(ty).map_err(|e| e.to_string())? as i64;
            if off < start || off >= start + whole {
                continue;
            }
            let end = start + whole;
            for _ in 0..MAX_NESTING {
                let Ok(Type::Array(array)) = btf.get(ty) else { break };
                let step = btf.size_of(array.element).map_err(|e| e.to_string())? as i64;
                if step == 0 {
                    break;
                }
                start += (off - start) / step * step;
                ty = btf.resolve(array.element).map_err(|e| e.to_string())?;
            }
            match btf.get(ty) {
                Ok(Type::Struct(_) | Type::Union(_)) => {
                    off -= start;
                    at = ty;
                    continue 'again;
                }
                Ok(Type::Ptr { target }) => {
                    if size != 8 || off != start {
                        return Err(format!(
                            "`{}` of struct {} is a pointer: it is loaded whole",
                            member.name, composite.name
                        ));
                    }
                    let mut tag = RegFlags::NONE;
                    let mut beneath = target;
                    while let Ok(Type::TypeTag { name, target }) = btf.get(beneath) {
                        tag = match name {
                            "user" => tag.with(RegFlags::USER),
                            "percpu" => tag.with(RegFlags::PERCPU),
                            "rcu" => tag.with(RegFlags::RCU),
                            _ => tag,
                        };
                        beneath = target;
                    }
                    let to = btf.resolve(target).map_err(|e| e.to_string())?;
                    return Ok(match btf.kind(to) {
                        Ok(Kind::Struct | Kind::Union) => {
                            Walk::Object { ty: to, owner: composite.name, field: member.name, tag: tag.with(in_union) }
                        }
                        _ => Walk::Address,
                    });
                }
                _ => {
                    if off + size > end && !lenient {
                        return Err(format!("`{}` of struct {} ends at offset {end}", member.name, composite.name));
                    }
                    return Ok(Walk::Number);
                }
            }
        }
        return Err(format!("struct {} has no field at offset {off}", composite.name));
    }
    Err("structs are nested too deep".to_owned())
}

/// The kernel's struct behind a map of this type. Source: the `map_btf_id` of each `bpf_map_ops`.
fn map_struct(kind: MapType) -> &'static str {
    use MapType as M;
    match kind {
        M::Array | M::PercpuArray | M::ProgArray | M::PerfEventArray | M::CgroupArray | M::ArrayOfMaps => "bpf_array",
        M::Hash | M::PercpuHash | M::LruHash | M::LruPercpuHash | M::HashOfMaps => "bpf_htab",
        M::LpmTrie => "lpm_trie",
        M::StackTrace => "bpf_stack_map",
        M::Queue | M::Stack => "bpf_queue_stack",
        M::Ringbuf | M::UserRingbuf => "bpf_ringbuf_map",
        M::Devmap | M::DevmapHash => "bpf_dtab",
        M::Cpumap => "bpf_cpu_map",
        M::Xskmap => "xsk_map",
        M::Sockmap => "bpf_stab",
        M::Sockhash => "bpf_shtab",
        M::ReuseportSockarray => "reuseport_array",
        M::BloomFilter => "bpf_bloom_filter",
        M::SkStorage | M::InodeStorage | M::TaskStorage | M::CgrpStorage => "bpf_local_storage_map",
        M::CgroupStorage | M::PercpuCgroupStorage => "bpf_cgroup_storage_map",
        _ => "bpf_map",
    }
}

impl Verifier<'_, '_> {
    /// Whether RCU protects what is read here.
    pub(crate) fn in_rcu(&self) -> bool {
        self.cur.duties.rcu > 0 || self.cur.duties.locks > 0 || !self.cur.sleepable
    }

    #[expect(clippy::too_many_arguments, reason = "an access has that many parts")]
    pub(crate) fn access_kernel_object(
        &mut self,
        base: Reg,
        reg: &RegState,
        of: BtfOf,
        ty: TypeId,
        off: i32,
        size: i32,
        how: Access,
    ) -> Result<RegState, Stop> {
        if of == BtfOf::Object {
            return Err(Stop::unsupported("objects that the program allocates"));
        }
        self.access_object(base, reg, ty, off, size, how, true)
    }

    #[expect(clippy::too_many_arguments, reason = "an access has that many parts")]
    fn access_object(
        &mut self,
        base: Reg,
        reg: &RegState,
        ty: TypeId,
        off: i32,
        size: i32,
        how: Access,
        needs_licence: bool,
    ) -> Result<RegState, Stop> {
        let Some(btf) = self.env.kernel_btf else {
            return Err(Stop::unsupported("kernel objects without the kernel's types"));
        };
        let type_name = btf.name(ty).unwrap_or("?");
        let refuse = |code: Code, label: String, kernel: String| Stop::reject(code, label).about(base).kernel(kernel);
        if !self.env.privileged {
            return Err(refuse(
                Code::KernelField,
                format!("struct {type_name} can only be read with CAP_PERFMON"),
                format!("'struct {type_name}' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN"),
            ));
        }
        if needs_licence && !self.env.gpl {
            return Err(refuse(
                Code::Licence,
                format!("reads the kernel's struct {type_name}"),
                format!("Cannot access kernel 'struct {type_name}' from non-GPL compatible program"),
            )
            .help("declare a licence: char LICENSE[] SEC(\"license\") = \"GPL\";"));
        }
        if off < 0 || reg.num.as_const() != Some(0) {
            return Err(refuse(
                Code::KernelField,
                format!("the offset into struct {type_name} must be constant and not negative"),
                format!("R{} is ptr_{type_name} invalid variable offset", base.number()),
            )
            .help("read array elements at an index that varies with bpf_probe_read_kernel()"));
        }
        if reg.flags.any(RegFlags::USER) {
            return Err(refuse(
                Code::Untrusted,
                format!("{} is an address of user space", name(base)),
                format!("R{} is ptr_{type_name} access user memory: off={off}", base.number()),
            )
            .help("use bpf_probe_read_user() or bpf_copy_from_user()"));
        }
        if reg.flags.any(RegFlags::PERCPU) {
            return Err(refuse(
                Code::Untrusted,
                format!("{} is a per-CPU address", name(base)),
                format!("R{} is ptr_{type_name} access percpu memory: off={off}", base.number()),
            )
            .help("use bpf_per_cpu_ptr() or bpf_this_cpu_ptr() first"));
        }
        if how == Access::Write {
            return Err(refuse(
                Code::ReadOnly,
                format!("struct {type_name} of the kernel may only be read"),
                "only read is supported".to_owned(),
            ));
        }
        let walked = walk(btf, ty, off.into(), size.into(), reg.flags.any(RegFlags::UNTRUSTED)).map_err(|why| {
            refuse(Code::KernelField, format!("{size} bytes at offset {off} of struct {type_name}"), why.clone())
                .fact(why)
                .help("read the field whole, by its name (with BPF_CORE_READ the offset fits each kernel)")
        })?;
        let (target, owner, field, tag) = match walked {
            Walk::Address if self.env.since(6, 17) => {
                // Any such memory may be read, with exception handling.
                return Ok(RegState::pointer(RegKind::Mem, RegFlags::RDONLY.with(RegFlags::UNTRUSTED)));
            }
            Walk::Number | Walk::Address => return Ok(RegState::unknown()),
            Walk::Object { ty, owner, field, tag } => (ty, owner, field, tag),
        };
        let _ = owner;
        let trusted = reg.flags.any(RegFlags::TRUSTED) || reg.ref_id != 0;
        let plain_tag = RegFlags(tag.0 & (RegFlags::USER.0 | RegFlags::PERCPU.0 | RegFlags::UNTRUSTED.0));
        let flags = if reg.flags.any(RegFlags::UNTRUSTED) {
            RegFlags::UNTRUSTED
        } else if trusted || reg.flags.any(RegFlags::RCU) {
            if listed(SAFE_TRUSTED, type_name, field) {
                plain_tag.with(RegFlags::TRUSTED)
            } else if listed(SAFE_TRUSTED_OR_NULL, type_name, field) {
                plain_tag.with(RegFlags::TRUSTED).with(RegFlags::MAYBE_NULL)
            } else if self.in_rcu() {
                if listed(SAFE_RCU, type_name, field) {
                    plain_tag.with(RegFlags::RCU)
                } else if tag.any(RegFlags::RCU) || listed(SAFE_RCU_OR_NULL, type_name, field) {
                    plain_tag.with(RegFlags::RCU).with(RegFlags::MAYBE_NULL)
                } else {
                    plain_tag
                }
            } else {
                RegFlags::UNTRUSTED
            }
        } else {
            plain_tag
        };
        let mut result = RegState::pointer(RegKind::Btf(BtfOf::Kernel, target), flags);
        if flags.any(RegFlags::MAYBE_NULL) {
            result.id = self.new_id();
        }
        Ok(result)
    }

    /// A field of the kernel's own struct of a map, which the privileged may read.
    pub(crate) fn access_map_struct(
        &mut self,
        base: Reg,
        reg: &RegState,
        map: MapId,
        off: i32,
        size: i32,
        how: Access,
    ) -> Result<RegState, Stop> {
        let (Some(info), Some(btf), true) = (self.env.map(map), self.env.kernel_btf, self.env.privileged) else {
            return Err(self.invalid_access(base, reg));
        };
        let name = map_struct(info.map_type());
        let Some(ty) = btf.find(name, Kind::Struct) else { return Err(self.invalid_access(base, reg)) };
        let mut object = RegState::pointer(RegKind::Btf(BtfOf::Kernel, ty), RegFlags::NONE);
        object.num = reg.num;
        // Reading a map needs no licence.
        self.access_object(base, &object, ty, off, size, how, false)
    }

    /// The address of a kernel variable.
    pub(crate) fn kernel_variable(&mut self, name: &str, weak: bool) -> Result<RegState, Stop> {
        let Some(btf) = self.env.kernel_btf else {
            return Err(Stop::unsupported("kernel variables without the kernel's types"));
        };
        match btf.find(name, Kind::Var) {
            Some(id) => self.kernel_variable_by_id(id),
            None if weak => Ok(RegState::constant(0)),
            None => Err(Stop::reject(Code::MissingExtern, format!("`{name}`"))
                .title(format!("the kernel has no variable `{name}`"))
                .help("declare it __weak and test it, where kernels differ")),
        }
    }

    pub(crate) fn kernel_variable_by_id(&mut self, id: TypeId) -> Result<RegState, Stop> {
        let Some(btf) = self.env.kernel_btf else {
            return Err(Stop::unsupported("kernel variables without the kernel's types"));
        };
        let broken = || Stop::unsupported("a kernel variable whose type cannot be told");
        let Ok(Type::Var { target, .. }) = btf.get(id) else {
            return match btf.get(id) {
                Ok(Type::Func { .. }) => Ok(RegState::unknown()),
                _ => Err(broken()),
            };
        };
        let percpu = btf.find(".data..percpu", Kind::Datasec).and_then(|section| btf.get(section).ok()).is_some_and(
            |section| matches!(section, Type::Datasec(section) if section.vars.iter().any(|var| var.ty == id)),
        );
        let ty = btf.resolve(target).map_err(|_| broken())?;
        if percpu {
            return Ok(RegState::pointer(RegKind::Btf(BtfOf::Kernel, ty), RegFlags::PERCPU));
        }
        if matches!(btf.kind(ty), Ok(Kind::Struct | Kind::Union)) {
            return Ok(RegState::pointer(RegKind::Btf(BtfOf::Kernel, ty), RegFlags::NONE));
        }
        let size = btf.size_of(ty).map_err(|_| broken())?;
        let mut reg = RegState::pointer(RegKind::Mem, RegFlags::RDONLY);
        reg.aux = u32::try_from(size).map_err(|_| broken())?;
        Ok(reg)
    }
}
