//! System calls. The only place where this crate hands pointers to the kernel.
//!
//! Attributes are built as bytes or `#[repr(C)]` structs in which every byte is initialised; the kernel takes a shorter
//! `union bpf_attr` as one padded with zeros, so each command passes just the part it needs.
#![expect(unsafe_code, reason = "system calls")]

use skep_abi::Command;
use std::os::fd::{FromRawFd, OwnedFd};

/// Marks a `#[repr(C)]` struct as fit to be handed to bpf(2).
///
/// # Safety
/// The type must be `#[repr(C)]`, have no padding bytes, and be valid for any bytes the kernel writes back.
pub(crate) unsafe trait Attr {}

/// Issues bpf(2), again where a signal interrupted it. Pointers inside `attr` must have been made from buffers that outlive
/// the call, with room for what the command writes; the wrappers in this crate see to that.
///
/// # Safety
/// Every address inside `attr` is valid, for the length and the access that `command` gives it, during the call.
pub(crate) unsafe fn bpf<A: Attr>(command: Command, attr: &mut A) -> std::io::Result<i64> {
    loop {
        // SAFETY: the caller's promise.
        match unsafe { bpf_once(command, attr) } {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            result => return result,
        }
    }
}

/// [`bpf`] for the command that may take as long as the caller says, `BPF_PROG_TEST_RUN`: a signal ends it with `EINTR`.
///
/// # Safety
/// As [`bpf`].
pub(crate) unsafe fn bpf_once<A: Attr>(command: Command, attr: &mut A) -> std::io::Result<i64> {
    // SAFETY: `attr` is a live, initialised, exclusively borrowed value of the size passed; what it points to is the
    // caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command.as_u32() as libc::c_long,
            std::ptr::from_mut(attr),
            size_of::<A>() as libc::c_long,
        )
    };
    if result >= 0 { Ok(result) } else { Err(std::io::Error::last_os_error()) }
}

/// [`bpf`] for the commands that return a file descriptor.
///
/// # Safety
/// As [`bpf`]; `command` must be one that returns a new file descriptor.
pub(crate) unsafe fn bpf_fd<A: Attr>(command: Command, attr: &mut A) -> std::io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attr)? };
    // SAFETY: the kernel has just given us this descriptor (close-on-exec is set by bpf(2) itself); nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

pub(crate) mod link;
pub(crate) mod map;
pub(crate) mod mmap;
pub(crate) mod obj;
pub(crate) mod perf;
pub(crate) mod prog;

use std::os::fd::{AsRawFd, BorrowedFd};

/// What of a name the kernel takes as an object's: up to 15 bytes, each a letter, digit, `_` or `.`. Source:
/// `bpf_obj_name_cpy` in `kernel/bpf/syscall.c`.
pub(crate) fn object_name(name: &str) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().take(15).zip(name.bytes()) {
        *to = if from.is_ascii_alphanumeric() || from == b'_' || from == b'.' { from } else { b'_' };
    }
    out
}

/// What kind of BPF object a descriptor is, `None` if none. Asked of `/proc`, as bpf(2) has no such question.
pub(crate) fn fd_kind(fd: BorrowedFd<'_>) -> Option<obj::Kind> {
    let target = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    kind_of_target(target.to_str()?)
}

/// What a link in `/proc/PID/fd` says of its descriptor.
pub(crate) fn kind_of_target(target: &str) -> Option<obj::Kind> {
    match target.strip_prefix("anon_inode:")?.trim_matches(['[', ']']) {
        "bpf-map" => Some(obj::Kind::Map),
        "bpf-prog" => Some(obj::Kind::Program),
        "bpf_link" | "bpf-link" => Some(obj::Kind::Link),
        "btf" => Some(obj::Kind::Btf),
        _ => None,
    }
}

/// Joins a map's descriptor with the sizes that the kernel has just told for it.
pub(crate) fn map_handle(fd: OwnedFd, key_len: usize, value_len: usize) -> map::Handle {
    // SAFETY: the callers in this crate pass what `bpf_map_info` says of this very descriptor.
    unsafe { map::Handle::from_parts(fd, key_len, value_len) }
}

/// Whether this kernel takes names of maps and programs (4.15), by trying once.
pub(crate) fn knows_names() -> bool {
    static KNOWS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *KNOWS.get_or_init(|| {
        let attr = map::Create {
            map_type: 2,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
            name: object_name("skep_name"),
            ..Default::default()
        };
        map::create(&attr, 4).is_ok()
    })
}

/// Lifts the limit of locked memory, which kernels before 5.11 count maps and programs against. `true` if it was lifted
/// just now, so that trying again makes sense.
pub(crate) fn raise_memlock() -> bool {
    static TRIED: std::sync::OnceLock<()> = std::sync::OnceLock::new();
    let mut first = false;
    TRIED.get_or_init(|| first = true);
    if !first {
        return false;
    }
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `unlimited` is a live rlimit that the kernel only reads.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &unlimited) == 0 }
}

/// The magic number of the file system that a path lies in.
pub(crate) fn fs_magic(path: &std::ffi::CStr) -> Option<i64> {
    let mut out = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path is a live C string, `out` has room for the struct.
    let result = unsafe { libc::statfs(path.as_ptr(), out.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: the call succeeded and has filled it (and zeros are a valid value of it).
    let filled = unsafe { out.assume_init() };
    Some(filled.f_type & 0xffff_ffff)
}

/// What `uname -r` says.
pub(crate) fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map(|s| s.trim().to_owned()).unwrap_or_default()
}

/// Bytes of a page of memory.
pub(crate) fn page_size() -> usize {
    // SAFETY: the call takes and returns plain numbers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Copies what a file holds by mapping it, for files whose contents cannot change: reading from sysfs gives a page a call,
/// 1,350 calls for the kernel's types. `None` where the file cannot be mapped (before 6.16).
pub(crate) fn copy_mapped(file: &std::fs::File) -> Option<Vec<u8>> {
    let len = usize::try_from(file.metadata().ok()?.len()).ok().filter(|len| *len > 0)?;
    // SAFETY: a new private read-only mapping at a place of the kernel's choosing; no existing memory is touched.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_POPULATE,
            file.as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the mapping is `len` bytes long, readable and lives until below; the caller passes files whose memory the
    // kernel never writes to.
    let copy = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) }.to_vec();
    // SAFETY: the very mapping made above; nothing borrows from it any more.
    unsafe { libc::munmap(start, len) };
    Some(copy)
}
