//! The context: what each program type may load from it and store to it, and what a load gives.

use skep_abi::context::{self, ContextKind, FieldKind as K};
use skep_abi::{AttachType, ProgramType};
use skep_btf::{Btf, Kind, Type, TypeId};
use skep_isa::Reg;
use skep_object::Target;

use crate::Code;
use crate::env::{Env, pointee};
use crate::explore::Verifier;
use crate::mem::Access;
use crate::scalar::Scalar;
use crate::state::{BtfOf, RegFlags, RegKind, RegState};
use crate::stop::Stop;

/// Bytes of a tracepoint's record that can be read at most, and those in front that cannot.
const TRACEPOINT_MAX: i32 = 8192;
const TRACEPOINT_HEADER: i32 = 8;

/// Security hooks whose objects are being made or taken down, so that pointers to them are not known to be good.
const UNTRUSTED_HOOKS: &[&str] = &[
    "bpf_map_free",
    "bpf_prog_free",
    "file_alloc_security",
    "file_free_security",
    "sk_alloc_security",
    "sk_free_security",
    "task_free",
];

/// What the arguments of a typed context are.
#[derive(Clone, Debug)]
pub(crate) struct TypedContext {
    /// Name of the function or tracepoint, for messages.
    pub(crate) name: String,
    /// In order, without the tracepoint's own data.
    pub(crate) args: Vec<TypedArg>,
    /// What a load of the word behind the arguments gives: the result, where the place has one.
    pub(crate) result: Option<TypedArg>,
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TypedArg {
    Number,
    /// A struct of the kernel.
    Object(TypeId, RegFlags),
    /// Memory whose size the kernel knows.
    Buffer(RegFlags),
    /// What programs cannot load: no number and no pointer to a struct.
    Opaque,
}

/// Finds the typed arguments that the program's place has.
pub(crate) fn typed_context(env: &Env<'_>) -> Result<Option<TypedContext>, Stop> {
    if context::kind(env.place.prog_type) != ContextKind::TypedArguments {
        return Ok(None);
    }
    let Some(btf) = env.kernel_btf else {
        return Err(Stop::unsupported("typed arguments without the kernel's types (give them with --btf)"));
    };
    let attach = env.place.attach;
    let unnamed = || {
        Stop::reject(Code::Hook, "the section names no function")
            .title(format!("section `{}` does not say what the program is attached to", env.program.section))
            .kernel("Tracing programs must provide btf_id")
    };
    let (prefix, name, kind) = match &env.program.hook.target {
        Target::BtfTracepoint(name) => ("btf_trace_", name, Kind::Typedef),
        Target::BtfFunc(name) => ("", name, Kind::Func),
        Target::Lsm(name) => ("bpf_lsm_", name, Kind::Func),
        Target::Iter(name) => ("bpf_iter_", name, Kind::Func),
        _ => return Err(Stop::unsupported("a typed context whose place is not named by the section")),
    };
    let name = name.as_deref().ok_or_else(unnamed)?;
    if name.contains(':') {
        return Err(Stop::unsupported("functions of kernel modules"));
    }
    let id = btf.find(&format!("{prefix}{name}"), kind).ok_or_else(|| {
        Stop::reject(Code::Hook, "the section's name")
            .title(format!("the kernel has no `{prefix}{name}` to attach to"))
            .help("check the name, or the kernel types that were given")
            .kernel("attach_btf_id is invalid")
    })?;
    let proto = btf.prototype(id).map_err(|error| Stop::unsupported(format!("the type of {prefix}{name}: {error}")))?;
    let skip = usize::from(matches!(env.program.hook.target, Target::BtfTracepoint(_)));
    let trusted = match env.place.prog_type {
        ProgramType::Tracing => matches!(attach, Some(AttachType::TraceRawTp | AttachType::TraceIter)),
        ProgramType::Lsm => !UNTRUSTED_HOOKS.contains(&name),
        _ => false,
    };
    let iter = attach == Some(AttachType::TraceIter);
    let mut args = Vec::new();
    for (index, param) in proto.params.iter().enumerate().skip(skip) {
        let mut arg = typed_arg(btf, param.ty, trusted);
        if iter && index > 0 {
            match &mut arg {
                TypedArg::Object(_, flags) => *flags = flags.with(RegFlags::MAYBE_NULL),
                other if param.name == "key" => *other = TypedArg::Buffer(RegFlags::RDONLY.with(RegFlags::MAYBE_NULL)),
                other if param.name == "value" => *other = TypedArg::Buffer(RegFlags::MAYBE_NULL),
                _ => {}
            }
        } else if let (TypedArg::Object(_, flags), true) = (&mut arg, param.name.ends_with("__nullable")) {
            *flags = flags.with(RegFlags::MAYBE_NULL);
        }
        args.push(arg);
    }
    let ret = || if proto.ret == TypeId::VOID { TypedArg::Number } else { typed_arg(btf, proto.ret, false) };
    let result = match attach {
        Some(AttachType::TraceFexit | AttachType::ModifyReturn) => Some(ret()),
        Some(AttachType::LsmMac | AttachType::LsmCgroup) => Some(TypedArg::Number),
        _ => None,
    };
    Ok(Some(TypedContext { name: name.to_owned(), args, result }))
}

/// What an argument of this C type is for a program.
fn typed_arg(btf: &Btf, ty: TypeId, trusted: bool) -> TypedArg {
    let Ok(at) = btf.resolve(ty) else { return TypedArg::Opaque };
    match btf.get(at) {
        Ok(Type::Int(_) | Type::Enum(_) | Type::Struct(_) | Type::Union(_)) => TypedArg::Number,
        Ok(Type::Ptr { target }) => {
            let mut flags = if trusted { RegFlags::TRUSTED } else { RegFlags::NONE };
            if let Ok(Type::TypeTag { name, .. }) = btf.get(target) {
                match name {
                    "user" => flags = flags.with(RegFlags::USER),
                    "percpu" => flags = flags.with(RegFlags::PERCPU),
                    _ => {}
                }
            }
            match pointee(btf, at).map(|to| (to, btf.kind(to))) {
                Some((TypeId::VOID, _)) | Some((_, Ok(Kind::Int | Kind::Enum | Kind::Enum64))) | None => {
                    TypedArg::Number
                }
                Some((to, Ok(Kind::Struct | Kind::Union))) => TypedArg::Object(to, flags),
                Some(_) => TypedArg::Opaque,
            }
        }
        _ => TypedArg::Opaque,
    }
}

impl Verifier<'_, '_> {
    /// An access to the context at a constant offset; what a load gives.
    pub(crate) fn access_context(&mut self, base: Reg, off: i32, size: i32, how: Access) -> Result<RegState, Stop> {
        let program = self.env.place.prog_type;
        let refuse = |why: String| {
            Stop::reject(Code::ContextAccess, format!("{size} bytes at offset {off} of the context"))
                .title(why)
                .about(base)
                .kernel(format!("invalid bpf_context access off={off} size={size}"))
        };
        if off < 0 {
            return Err(refuse("an access in front of the context".to_owned()));
        }
        let read = how == Access::Read;
        let aligned = off % size == 0;
        let number = Ok(RegState::unknown());
        match context::kind(program) {
            ContextKind::Struct(_) => self.access_field(base, off, size, how),
            ContextKind::TracepointRecord => {
                if read && aligned && (TRACEPOINT_HEADER..TRACEPOINT_MAX).contains(&off) {
                    return number;
                }
                Err(refuse(if off < TRACEPOINT_HEADER {
                    "the first 8 bytes of a tracepoint's record belong to the kernel".to_owned()
                } else {
                    "a tracepoint's record can only be read, at aligned offsets".to_owned()
                }))
            }
            ContextKind::Registers => {
                let limit = context::registers(skep_abi::syscalls::Arch::X86_64).size;
                if read && aligned && off + size <= i32::from(limit) {
                    return number;
                }
                Err(refuse("the registers of a probe can only be read, at aligned offsets".to_owned()))
            }
            ContextKind::Words { max } => {
                if !read || !aligned || off + size > 8 * i32::from(max) {
                    return Err(refuse("raw tracepoint arguments are words that can only be read".to_owned()));
                }
                if program == ProgramType::RawTracepointWritable && off == 0 {
                    if size != 8 {
                        return Err(refuse("the pointer to the record is loaded whole".to_owned()));
                    }
                    return Ok(RegState::pointer(RegKind::TpBuffer, RegFlags::NONE));
                }
                number
            }
            ContextKind::TypedArguments => {
                if !read {
                    return Err(refuse("arguments can only be read".to_owned()));
                }
                self.typed_argument(off, size)
                    .ok_or_else(|| refuse("this is no argument that can be loaded".to_owned()).fact(self.typed_fact()))
            }
            ContextKind::Caller => {
                if off >= 0xffff || !aligned {
                    return Err(refuse(
                        "the context of a syscall program has at most 65535 bytes, accessed at aligned offsets"
                            .to_owned(),
                    ));
                }
                self.caller_context = self.caller_context.max((off + size) as u32);
                number
            }
            ContextKind::Number => {
                if read && off == 0 && size == 4 {
                    return number;
                }
                Err(refuse("the context is one 32-bit number".to_owned()))
            }
            ContextKind::Target | ContextKind::None => Err(refuse("this type of program has no context".to_owned())),
        }
    }

    fn typed_fact(&self) -> String {
        match &self.typed {
            Some(typed) => format!("`{}` has {} arguments, 8 bytes each", typed.name, typed.args.len()),
            None => "there are no arguments".to_owned(),
        }
    }

    fn typed_argument(&mut self, off: i32, size: i32) -> Option<RegState> {
        let typed = self.typed.as_ref()?;
        if off % 8 != 0 {
            return None;
        }
        let index = (off / 8) as usize;
        let is_result = index == typed.args.len();
        let arg = typed.args.get(index).copied().or(if is_result { typed.result } else { None })?;
        Some(match arg {
            TypedArg::Number if is_result && self.env.place.prog_type == ProgramType::Lsm => {
                RegState::number(Scalar::in_signed(-4095, 0).unwrap_or_else(Scalar::unknown))
            }
            TypedArg::Number => RegState::unknown(),
            TypedArg::Object(ty, flags) if size == 8 => {
                let mut reg = RegState::pointer(RegKind::Btf(BtfOf::Kernel, ty), flags);
                if flags.any(RegFlags::MAYBE_NULL) {
                    reg.id = self.new_id();
                }
                reg
            }
            TypedArg::Buffer(flags) if size == 8 => {
                let mut reg = RegState::pointer(RegKind::Buf, flags);
                reg.id = self.new_id();
                reg
            }
            TypedArg::Object(..) | TypedArg::Buffer(_) | TypedArg::Opaque => return None,
        })
    }

    /// A context struct: its fields with the sizes that the kernel allows.
    fn access_field(&mut self, base: Reg, off: i32, size: i32, how: Access) -> Result<RegState, Stop> {
        let (program, attach) = (self.env.place.prog_type, self.env.place.attach);
        let word = if how == Access::Read { "read" } else { "written" };
        let Some(access) = context::access(program, attach) else {
            return Err(Stop::unsupported(format!("the context of {program} programs")));
        };
        let kernel = format!("invalid bpf_context access off={off} size={size}");
        let mut nearest = None;
        for field in access.context.fields {
            let start = i32::from(field.offset);
            if !(start..start + i32::from(field.size)).contains(&off) || field.since > self.env.kernel {
                continue;
            }
            nearest = Some(field);
            let Some(allowed) = access.of(field.name) else { continue };
            let sizes = i32::from(if how == Access::Read { allowed.reads } else { allowed.writes });
            let element = i32::from(field.element).max(1);
            let within = (off - start) % element;
            let fits = if within == 0 {
                sizes & size != 0 && off - start + size <= i32::from(field.size).max(size)
            } else {
                // A part of a field that may be read in parts. Of a socket only the addresses may.
                (access.context.name != "bpf_sock" || field.name.contains("_ip"))
                    && how == Access::Read
                    && size < element
                    && sizes & size != 0
                    && within % size == 0
                    && within + size <= element
            };
            // The kernel takes writes of these only at the field's start.
            let elsewhere = how == Access::Write && program == ProgramType::SockOps && off != start;
            if !fits || off % size != 0 || elsewhere {
                continue;
            }
            if how == Access::Write {
                return Ok(RegState::unknown());
            }
            return self.field_value(field.kind);
        }
        let stop = Stop::reject(
            Code::ContextAccess,
            format!("{size} bytes at offset {off} of struct {}", access.context.name),
        );
        Err(match nearest {
            Some(field) => {
                let sizes = access
                    .of(field.name)
                    .map_or(0, |allowed| if how == Access::Read { allowed.reads } else { allowed.writes });
                let stop = if sizes == 0 {
                    stop.title(format!(
                        "`{}` of struct {} cannot be {word} by {program} programs",
                        field.name, access.context.name
                    ))
                    .help("use another field, or another type of program")
                } else {
                    stop.title(format!("`{}` of struct {} cannot be {word} like this", field.name, access.context.name))
                        .help("access the whole field at its own size")
                };
                stop.fact(format!("`{}` has {} bytes at offset {}", field.name, field.size, field.offset))
            }
            None => stop.title(format!("struct {} has no field at offset {off}", access.context.name)),
        }
        .about(base)
        .kernel(kernel))
    }

    fn field_value(&mut self, kind: K) -> Result<RegState, Stop> {
        let null = RegFlags::MAYBE_NULL;
        let (kind, flags) = match kind {
            K::Scalar => return Ok(RegState::unknown()),
            K::Packet => (RegKind::Packet, RegFlags::NONE),
            K::PacketEnd => (RegKind::PacketEnd, RegFlags::NONE),
            K::PacketMeta => (RegKind::PacketMeta, RegFlags::NONE),
            K::FlowKeys => (RegKind::FlowKeys, RegFlags::NONE),
            K::SockCommonOrNull => (RegKind::SockCommon, null),
            K::Sock => (RegKind::Sock, RegFlags::NONE),
            K::SockOrNull => (RegKind::Sock, null),
            K::Kernel(name) => {
                let Some(btf) = self.env.kernel_btf else {
                    return Err(Stop::unsupported(format!("struct {name} of the kernel without its types")));
                };
                let Some(ty) = btf.find(name, Kind::Struct) else {
                    return Err(Stop::unsupported(format!("struct {name}, which the kernel's types lack")));
                };
                (RegKind::Btf(BtfOf::Kernel, ty), RegFlags::TRUSTED)
            }
        };
        let mut reg = RegState::pointer(kind, flags);
        if flags.any(null) {
            reg.id = self.new_id();
        }
        Ok(reg)
    }
}
