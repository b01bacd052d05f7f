//! System calls of one's own command, without root: a command line -> typed events, in order, while the task is stopped.
//!
//! A [`Tracer`] starts a command and follows it and all its children and threads by ptrace(2). A filter for seccomp(2),
//! installed before the command runs, has only the wanted calls stop, so that the others run at full speed.
//!
//! ```
//! use skep_vm::source::syscalls::{Calls, Command, EventKind, Progress, Tracer, Until, Wants};
//! use std::ops::ControlFlow;
//!
//! let command = Command::new(["true"]);
//! let wants = Wants { enter: Calls::All, ..Wants::default() };
//! let mut tracer = Tracer::start(&command, &wants)?;
//! let mut calls = 0;
//! let progress = tracer.run(Until::default(), &mut |event, task| {
//!     if let EventKind::SysEnter(enter) = &event.kind {
//!         calls += 1;
//!         assert!(enter.number != 59 || task.read_cstr(enter.args[0], 4096).unwrap().ends_with(b"/true"));
//!     }
//!     ControlFlow::Continue(())
//! })?;
//! assert!(calls > 0 && matches!(progress, Progress::Ended(end) if end.exit_code() == 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How near it comes to the kernel's tracepoints
//!
//! The numbers, arguments and results are those of `raw_syscalls`: a call that a signal interrupts ends with the raw
//! `-ERESTARTSYS` (-512) to `-ERESTART_RESTARTBLOCK` (-516) and starts again, as there; `rt_sigreturn` ends under the number
//! -1; a new task begins with the end of the call that made it, result 0; calls of 32-bit programs come with their own
//! numbers and [`Arch::I386`]. What differs:
//!
//! - SIGKILL is delivered without ptrace seeing it: there is no [`Signal`] event, but the [`Exit`] event comes.
//! - A signal that the task ignores is no event, as in the kernel when nothing traces (a traced task is shown those).
//! - A call that the command's own seccomp filter refuses is seen by the kernel's `sys_exit` only, here not at all when
//!   only some calls are wanted, and entry and exit when all are.
//! - Times are taken when this process has learnt of the stop, some microseconds after the fact; a call lasts as much longer.
//! - Of threads that end together the last to stop is said to be the last of its process; the kernel may count another.
//! - A task made with `CLONE_UNTRACED` is not followed, and where a filter is used its wanted calls fail with `ENOSYS`.
//! - [`Task::comm`] is read again after exec, `prctl(PR_SET_NAME)` and 50 ms; a name given to another thread through
//!   /proc shows after that time.
//!
//! A command that uses ptrace itself (a debugger, strace) is refused that.
//!
//! # What it costs
//!
//! CPU time of `ls -lR /usr/include` (32,440 calls; 2 virtual CPUs, Linux 6.18), with what it adds:
//!
//! | wanted | CPU time | stops |
//! |---|---|---|
//! | (not followed) | 0.06 s | 0 |
//! | both ends of openat, by the filter | 0.08 s | 1,738 |
//! | the start of every call | 0.36 s | 32,443 |
//! | both ends of every call | 0.60 s | 64,883 |
//! | `strace -f -c`, for comparison | 0.68 s | 64,883 |
//!
//! So a stop takes some 8 microseconds, nearly all of it the kernel's switching to and fro; the filter makes calls that are
//! not wanted free. Both ends of every call take PTRACE_SYSCALL alone: a filter would cost the same stops and its own time.
//! Notifications by seccomp would take 5 microseconds in place of 9 for the start of a call, but have no end of it, no
//! result and no registers.
//!
//! # Rights
//!
//! None are needed, but ptrace(2) must be allowed at all (Yama's `ptrace_scope` up to 1, no container profile against it), else
//! [`TraceError::NotPermitted`]. Programs with the setuid bit or file capabilities run without the rights these give, as
//! always under an unprivileged tracer. The filter asks for `no_new_privs` where the user lacks CAP_SYS_ADMIN; a command that
//! minds (sudo says so) can be followed with [`Stops::EveryCall`], which needs no filter, at two stops for every call.
//!
//! # Life times
//!
//! All that is followed ends with the [`Tracer`], also when this process is killed (`PTRACE_O_EXITKILL`). It cannot be let
//! go instead: a filter that stops calls makes them fail once nobody follows. ptrace binds to a thread, so a tracer stays
//! on the one it was made on, which must have no other child processes: waiting is for any child of the thread.

mod filter;
mod start;
mod stopped;
mod sys;
mod task;
mod tracer;

pub use stopped::StoppedTask;
pub use task::{ReadError, Task};
pub use tracer::Tracer;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// What to run. Standard input, output and error are inherited.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Command {
    /// The program, looked up in `PATH` unless it has a slash, and its arguments.
    pub argv: Vec<OsString>,
    /// The whole environment; `None` is this process's.
    pub env: Option<Vec<(OsString, OsString)>>,
    /// Where it runs; `None` is here.
    pub directory: Option<PathBuf>,
}

impl Command {
    /// A program and its arguments, with this process's environment and directory.
    pub fn new<T: Into<OsString>>(argv: impl IntoIterator<Item = T>) -> Command {
        Command { argv: argv.into_iter().map(Into::into).collect(), env: None, directory: None }
    }

    /// The first word, for messages.
    fn name(&self) -> String {
        self.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// A set of system calls.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Calls {
    /// None.
    #[default]
    None,
    /// These, by their x86-64 number (`abi::syscalls`). Calls of 32-bit programs are not among them, whatever their number.
    Only(BTreeSet<u32>),
    /// Every one, of 32-bit programs too.
    All,
}

impl Calls {
    /// Whether the call is in it.
    pub fn contains(&self, arch: Arch, number: i64) -> bool {
        match self {
            Calls::None => false,
            Calls::Only(set) => arch == Arch::X86_64 && u32::try_from(number).is_ok_and(|number| set.contains(&number)),
            Calls::All => true,
        }
    }

    /// Adds what is in the other.
    pub fn add(&mut self, other: &Calls) {
        match (&mut *self, other) {
            (Calls::All, _) | (_, Calls::None) => {}
            (Calls::Only(set), Calls::Only(more)) => set.extend(more),
            (_, other) => *self = other.clone(),
        }
    }
}

/// Which events are wanted. Nothing is by default. It is fixed once the command has been started: its filter stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wants {
    /// Calls whose start is an event.
    pub enter: Calls,
    /// Calls whose end is an event.
    pub exit: Calls,
    /// New tasks.
    pub fork: bool,
    /// New programs.
    pub exec: bool,
    /// Ends of tasks.
    pub task_exit: bool,
    /// Signals as they are delivered.
    pub signal: bool,
    /// How calls are stopped.
    pub stops: Stops,
}

/// How calls are stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stops {
    /// Whatever takes fewer stops: a filter, unless both ends of every call are wanted.
    #[default]
    Fewest,
    /// At both ends of every call, without a filter.
    EveryCall,
}

/// The architecture whose call it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arch {
    /// 64-bit x86. Calls of the x32 interface have bit 30 set in their number.
    X86_64,
    /// 32-bit x86, with its own numbers.
    I386,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When, on the clock of `bpf_ktime_get_ns` (`CLOCK_MONOTONIC`), in nanoseconds. Never less than the one before.
    pub at_ns: u64,
    /// The thread, what the kernel calls pid.
    pub tid: u32,
    /// Its process, what the kernel calls tgid.
    pub tgid: u32,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each is described at its struct")]
pub enum EventKind {
    SysEnter(SysEnter),
    SysExit(SysExit),
    Fork(Fork),
    Exec(Exec),
    Exit(Exit),
    Signal(Signal),
}

/// A system call starts. [`Task::registers`] has all the registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SysEnter {
    /// Whose numbers these are.
    pub arch: Arch,
    /// The call's number as the kernel read it from the register; -1 and other nonsense is possible.
    pub number: i64,
    /// Its arguments, whether it takes them or not.
    pub args: [u64; 6],
    /// Where the task is.
    pub ip: u64,
    /// Its stack.
    pub sp: u64,
}

/// A system call ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SysExit {
    /// Whose numbers these are.
    pub arch: Arch,
    /// The call's number; -1 after `rt_sigreturn`, which has brought back the registers of before the signal.
    pub number: i64,
    /// Its result; -4095 to -1 are errors, among them the kernel's own from 512.
    pub result: i64,
}

/// A task has been made. The event is the parent's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fork {
    /// The new task.
    pub child_tid: u32,
    /// Its process: the parent's, for a thread.
    pub child_tgid: u32,
    /// `CLONE_...` without the exit signal; those of a `fork` are 0, of a `vfork` `CLONE_VFORK | CLONE_VM`.
    pub clone_flags: u64,
}

/// A program has been started in place of the one that ran.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exec {
    /// The name that was given to execve(2): a script's own, `/dev/fd/3` after fexecve(3).
    pub filename: Vec<u8>,
    /// The thread that did it; another than the event's `tid` when it was not the first one of its process.
    pub old_tid: u32,
}

/// A task ends. Its memory can still be read, unless it was killed so suddenly that it never stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// What it gave to exit(2), 0 if a signal ended it.
    pub code: u8,
    /// The signal that ended it, 0 if none did.
    pub signal: u8,
    /// Whether it is the last one of its process.
    pub group_dead: bool,
}

/// A signal is delivered: a handler runs, or what the kernel does without one. Not for SIGKILL, nor for ignored ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal {
    /// Its number.
    pub signal: i32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// The handler's address, 0 for none.
    pub handler: u64,
    /// `SA_...` of the handler, with `SA_RESTORER`.
    pub handler_flags: u64,
}

/// How long [`Tracer::run`] goes on at most. With a deadline or a flag a signal interrupts the calling thread every 20 ms: what
/// the callback calls may then end with EINTR.
#[derive(Clone, Copy, Debug, Default)]
pub struct Until<'a> {
    /// Up to then. Looked at between events and every 20 ms.
    pub deadline: Option<Instant>,
    /// Until this is set, by a signal handler or another thread. Looked at as often.
    pub stop: Option<&'a AtomicBool>,
}

/// Why [`Tracer::run`] has returned. After all but `Ended` it can be called again; tasks that have come to an event wait
/// for that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The command and all it started have ended; this is how the command did.
    Ended(End),
    /// The deadline has passed.
    TimedOut,
    /// The stop flag was set.
    Stopped,
    /// The callback said so.
    Broke,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "plain")]
pub enum End {
    Code(u8),
    Signal { number: u8, core_dumped: bool },
}

impl End {
    /// What a shell makes of it: the code, or 128 and the signal's number.
    pub fn exit_code(self) -> u8 {
        match self {
            End::Code(code) => code,
            End::Signal { number, .. } => number.saturating_add(128),
        }
    }
}

/// Why a command could not be started or followed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The command itself cannot be run: there is no such file, it is not executable, ...
    #[error("run `{command}`: {source}")]
    #[expect(missing_docs, reason = "plain")]
    Exec { command: String, source: io::Error },
    /// Something before that failed.
    #[error("start `{command}`: {action}: {source}")]
    #[expect(missing_docs, reason = "plain")]
    Start { command: String, action: &'static str, source: io::Error },
    /// ptrace(2) or seccomp(2) is forbidden here.
    #[error("{action} `{command}`: {cause}; {next}")]
    #[expect(missing_docs, reason = "plain")]
    NotPermitted { command: String, action: &'static str, cause: String, next: &'static str },
    /// The calling thread has child processes of its own, which waiting for the command's tasks would take away.
    #[error(
        "follow `{command}`: this thread already has a child process ({child}), whose end would be taken from whoever \
         waits for it; start and run the tracer on a thread of its own"
    )]
    #[expect(missing_docs, reason = "plain")]
    OtherChildren { command: String, child: u32 },
    /// The kernel refused something in the course of following.
    #[error("follow task {tid}: {action}: {source}")]
    #[expect(missing_docs, reason = "plain")]
    Follow { tid: u32, action: &'static str, source: io::Error },
}
