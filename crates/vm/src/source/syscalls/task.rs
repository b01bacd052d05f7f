//! A stopped task, as the callback sees it: its name, user, registers and memory, each read when asked for.

use super::sys;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;

/// A name older than this is read again: another thread may have changed it through /proc.
const COMM_AGE_NS: u64 = 50_000_000;

/// Length of a task's name with its NUL.
pub(super) const COMM_LEN: usize = 16;

/// A system call that a task is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InCall {
    pub(super) arch: super::Arch,
    pub(super) number: i64,
    /// Its first two arguments, for what it means to the tracer itself.
    pub(super) args: [u64; 2],
}

/// What is known of a task.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) tgid: u32,
    pub(super) call: Option<InCall>,
    /// It has been seen stopped since it was made.
    pub(super) started: bool,
    /// The call that made it, whose end is its first event.
    pub(super) made_by: Option<InCall>,
    /// Its end has been an event, or needs not be one.
    pub(super) ended: bool,
    pub(super) comm: Cell<Option<([u8; COMM_LEN], u64)>>,
    pub(super) user: Cell<Option<(u32, u32)>>,
    pub(super) registers: Cell<Option<[u64; sys::USER_REGS]>>,
}

/// What is known of a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    /// Tasks that have not ended.
    pub(super) live: u32,
    /// Handlers and flags by signal.
    pub(super) handlers: BTreeMap<i32, (u64, u64)>,
}

/// A stopped task.
#[derive(Debug)]
pub struct Task<'a> {
    pub(super) tid: u32,
    pub(super) now_ns: u64,
    pub(super) state: &'a State,
    /// Whether its memory and registers are still there.
    pub(super) alive: bool,
}

/// Memory of a task that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read {length} bytes at {address:#x} of task {tid}: nothing can be read from {fault:#x} on: {source}")]
pub struct ReadError {
    /// Whose.
    pub tid: u32,
    /// From where.
    pub address: u64,
    /// How many bytes.
    pub length: usize,
    /// The first address that cannot be read; what is before has been.
    pub fault: u64,
    /// `EFAULT`, `ESRCH` (it is gone), `EPERM`.
    pub source: std::io::Error,
}

impl Task<'_> {
    /// The thread's id.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// Its process's id.
    pub fn tgid(&self) -> u32 {
        self.state.tgid
    }

    /// Its name, padded with zeroes, as `bpf_get_current_comm` gives it.
    pub fn comm(&self) -> [u8; COMM_LEN] {
        if let Some((comm, read_ns)) = self.state.comm.get()
            && (!self.alive || self.now_ns.saturating_sub(read_ns) < COMM_AGE_NS)
        {
            return comm;
        }
        let mut comm = [0; COMM_LEN];
        if let Ok(text) = fs::read(format!("/proc/{}/comm", self.tid)) {
            let text = text.strip_suffix(b"\n").unwrap_or(&text);
            for (to, from) in comm.iter_mut().take(COMM_LEN - 1).zip(text) {
                *to = *from;
            }
            self.state.comm.set(Some((comm, self.now_ns)));
        }
        comm
    }

    /// Its real user and group, as `bpf_get_current_uid_gid` gives them; `None` for a task that is gone and was never asked
    /// for them. Read again after exec and calls that change them.
    pub fn uid_gid(&self) -> Option<(u32, u32)> {
        if self.state.user.get().is_none() {
            let status = fs::read(format!("/proc/{}/status", self.tid)).unwrap_or_default();
            let number = |label| status_number(&status, label);
            self.state.user.set(number("Uid:").zip(number("Gid:")));
        }
        self.state.user.get()
    }

    /// All registers in the order of `struct user_regs_struct`, whose first 21 are `struct pt_regs`; `None` when the task is
    /// gone.
    pub fn registers(&self) -> Option<[u64; 27]> {
        if !self.alive {
            return None;
        }
        if let Some(registers) = self.state.registers.get() {
            return Some(registers);
        }
        let registers = sys::registers(self.tid).ok();
        self.state.registers.set(registers);
        registers
    }

    /// Its priority as the kernel counts, 120 for an ordinary task, and the CPU it last ran on. Reads a file in /proc.
    pub fn prio_cpu(&self) -> Option<(i32, u32)> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.tid)).ok()?;
        // The name, in parentheses, may hold anything; the third field follows the last one.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let priority: i32 = fields.get(18 - 3)?.parse().ok()?;
        Some((priority.checked_add(100)?, fields.get(39 - 3)?.parse().ok()?))
    }

    /// Fills the buffer from its memory.
    pub fn read_memory(&self, address: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let length = buffer.len();
        let mut done = 0;
        // The kernel reads page by page and says how far it came; the next attempt has the reason.
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let fault = address.wrapping_add(done as u64);
            match sys::read_memory(self.tid, fault, rest) {
                Ok(read) if read > 0 => done += read,
                result => {
                    let source = result.err().unwrap_or_else(|| std::io::Error::from_raw_os_error(libc::EFAULT));
                    return Err(ReadError { tid: self.tid, address, length, fault, source });
                }
            }
        }
        Ok(())
    }

    /// The bytes up to a NUL, which is not among them, or `max` of them if there is none before.
    pub fn read_cstr(&self, address: u64, max: usize) -> Result<Vec<u8>, ReadError> {
        /// A page: what is behind its end may not be there.
        const PAGE: u64 = 4096;
        let mut text = Vec::new();
        while text.len() < max {
            let at = address.wrapping_add(text.len() as u64);
            let piece = ((PAGE - at % PAGE) as usize).min(max - text.len()).min(256);
            let mut buffer = [0; 256];
            let Some(buffer) = buffer.get_mut(..piece) else { break };
            self.read_memory(at, buffer).map_err(|error| ReadError { address, length: max, ..error })?;
            if let Some(end) = buffer.iter().position(|&byte| byte == 0) {
                text.extend_from_slice(buffer.get(..end).unwrap_or_default());
                break;
            }
            text.extend_from_slice(buffer);
        }
        Ok(text)
    }
}

/// The first number in the line of /proc/PID/status with this label.
pub(super) fn status_number(status: &[u8], label: &str) -> Option<u32> {
    status_field(status, label)?.parse().ok()
}

/// A mask in hexadecimal in /proc/PID/status.
pub(super) fn status_mask(status: &[u8], label: &str) -> Option<u64> {
    u64::from_str_radix(status_field(status, label)?, 16).ok()
}

fn status_field<'a>(status: &'a [u8], label: &str) -> Option<&'a str> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(label.as_bytes()))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()
}
