//! The system calls that following a command takes: ptrace(2), waitpid(2), process_vm_readv(2), a POSIX timer.
//!
//! Thin and safe to call: every pointer handed to the kernel here is to memory of this module's own, and what comes back
//! is a value or the kernel's error. No safe crate covers it all: nix cannot name real-time signals in a wait status or
//! when it lets a task go on, rustix has no ptrace.
#![expect(unsafe_code, reason = "ptrace, waitpid, process_vm_readv and timers by hand, see above")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

/// `wait` waits for tasks of every kind (threads, children made by clone with another signal).
pub(super) const WALL: i32 = libc::__WALL;
/// `wait` returns at once when there is nothing to report.
pub(super) const NO_HANG: i32 = libc::WNOHANG;
/// `wait` sees only what belongs to the calling thread.
pub(super) const THIS_THREAD: i32 = libc::__WNOTHREAD;

/// How a stopped task goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resume {
    /// Up to the next event.
    Cont,
    /// Up to the next event, or the next entry into or return from a system call.
    Syscall,
    /// Not at all: it stays stopped as the signal asks, but reports when it is continued.
    Listen,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// waitpid(2): the task that has something to report and its raw status; `None` with `NO_HANG` and nothing there.
/// `tid` -1 is any.
pub(super) fn wait(tid: i32, flags: i32) -> io::Result<Option<(u32, i32)>> {
    let mut status = 0;
    // SAFETY: `status` is a live i32 for the time of the call.
    let result = unsafe { libc::waitpid(tid, &raw mut status, flags) };
    let tid = check(result.into())?;
    Ok(u32::try_from(tid).ok().filter(|&tid| tid != 0).map(|tid| (tid, status)))
}

/// Requests that take a number as data and no memory.
fn request(request: libc::c_uint, tid: u32, data: usize) -> io::Result<()> {
    // SAFETY: the requests passed by this module (SEIZE, INTERRUPT, CONT, SYSCALL, LISTEN) take `addr` 0 and a plain number
    // as `data`; the kernel reads and writes no memory of this process for them.
    let result = unsafe { libc::ptrace(request, tid as libc::pid_t, 0usize, data) };
    check(result).map(|_| ())
}

/// Starts following a task, which keeps running.
pub(super) fn seize(tid: u32, options: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, tid, options as usize)
}

/// Stops a followed task: it reports `PTRACE_EVENT_STOP`.
pub(super) fn interrupt(tid: u32) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, tid, 0)
}

/// Lets a stopped task go on; `signal` is delivered to it first, 0 is none.
pub(super) fn resume(tid: u32, how: Resume, signal: i32) -> io::Result<()> {
    let number = match how {
        Resume::Cont => libc::PTRACE_CONT,
        Resume::Syscall => libc::PTRACE_SYSCALL,
        Resume::Listen => return request(libc::PTRACE_LISTEN, tid, 0),
    };
    request(number, tid, signal as usize)
}

/// The number that came with an event: the new task, the former thread, the exit status.
pub(super) fn event_message(tid: u32) -> io::Result<u64> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: PTRACE_GETEVENTMSG writes one unsigned long to `data`, which `message` is.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, tid as libc::pid_t, 0usize, &raw mut message) };
    check(result).map(|_| message)
}

/// What a signal carries: number, errno, code.
pub(super) fn signal_info(tid: u32) -> io::Result<(i32, i32, i32)> {
    // SAFETY: all zeroes is a valid siginfo_t, which is a struct of integers.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: PTRACE_GETSIGINFO writes one siginfo_t to `data`, which `info` is.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, tid as libc::pid_t, 0usize, &raw mut info) };
    check(result).map(|_| (info.si_signo, info.si_errno, info.si_code))
}

/// How many 8-byte words `struct user_regs_struct` has on x86-64.
pub(super) const USER_REGS: usize = 27;

/// The registers, in the order of `struct user_regs_struct`.
pub(super) fn registers(tid: u32) -> io::Result<[u64; USER_REGS]> {
    const { assert!(size_of::<libc::user_regs_struct>() == USER_REGS * 8) };
    let mut words = [0u64; USER_REGS];
    // SAFETY: PTRACE_GETREGS writes one user_regs_struct to `data`; `words` has its size (asserted) and alignment.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid as libc::pid_t, 0usize, words.as_mut_ptr()) };
    check(result).map(|_| words)
}

/// What kind of stop at a system call a task is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CallStop {
    /// Before the call.
    Entry,
    /// After it.
    Exit,
    /// Before it, by a filter.
    Seccomp,
    /// None of these.
    None,
}

/// `struct ptrace_syscall_info`.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallInfo {
    pub(super) stop: CallStop,
    /// `AUDIT_ARCH_...`.
    pub(super) arch: u32,
    pub(super) ip: u64,
    pub(super) sp: u64,
    /// The number on entry, the result on exit.
    pub(super) first: u64,
    /// Only on entry.
    pub(super) args: [u64; 6],
}

/// Asks what system call a stopped task is in (Linux 5.3).
pub(super) fn call_info(tid: u32) -> io::Result<CallInfo> {
    // op (1 byte), 3 of padding, arch (4), ip, sp, then a union of at most 8 words.
    let mut words = [0u64; 11];
    // SAFETY: PTRACE_GET_SYSCALL_INFO writes at most `addr` bytes to `data`; `words` has that many.
    let result = unsafe {
        libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, tid as libc::pid_t, size_of_val(&words), words.as_mut_ptr())
    };
    check(result)?;
    let [head, ip, sp, first, a0, a1, a2, a3, a4, a5, _] = words;
    let stop = match head & 0xff {
        1 => CallStop::Entry,
        2 => CallStop::Exit,
        3 => CallStop::Seccomp,
        _ => CallStop::None,
    };
    Ok(CallInfo { stop, arch: (head >> 32) as u32, ip, sp, first, args: [a0, a1, a2, a3, a4, a5] })
}

/// Reads memory of another process; returns how many bytes there were up to the first that cannot be read.
pub(super) fn read_memory(tid: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as usize as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: `local` covers exactly `buffer`, which is borrowed for the time of the call; `remote` is an address in the
    // other process, which the kernel checks and which is not dereferenced here.
    let result = unsafe { libc::process_vm_readv(tid as libc::pid_t, &raw const local, 1, &raw const remote, 1, 0) };
    check(result as libc::c_long).map(|read| read as usize)
}

/// Sends a signal to a process; it may be gone.
pub(super) fn kill(pid: u32, signal: i32) {
    // SAFETY: kill(2) takes numbers only.
    let _ = unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// The calling thread's id.
fn own_thread() -> i32 {
    // SAFETY: gettid(2) takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// The time on the clock that `bpf_ktime_get_ns` reads.
pub(super) fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Reads the pages of a small pipe message until its writers are gone; used for the four-byte error of a failed start.
pub(super) fn read_all(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        // SAFETY: `rest` is writable memory of the length passed.
        let read = unsafe { libc::read(fd.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len()) };
        match usize::try_from(read) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    filled
}

/// A timer that interrupts this thread's `wait` every so often, so that a time limit and a stop flag are seen while the
/// command is silent. It ticks only between [`Ticker::start`] and [`Ticker::stop`].
#[derive(Debug)]
pub(super) struct Ticker {
    timer: libc::timer_t,
}

/// The signal that ticks, once it has a handler: the highest real-time signal that nothing in this process handles yet.
static TICK_SIGNAL: OnceLock<Option<libc::c_int>> = OnceLock::new();

/// Gives that signal a handler that does nothing, which stays.
fn install_tick_signal() -> Option<libc::c_int> {
    extern "C" fn nothing(_: libc::c_int) {}
    (libc::SIGRTMIN()..libc::SIGRTMAX()).rev().find(|&signal| {
        // SAFETY: all zeroes is a valid sigaction: default handler, no flags, empty mask.
        let (mut action, mut before): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
        // SAFETY: `before` is a live sigaction; no new one is passed.
        let known = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut before) } == 0;
        if !known || before.sa_sigaction != libc::SIG_DFL {
            return false;
        }
        action.sa_sigaction = nothing as *const () as usize;
        // SAFETY: `action` is fully set; the handler touches nothing, so it is safe at any moment; no SA_RESTART, as
        // interrupting waitpid is what it is for.
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) == 0 }
    })
}

impl Ticker {
    /// Makes the timer for the calling thread.
    pub(super) fn new() -> io::Result<Ticker> {
        let signal = TICK_SIGNAL
            .get_or_init(install_tick_signal)
            .ok_or_else(|| io::Error::other("this process handles every real-time signal itself"))?;
        // SAFETY: all zeroes is a valid sigevent.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        event.sigev_notify_thread_id = own_thread();
        let mut timer: libc::timer_t = std::ptr::null_mut();
        // SAFETY: both pointers are to live values of the right types.
        let result = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
        check(result.into())?;
        // A thread that inherited a mask with the signal in it would never be woken.
        // SAFETY: `set` is initialised by sigemptyset before it is used; the old mask is not asked for.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        }
        Ok(Ticker { timer })
    }

    /// Ticks every `every_ns` from now on.
    pub(super) fn start(&self, every_ns: u32) -> io::Result<()> {
        self.set(libc::timespec { tv_sec: 0, tv_nsec: every_ns.into() })
    }

    /// No more ticks.
    pub(super) fn stop(&self) {
        let _ = self.set(libc::timespec { tv_sec: 0, tv_nsec: 0 });
    }

    fn set(&self, every: libc::timespec) -> io::Result<()> {
        let spec = libc::itimerspec { it_interval: every, it_value: every };
        // SAFETY: `timer` was made by timer_create and is deleted only in `drop`; `spec` is live.
        let result = unsafe { libc::timer_settime(self.timer, 0, &raw const spec, std::ptr::null_mut()) };
        check(result.into()).map(|_| ())
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // SAFETY: `timer` was made by timer_create and is deleted once, here.
        let _ = unsafe { libc::timer_delete(self.timer) };
    }
}
