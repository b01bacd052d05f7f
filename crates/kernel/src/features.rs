//! What the running kernel can do, found by trying: versions say little, since distributions bring features back and
//! leave others out.
//!
//! Every probe makes the least thing of its kind and lets go of it at once. Nothing is attached to anything that belongs
//! to others. Answers to the questions that the loader asks itself are kept for the life of the process.

use crate::error::Errno;
use crate::program::{LogLevel, Program, ProgramParams, flags};
use crate::sys::{self, obj};
use crate::{Map, MapParams, kallsyms};
use skep_abi::{AttachType, MapType, ProgramType};
use skep_btf::load::Features as BtfFeatures;
use skep_isa::Raw;
use std::os::fd::AsFd;
use std::sync::OnceLock;

/// How a probe ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It worked.
    Ok,
    /// The kernel does not have it.
    Missing,
    /// The kernel may have it, but not for this process.
    Denied,
}

impl State {
    /// Whether it worked, or may be there.
    pub fn is_supported(self) -> bool {
        self != State::Missing
    }

    fn of(errno: Errno) -> State {
        match errno.0 {
            libc::EPERM | libc::EACCES => State::Denied,
            _ => State::Missing,
        }
    }

    fn either(yes: bool) -> State {
        if yes { State::Ok } else { State::Missing }
    }
}

const MOV: u8 = 0xb7;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

fn mov(dst: u8, imm: i32) -> Raw {
    Raw { opcode: MOV, dst, imm, ..Raw::default() }
}

fn call(imm: i32) -> Raw {
    Raw { opcode: CALL, imm, ..Raw::default() }
}

fn exit() -> Raw {
    Raw { opcode: EXIT, ..Raw::default() }
}

/// The parameters that a type asks for beyond its number.
fn params_for<'a>(prog_type: ProgramType, insns: &'a [Raw]) -> ProgramParams<'a> {
    use ProgramType as P;
    let mut params = ProgramParams::new("skep_probe", prog_type, insns, "GPL");
    params.attach_type = match prog_type {
        P::CgroupSockAddr => Some(AttachType::CgroupInet4Connect),
        P::CgroupSockopt => Some(AttachType::CgroupGetsockopt),
        P::SkLookup => Some(AttachType::SkLookup),
        P::Netfilter => Some(AttachType::Netfilter),
        P::Tracing => Some(AttachType::TraceRawTp),
        P::Lsm => Some(AttachType::LsmMac),
        _ => None,
    };
    params.flags = if prog_type == P::Syscall { flags::SLEEPABLE } else { 0 };
    // These are made for a function of the kernel. No. 1 is none; that the kernel says so shows that it knows the type.
    params.attach_btf_id = match prog_type {
        P::Tracing | P::Lsm | P::Ext | P::StructOps => 1,
        _ => 0,
    };
    params
}

/// Whether the kernel takes programs of a type, by loading the least one.
pub fn program_type(prog_type: ProgramType) -> State {
    let insns = [mov(0, 0), exit()];
    match Program::load(&params_for(prog_type, &insns), LogLevel::None) {
        Ok(_) => State::Ok,
        Err(e) if e.log.contains("attach_btf_id") || e.log.contains("Cannot replace kernel functions") => State::Ok,
        Err(e) if !e.log.is_empty() && e.errno.0 == libc::EACCES => State::Missing,
        Err(e) if prog_type == ProgramType::StructOps && e.errno == Errno::ENOTSUPP => State::Ok,
        Err(e) => State::of(e.errno),
    }
}

/// Whether programs of a type may call a helper, by a program that calls it with nothing prepared: a kernel that knows the
/// call complains about its arguments, another one about the call. `None` when the type itself is missing or made for a
/// function of the kernel, so that this can't be tried.
pub fn helper(prog_type: ProgramType, number: u32) -> Option<bool> {
    use ProgramType as P;
    if matches!(prog_type, P::Tracing | P::Lsm | P::Ext | P::StructOps | P::Unspec) {
        return None;
    }
    let insns = [call(number as i32), mov(0, 0), exit()];
    match Program::load(&params_for(prog_type, &insns), LogLevel::None) {
        Ok(_) => Some(true),
        Err(e) if e.log.is_empty() => None,
        Err(e) => Some(
            !["invalid func ", "unknown func ", "cannot use helper", "program of this type"]
                .iter()
                .any(|refusal| e.log.contains(refusal)),
        ),
    }
}

/// Whether the kernel makes maps of a type.
pub fn map_type(map_type: MapType) -> State {
    use MapType as M;
    let page = sys::page_size() as u32;
    let int_btf = || crate::BtfObject::load(&blob(&[INT32, INT32_NAMED], "\0int\0")).ok();
    let mut params = MapParams::new("skep_probe", map_type, 4, 4, 1);
    let (mut inner, mut btf) = (None, None);
    match map_type {
        M::Unspec | M::StructOps => {
            // A struct_ops map takes a struct of the kernel; the program type tells as much.
            return if map_type == M::StructOps { program_type(ProgramType::StructOps) } else { State::Missing };
        }
        M::StackTrace => params.value_size = 8,
        M::LpmTrie => (params.key_size, params.value_size, params.flags) = (8, 8, 1),
        M::CgroupStorage | M::PercpuCgroupStorage => {
            (params.key_size, params.value_size, params.max_entries) = (16, 8, 0)
        }
        M::Queue | M::Stack | M::BloomFilter => params.key_size = 0,
        M::SkStorage | M::InodeStorage | M::TaskStorage | M::CgrpStorage => {
            (params.max_entries, params.flags) = (0, 1);
            btf = int_btf();
        }
        M::Ringbuf | M::UserRingbuf => (params.key_size, params.value_size, params.max_entries) = (0, 0, page),
        M::ArrayOfMaps | M::HashOfMaps => {
            inner = Map::create(&MapParams::new("skep_inner", M::Hash, 4, 4, 1)).ok();
        }
        M::Arena => {
            (params.key_size, params.value_size, params.flags) = (0, 0, 1 << 10);
        }
        M::InsnArray => params.value_size = 16,
        _ => {}
    }
    params.inner = inner.as_ref().map(Map::fd);
    params.btf = btf.as_ref().map(|b| (b.fd(), 1, 1));
    match Map::create(&params) {
        Ok(_) => State::Ok,
        Err(e) => State::of(e.errno().unwrap_or(Errno(0))),
    }
}

/// What the kernel's BTF loader knows; kept.
pub fn btf() -> BtfFeatures {
    static FEATURES: OnceLock<BtfFeatures> = OnceLock::new();
    *FEATURES.get_or_init(probe_btf)
}

/// Whether the kernel takes BTF at all.
pub fn btf_load() -> State {
    match obj::btf_load(&blob(&[INT32, INT32_NAMED], "\0int\0"), None) {
        Ok(_) => State::Ok,
        Err(e) => State::of(Errno::of(&e)),
    }
}

type Words<'a> = &'a [u32];

/// `int`, four bytes, signed, whose name is the first string. The name stands in the first word.
const INT32: Words<'static> = &[1, 1 << 24, 4];
const INT32_NAMED: Words<'static> = &[1 << 24 | 32];

/// A BTF blob of these words and strings.
fn blob(types: &[Words<'_>], strings: &str) -> Vec<u8> {
    let types: Vec<u8> = types.concat().into_iter().flat_map(u32::to_ne_bytes).collect();
    let len = types.len() as u32;
    let mut out = 0xeb9f_u16.to_ne_bytes().to_vec();
    out.extend([1, 0]);
    for word in [24, 0, len, len, strings.len() as u32] {
        out.extend(word.to_ne_bytes());
    }
    out.extend(types);
    out.extend(strings.bytes());
    out
}

fn probe_btf() -> BtfFeatures {
    let takes = |types: &[Words<'_>], strings: &str| {
        let all: Vec<Words<'_>> = [INT32, INT32_NAMED].into_iter().chain(types.iter().copied()).collect();
        obj::btf_load(&blob(&all, strings), None).is_ok()
    };
    let kind = |n: u32, vlen: u32| n << 24 | vlen;
    BtfFeatures {
        // FUNC_PROTO with one parameter "a", FUNC "x" of it.
        func: takes(&[&[0, kind(13, 1), 0, 7, 1], &[5, kind(12, 0), 2]], "\0int\0x\0a\0"),
        global_func: takes(&[&[0, kind(13, 1), 0, 7, 1], &[5, kind(12, 1), 2]], "\0int\0x\0a\0"),
        // VAR "x", DATASEC ".d" with it.
        datasec: takes(&[&[5, kind(14, 0), 1, 0], &[7, kind(15, 1), 4, 2, 0, 4]], "\0int\0x\0.d\0"),
        question_mark_datasec: takes(&[&[5, kind(14, 0), 1, 0], &[7, kind(15, 1), 4, 2, 0, 4]], "\0int\0x\0?.d\0"),
        float: takes(&[&[5, kind(16, 0), 4]], "\0int\0float\0"),
        // DECL_TAG on a variable.
        decl_tag: takes(&[&[5, kind(14, 0), 1, 0], &[5, kind(17, 0), 2, u32::MAX]], "\0int\0x\0"),
        type_tag: takes(&[&[5, kind(18, 0), 1]], "\0int\0x\0"),
        enum64: takes(&[&[0, kind(19, 1), 8, 5, 0, 0]], "\0int\0x\0"),
    }
}

/// Whether programs can ask for the cookie of their link (5.15); kept.
pub fn bpf_cookie() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| helper(ProgramType::Tracepoint, 174) == Some(true))
}

/// Whether system calls are functions that take one `struct pt_regs *` (x86-64 since 4.17, arm64, s390x); kept.
pub fn syscall_wrapper() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let name = match std::env::consts::ARCH {
            "x86_64" => "__x64_sys_bpf",
            "aarch64" => "__arm64_sys_bpf",
            "s390x" => "__s390x_sys_bpf",
            "riscv64" => "__riscv_sys_bpf",
            _ => return false,
        };
        kallsyms::has_function(name).unwrap_or(false)
    })
}

/// Whether maps have batch commands (5.6).
pub fn map_batch() -> State {
    let Ok(map) = Map::create(&MapParams::new("skep_probe", MapType::Hash, 4, 4, 1)) else { return State::Denied };
    State::either(map.lookup_batch(None, 1).is_ok())
}

/// Whether objects have names (4.15).
pub fn names() -> State {
    State::either(sys::knows_names())
}

/// Whether programs can have global variables (5.2): a wide load of an address in an array.
pub fn global_data() -> State {
    let Ok(map) = Map::create(&MapParams::new("skep_probe", MapType::Array, 4, 4, 1)) else { return State::Denied };
    let fd = std::os::fd::AsRawFd::as_raw_fd(&map.as_fd());
    let insns = [
        Raw { opcode: 0x18, dst: 1, src: 2, off: 0, imm: fd },
        Raw::default(),
        // *(u32 *)(r1 + 0) = 7
        Raw { opcode: 0x62, dst: 1, src: 0, off: 0, imm: 7 },
        mov(0, 0),
        exit(),
    ];
    load_state(&ProgramParams::new("skep_probe", ProgramType::SocketFilter, &insns, "GPL"))
}

/// Whether arrays can be mapped into memory (5.5).
pub fn array_mmap() -> State {
    let mut params = MapParams::new("skep_probe", MapType::Array, 4, 4, 1);
    params.flags = 1 << 10;
    match Map::create(&params) {
        Ok(_) => State::Ok,
        Err(e) => State::of(e.errno().unwrap_or(Errno(0))),
    }
}

/// Whether programs can have bounded loops (5.3).
pub fn bounded_loops() -> State {
    // r1 = 3; l: r1 -= 1; if r1 != 0 goto l; r0 = 0; exit
    let insns = [
        mov(1, 3),
        Raw { opcode: 0x17, dst: 1, imm: 1, ..Raw::default() },
        Raw { opcode: 0x55, dst: 1, off: -2, ..Raw::default() },
        mov(0, 0),
        exit(),
    ];
    load_state(&ProgramParams::new("skep_probe", ProgramType::SocketFilter, &insns, "GPL"))
}

fn load_state(params: &ProgramParams<'_>) -> State {
    match Program::load(params, LogLevel::None) {
        Ok(_) => State::Ok,
        // The verifier has looked at it, so this process may load programs.
        Err(e) if !e.log.is_empty() => State::Missing,
        Err(e) => State::of(e.errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel() {
        if !crate::test::root("features::this_kernel") {
            return;
        }
        // Things that every kernel skep runs on has; the rest is compared with bpftool in tests/.
        assert_eq!(program_type(ProgramType::SocketFilter), State::Ok);
        assert_eq!(program_type(ProgramType::Tracing), State::Ok);
        assert_eq!(map_type(MapType::Hash), State::Ok);
        assert_eq!(helper(ProgramType::SocketFilter, 1), Some(true));
        assert_eq!(helper(ProgramType::SocketFilter, 999_999), Some(false));
        assert_eq!(global_data(), State::Ok);
        assert_eq!(bounded_loops(), State::Ok);
        assert_eq!(btf_load(), State::Ok);
        assert!(btf().func && btf().global_func && btf().datasec && btf().float);
    }
}
