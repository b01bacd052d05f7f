//! The program commands of bpf(2), safe to call: every address in the attribute is made here from a slice.
#![expect(unsafe_code, reason = "system calls")]

use super::{Attr, bpf, bpf_fd, bpf_once};
use skep_abi::Command;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Bytes of `struct bpf_func_info` and `struct bpf_line_info`.
pub(crate) const FUNC_INFO: usize = 8;
pub(crate) const LINE_INFO: usize = 16;

/// What `BPF_PROG_LOAD` takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) prog_type: u32,
    /// Slots of 8 bytes in the machine's byte order.
    pub(crate) insns: &'a [u8],
    pub(crate) license: &'a CStr,
    pub(crate) kern_version: u32,
    pub(crate) flags: u32,
    pub(crate) name: [u8; 16],
    pub(crate) ifindex: u32,
    pub(crate) expected_attach_type: u32,
    pub(crate) btf: Option<BorrowedFd<'a>>,
    /// Records of [`FUNC_INFO`] bytes.
    pub(crate) func_info: &'a [u8],
    /// Records of [`LINE_INFO`] bytes.
    pub(crate) line_info: &'a [u8],
    pub(crate) attach_btf_id: u32,
    /// A program (freplace) or a BTF object (module) that `attach_btf_id` is an id in.
    pub(crate) attach_target: Option<BorrowedFd<'a>>,
    /// Descriptors of module BTFs by the index in a kfunc call's `off`; 0 is unused.
    pub(crate) fd_array: &'a [i32],
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_fd: u32,
    core_relo_cnt: u32,
    fd_array: u64,
    core_relos: u64,
    core_relo_rec_size: u32,
    log_true_size: u32,
}

// SAFETY: repr(C), 144 bytes without implicit padding, plain integers.
unsafe impl Attr for LoadAttr {}
const _: () = assert!(size_of::<LoadAttr>() == 144);

/// The outcome of a load: the descriptor or the error, and how many bytes of log there would have been (6.4; else 0).
pub(crate) struct Loaded {
    pub(crate) result: io::Result<OwnedFd>,
    pub(crate) log_true_size: u32,
}

/// `BPF_PROG_LOAD`. `log` is a level and a buffer, which the kernel ends with a 0 byte.
pub(crate) fn load(program: &Load<'_>, log: Option<(u32, &mut [u8])>) -> Loaded {
    let address = |bytes: &[u8]| if bytes.is_empty() { 0 } else { bytes.as_ptr() as u64 };
    let func_info_cnt = program.func_info.len() / FUNC_INFO;
    let line_info_cnt = program.line_info.len() / LINE_INFO;
    let mut attr = LoadAttr {
        prog_type: program.prog_type,
        insn_cnt: (program.insns.len() / 8) as u32,
        insns: address(program.insns),
        license: program.license.as_ptr() as u64,
        kern_version: program.kern_version,
        prog_flags: program.flags,
        prog_name: program.name,
        prog_ifindex: program.ifindex,
        expected_attach_type: program.expected_attach_type,
        prog_btf_fd: program.btf.map_or(0, |fd| fd.as_raw_fd() as u32),
        attach_btf_id: program.attach_btf_id,
        attach_fd: program.attach_target.map_or(0, |fd| fd.as_raw_fd() as u32),
        fd_array: if program.fd_array.is_empty() { 0 } else { program.fd_array.as_ptr() as u64 },
        ..LoadAttr::default()
    };
    if func_info_cnt > 0 {
        attr.func_info = address(program.func_info);
        attr.func_info_cnt = func_info_cnt as u32;
        attr.func_info_rec_size = FUNC_INFO as u32;
    }
    if line_info_cnt > 0 {
        attr.line_info = address(program.line_info);
        attr.line_info_cnt = line_info_cnt as u32;
        attr.line_info_rec_size = LINE_INFO as u32;
    }
    if let Some((level, buffer)) = log {
        attr.log_level = level;
        attr.log_size = buffer.len() as u32;
        attr.log_buf = buffer.as_mut_ptr() as u64;
    }
    // SAFETY: instructions, licence, records and descriptors are live slices whose lengths stand beside their addresses
    // (an index into `fd_array` beyond its end makes the kernel read user memory behind it, which faults or gives a
    // number that is no descriptor: it never writes there); the log buffer is live and exclusive.
    let result = unsafe { bpf_fd(Command::ProgLoad, &mut attr) };
    Loaded { result, log_true_size: attr.log_true_size }
}

#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

// SAFETY: repr(C), 80 bytes without implicit padding, plain integers; `pad` is 0 as the kernel wants of bytes it does
// not know.
unsafe impl Attr for TestRunAttr {}
const _: () = assert!(size_of::<TestRunAttr>() == 80);

/// What `BPF_PROG_TEST_RUN` takes.
#[derive(Debug, Default)]
pub(crate) struct TestRun<'a> {
    pub(crate) data_in: &'a [u8],
    pub(crate) data_out: &'a mut [u8],
    pub(crate) ctx_in: &'a [u8],
    pub(crate) ctx_out: &'a mut [u8],
    pub(crate) repeat: u32,
    pub(crate) flags: u32,
    pub(crate) cpu: u32,
    pub(crate) batch_size: u32,
}

/// What it tells: the program's value, the bytes of data and context it has for us (may be more than there was room for),
/// and the mean duration in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TestResult {
    pub(crate) retval: u32,
    pub(crate) data_len: u32,
    pub(crate) ctx_len: u32,
    pub(crate) duration_ns: u32,
}

/// `BPF_PROG_TEST_RUN`. The error comes with the lengths (for `ENOSPC`); a signal ends a run of many repetitions
/// with `EINTR`.
pub(crate) fn test_run(fd: BorrowedFd<'_>, run: &mut TestRun<'_>) -> (TestResult, io::Result<()>) {
    let address = |bytes: &[u8]| if bytes.is_empty() { 0 } else { bytes.as_ptr() as u64 };
    let mut attr = TestRunAttr {
        prog_fd: fd.as_raw_fd() as u32,
        data_size_in: run.data_in.len() as u32,
        data_size_out: run.data_out.len() as u32,
        data_in: address(run.data_in),
        data_out: if run.data_out.is_empty() { 0 } else { run.data_out.as_mut_ptr() as u64 },
        repeat: run.repeat,
        ctx_size_in: run.ctx_in.len() as u32,
        ctx_size_out: run.ctx_out.len() as u32,
        ctx_in: address(run.ctx_in),
        ctx_out: if run.ctx_out.is_empty() { 0 } else { run.ctx_out.as_mut_ptr() as u64 },
        flags: run.flags,
        cpu: run.cpu,
        batch_size: run.batch_size,
        ..TestRunAttr::default()
    };
    // SAFETY: all four buffers are live, the outgoing ones exclusive, and their lengths stand beside their addresses.
    let result = unsafe { bpf_once(Command::ProgTestRun, &mut attr) }.map(drop);
    let told = TestResult {
        retval: attr.retval,
        data_len: attr.data_size_out,
        ctx_len: attr.ctx_size_out,
        duration_ns: attr.duration,
    };
    (told, result)
}

#[repr(C)]
struct BindMap {
    prog_fd: u32,
    map_fd: u32,
    flags: u32,
}

// SAFETY: repr(C), 12 bytes without padding, plain integers.
unsafe impl Attr for BindMap {}

/// `BPF_PROG_BIND_MAP`: the program holds the map from now on.
pub(crate) fn bind_map(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = BindMap { prog_fd: program.as_raw_fd() as u32, map_fd: map.as_raw_fd() as u32, flags: 0 };
    // SAFETY: there are no addresses in the attribute.
    unsafe { bpf(Command::ProgBindMap, &mut attr) }.map(drop)
}
