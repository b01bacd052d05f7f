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

/// Issues bpf(2). Pointers inside `attr` must have been made from buffers that outlive the call, with room for what the
/// command writes; the wrappers in this crate see to that.
///
/// # Safety
/// Every address inside `attr` is valid, for the length and the access that `command` gives it, during the call.
pub(crate) unsafe fn bpf<A: Attr>(command: Command, attr: &mut A) -> std::io::Result<i64> {
    loop {
        // SAFETY: `attr` is a live, initialised, exclusively borrowed value of the size passed; what it points to is
        // the caller's promise.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command.as_u32() as libc::c_long,
                std::ptr::from_mut(attr),
                size_of::<A>() as libc::c_long,
            )
        };
        if result >= 0 {
            return Ok(result);
        }
        let error = std::io::Error::last_os_error();
        // A load may be interrupted by a signal and asks to be tried again.
        if !matches!(error.raw_os_error(), Some(libc::EINTR)) {
            return Err(error);
        }
    }
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
