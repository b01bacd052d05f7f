//! Starts the command: fork, wait to be followed, install the filter, become the command.
//!
//! Between fork and exec the child is a copy of one thread of a process that may have many, whose locks nobody will ever
//! release there: so everything it needs is made before the fork, and it calls nothing but system calls.
//!
//! The filter needs `no_new_privs` unless the user has CAP_SYS_ADMIN: it is tried without first. What that costs: programs
//! with the setuid bit or file capabilities run without the rights these give, but under an unprivileged tracer they do
//! that anyway.
#![expect(unsafe_code, reason = "fork and what the child does before it becomes the command")]

use super::filter::Insn;
use super::{Command, TraceError};
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A child that waits to be let go.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) pid: u32,
    /// Closing it without a byte written ends the child; one byte lets it go.
    go: Option<io::PipeWriter>,
    /// What went wrong before the command ran; closed by its exec.
    failed: io::PipeReader,
}

/// What the child was doing when it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Installing the filter.
    Filter,
    /// Changing into its directory.
    Directory,
    /// Becoming the command.
    Exec,
}

/// Everything the child uses.
struct Prepared {
    path: CString,
    /// argv and envp as the kernel wants them; the strings they point to follow.
    argv: Vec<*const libc::c_char>,
    shell_argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    directory: Option<CString>,
    _strings: Vec<CString>,
}

const SHELL: &CStr = c"/bin/sh";

impl Launch {
    /// Forks the child, which waits. `filter` is installed before it becomes the command.
    pub(super) fn new(command: &Command, filter: Option<&[Insn]>) -> Result<Launch, TraceError> {
        let prepared = prepare(command)?;
        let cannot = |action: &'static str| {
            let command = command.name();
            move |source: io::Error| TraceError::Start { command, action, source }
        };
        let (go_read, go_write) = io::pipe().map_err(cannot("make a pipe to it"))?;
        let (failed_read, failed_write) = io::pipe().map_err(cannot("make a pipe from it"))?;
        // SAFETY: the child runs `child`, which only makes system calls on memory that was prepared before, and never
        // returns.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            child(&prepared, filter, go_read.as_raw_fd(), go_write.as_raw_fd(), failed_write.as_raw_fd());
        }
        let pid = u32::try_from(pid).map_err(|_| cannot("fork")(io::Error::last_os_error()))?;
        Ok(Launch { pid, go: Some(go_write), failed: failed_read })
    }

    /// Lets the child go; it is followed now.
    pub(super) fn go(&mut self) -> io::Result<()> {
        match self.go.take() {
            Some(mut go) => io::Write::write_all(&mut go, &[1]),
            None => Ok(()),
        }
    }

    /// Whether it has been let go.
    pub(super) fn gone(&self) -> bool {
        self.go.is_none()
    }

    /// What kept the child, which has ended, from becoming the command.
    pub(super) fn failure(&self) -> Option<(Stage, io::Error)> {
        let mut message = [0; 8];
        if super::sys::read_all(self.failed.as_fd(), &mut message) != message.len() {
            return None;
        }
        let [stage @ .., e0, e1, e2, e3] = message;
        let stage = match stage {
            [1, ..] => Stage::Filter,
            [2, ..] => Stage::Directory,
            _ => Stage::Exec,
        };
        Some((stage, io::Error::from_raw_os_error(i32::from_ne_bytes([e0, e1, e2, e3]))))
    }
}

fn prepare(command: &Command) -> Result<Prepared, TraceError> {
    let c_string = |text: &OsStr| {
        CString::new(text.as_bytes()).map_err(|_| TraceError::Start {
            command: command.name(),
            action: "pass it its arguments and environment",
            source: io::Error::new(io::ErrorKind::InvalidInput, "a string contains a NUL byte"),
        })
    };
    let program = find(command)?;
    let path = c_string(program.as_os_str())?;
    let arguments = command.argv.iter().map(|text| c_string(text)).collect::<Result<Vec<_>, _>>()?;
    let environment = match &command.env {
        Some(pairs) => pairs.clone(),
        None => std::env::vars_os().collect(),
    };
    let environment = environment
        .iter()
        .map(|(name, value)| {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            c_string(&pair)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let argv = pointers(&arguments);
    let shell_argv = [SHELL.as_ptr(), path.as_ptr()].into_iter().chain(argv.iter().skip(1).copied()).collect();
    let envp = pointers(&environment);
    let directory = command.directory.as_deref().map(|dir| c_string(dir.as_os_str())).transpose()?;
    // The strings' bytes stay where they are when the vectors and `path` move.
    let strings = arguments.into_iter().chain(environment).collect();
    Ok(Prepared { path, argv, shell_argv, envp, directory, _strings: strings })
}

/// The file that a command's first word means: itself when it has a slash, else the first executable of that name in
/// `PATH`.
fn find(command: &Command) -> Result<PathBuf, TraceError> {
    let missing =
        |errno: i32| TraceError::Exec { command: command.name(), source: io::Error::from_raw_os_error(errno) };
    let Some(name) = command.argv.first() else { return Err(missing(libc::EINVAL)) };
    if name.is_empty() {
        return Err(missing(libc::ENOENT));
    }
    if name.as_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let path = match &command.env {
        Some(pairs) => pairs.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone()),
        None => std::env::var_os("PATH"),
    };
    let path = path.unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut errno = libc::ENOENT;
    for directory in std::env::split_paths(&path) {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        let file = directory.join(name);
        if !std::fs::metadata(&file).is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        let Ok(c_path) = CString::new(file.as_os_str().as_bytes()) else { continue };
        // SAFETY: `c_path` is a string with its NUL.
        if unsafe { libc::access(c_path.as_ptr(), libc::X_OK) } == 0 {
            return Ok(file);
        }
        errno = libc::EACCES;
    }
    Err(missing(errno))
}

/// What the forked child does. Only system calls here, no allocation, no lock, no panic.
fn child(prepared: &Prepared, filter: Option<&[Insn]>, go_read: i32, go_write: i32, failed: i32) -> ! {
    // SAFETY: every pointer is to memory of `prepared`, `filter` or this frame, which live until the exec; each string and
    // list ends as the kernel wants it (`prepare`); the descriptors are this process's own copies.
    unsafe {
        // As `std::process` does: Rust ignores SIGPIPE, and a mask would be inherited.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());

        // Without its own copy of the writing end the pipe ends when the parent does.
        libc::close(go_write);
        let mut byte = 0u8;
        loop {
            match libc::read(go_read, (&raw mut byte).cast(), 1) {
                1 => break,
                -1 if *libc::__errno_location() == libc::EINTR => {}
                _ => libc::_exit(127),
            }
        }
        if let Some(directory) = &prepared.directory
            && libc::chdir(directory.as_ptr()) != 0
        {
            give_up(failed, 2);
        }
        if let Some(filter) = filter {
            // At most 4096 instructions, see the filter module.
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut().cast() };
            let install = || libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program);
            if install() != 0 {
                let refused = *libc::__errno_location();
                if refused != libc::EACCES || libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || install() != 0
                {
                    give_up(failed, 1);
                }
            }
        }
        libc::execve(prepared.path.as_ptr(), prepared.argv.as_ptr(), prepared.envp.as_ptr());
        if *libc::__errno_location() == libc::ENOEXEC {
            // A script without `#!`, as execvp(3) has it.
            libc::execve(SHELL.as_ptr(), prepared.shell_argv.as_ptr(), prepared.envp.as_ptr());
        }
        give_up(failed, 3)
    }
}

/// Tells the parent what failed, and ends.
fn give_up(failed: i32, stage: u8) -> ! {
    // SAFETY: errno is this thread's own; `message` is as long as said; _exit does not return.
    unsafe {
        let errno = (*libc::__errno_location()).to_ne_bytes();
        let message = [stage, 0, 0, 0, errno[0], errno[1], errno[2], errno[3]];
        libc::write(failed, message.as_ptr().cast(), message.len());
        libc::_exit(127)
    }
}
