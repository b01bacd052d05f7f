//! What programs print with `bpf_printk`: lines of tracefs' `trace_pipe`.
//!
//! ```
//! use skep_kernel::trace_pipe::{Line, parse};
//! let line = b"           <...>-123     [001] ...21 55.000001: bpf_trace_printk: hello";
//! let Line::Print(print) = parse(line) else { panic!() };
//! assert_eq!((print.pid, print.cpu, print.text.as_str()), (123, 1, "hello"));
//! ```
//!
//! The kernel's one trace is for everybody, and a line of it is seen by one reader alone. The first [`TracePipe`] on a machine
//! reads it, and keeps others out of it (the kernel does from 6.6 on, before that a lock); each further one has an instance of its own (a directory under tracefs' `instances`)
//! that nothing but `bpf_printk` writes to, so that several see every line. An instance takes some milliseconds to make.
//!
//! Limits: lines of all programs come along. Before 6.6, readers that know nothing of the lock (`cat trace_pipe`) and the first one
//! take lines from each other. The rest of a print with line ends in it is told from lines of other tracers by what those look
//! like. An instance holds the kernel's usual 1.4 MB for each CPU; that of a process that was killed stays until the
//! next one is made.

use crate::error::{Errno, Error, Result};
use crate::mounts::TraceFs;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes that one [`TracePipe::read`] takes at most, so that a flood of prints does not hold up its caller.
const LIMIT: usize = 1 << 20;

/// One line of `bpf_printk`.
#[derive(Clone, PartialEq, Debug)]
pub struct Print {
    /// Name of the task that ran the program. The kernel writes `<...>` for one that it has not noted; [`TracePipe::read`]
    /// then looks at the task itself, which works while it is alive.
    pub task: String,
    /// Its thread id.
    pub pid: u32,
    /// CPU.
    pub cpu: u32,
    /// Seconds since boot, by the trace clock.
    pub time_s: f64,
    /// The text.
    pub text: String,
}

/// A line of the trace.
#[derive(Clone, PartialEq, Debug)]
pub enum Line {
    /// Of `bpf_printk`.
    Print(Print),
    /// Events that found the trace buffer full.
    Lost {
        /// CPU.
        cpu: u32,
        /// How many.
        count: u64,
    },
    /// Of another tracer; from [`parse`] also the rest of a print with line ends in it.
    Other(String),
}

/// Takes a line (without its end) apart.
pub fn parse(line: &[u8]) -> Line {
    let text = String::from_utf8_lossy(line);
    print(&text).or_else(|| lost(&text)).unwrap_or_else(|| Line::Other(text.into_owned()))
}

fn print(line: &str) -> Option<Line> {
    let (before, text) = line.split_once(": bpf_trace_printk: ")?;
    // TASK-PID [TGID] [CPU] FLAGS TIME, where a task's name may contain anything.
    let (before, time) = before.trim_end().rsplit_once(' ')?;
    let open = before.rfind('[')?;
    let cpu = before.get(open + 1..)?.split(']').next()?.trim();
    let mut who = before.get(..open)?.trim();
    // The thread group, where that option is on: "( 123)" or "(-----)".
    if let Some(rest) = who.strip_suffix(')')
        && let Some((start, _)) = rest.rsplit_once('(')
    {
        who = start.trim_end();
    }
    let (task, pid) = who.rsplit_once('-')?;
    Some(Line::Print(Print {
        task: task.trim().to_owned(),
        pid: pid.parse().ok()?,
        cpu: cpu.parse().ok()?,
        time_s: time.parse().ok()?,
        text: text.to_owned(),
    }))
}

/// Whether a line is one of a tracer's own, `TASK-PID [CPU] FLAGS TIME: ...`, and not the rest of a print.
fn is_event(line: &str) -> bool {
    let Some((before, after)) = line.split_once("] ") else { return false };
    let cpu = before.rsplit_once('[').map(|(_, cpu)| cpu.trim().parse::<u32>());
    let time = after.split_whitespace().find_map(|word| word.strip_suffix(':')).map(str::parse::<f64>);
    matches!((cpu, time), (Some(Ok(_)), Some(Ok(_))))
}

/// `CPU:1 [LOST 123 EVENTS]`
fn lost(line: &str) -> Option<Line> {
    let (cpu, rest) = line.strip_prefix("CPU:")?.split_once(" [LOST ")?;
    let count = rest.split(' ').next()?;
    Some(Line::Lost { cpu: cpu.trim().parse().ok()?, count: count.parse().ok()? })
}

/// Finds the name that the kernel has not noted.
fn name(print: &mut Print) {
    if print.task == "<...>"
        && let Ok(text) = std::fs::read_to_string(format!("/proc/{}/comm", print.pid))
    {
        print.task = text.trim_end().to_owned();
    }
}

/// An open `trace_pipe`.
#[derive(Debug)]
pub struct TracePipe {
    // Dropped before the instance, which cannot be removed while it is read.
    file: File,
    /// What it is in, `None` for the common trace.
    instance: Option<Instance>,
    /// The start of a line whose end has not come yet.
    rest: Vec<u8>,
    /// The last print: where nothing else writes, a line that is none goes on with it.
    last: Option<Print>,
}

/// A trace of this process's own with only the prints of BPF programs in it. Removed when dropped.
#[derive(Debug)]
struct Instance {
    path: PathBuf,
}

impl Instance {
    /// Names end in the process and a number.
    const PREFIX: &'static str = "skep-";

    fn new(tracefs: &TraceFs) -> std::io::Result<Instance> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let all = tracefs.path("instances");
        Instance::sweep(&all);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = all.join(format!("{}{}-{number}", Instance::PREFIX, std::process::id()));
        std::fs::create_dir(&path)?;
        let instance = Instance { path };
        std::fs::write(instance.path.join("events/bpf_trace/bpf_trace_printk/enable"), "1")?;
        Ok(instance)
    }

    /// Removes those of processes that were killed. One that is read after all, by a process of another namespace, the
    /// kernel keeps.
    fn sweep(all: &Path) {
        for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix(Instance::PREFIX)?.split('-').next());
            let gone = owner
                .and_then(|pid| pid.parse::<u32>().ok())
                .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
            if gone {
                // Another process may be doing the same.
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The next one that is made tries again.
        let _ = std::fs::remove_dir(&self.path);
    }
}

impl TracePipe {
    /// Opens it. What was printed before and not read by anybody comes first if it is the common one; see [`TracePipe::discard`].
    pub fn open() -> Result<TracePipe> {
        let tracefs = TraceFs::shared()?;
        let open = |path: &Path| File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let common = open(&tracefs.path("trace_pipe"));
        // From 6.6 on the kernel lets in one reader alone; before, the lock tells skeps apart. It ends with the file.
        let is_taken = match &common {
            Ok(file) => matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)),
            Err(e) => e.raw_os_error() == Some(libc::EBUSY),
        };
        if is_taken
            && let Ok(instance) = Instance::new(tracefs)
            && let Ok(file) = open(&instance.path.join("trace_pipe"))
        {
            return Ok(TracePipe { file, instance: Some(instance), rest: Vec::new(), last: None });
        }
        let file = common.map_err(|e| {
            let error = Error::file("open", "/sys/kernel/tracing/trace_pipe", e);
            match is_taken {
                true => error.with_next("another program reads it; end that one"),
                false => error,
            }
        })?;
        Ok(TracePipe { file, instance: None, rest: Vec::new(), last: None })
    }

    /// Whether the kernel has stopped its trace, so that no line comes: it does so at an oops, and other tracers do on purpose.
    pub fn is_stopped(&self) -> bool {
        let switch = TraceFs::shared().ok().and_then(|tracefs| std::fs::read(tracefs.path("tracing_on")).ok());
        switch.is_some_and(|text| text.starts_with(b"0"))
    }

    /// Becomes readable when there are lines; newer kernels say so only when half a buffer is full, so it is also to be
    /// read from time to time.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Throws away what is waiting.
    pub fn discard(&mut self) -> Result<()> {
        self.read(|_| {}).map(drop)
    }

    /// Hands over the lines that are there and gives their number. Does not wait.
    pub fn read(&mut self, mut sink: impl FnMut(Line)) -> Result<usize> {
        let mut chunk = vec![0u8; 16 << 10];
        let (mut count, mut taken) = (0, 0);
        while taken < LIMIT {
            let len = match self.file.read(&mut chunk) {
                Ok(0) => break,
                Ok(len) => len,
                Err(e) => match Errno::of(&e).0 {
                    libc::EAGAIN | libc::EINTR => break,
                    _ => return Err(Error::file("read", "/sys/kernel/tracing/trace_pipe", e)),
                },
            };
            taken += len;
            self.rest.extend_from_slice(chunk.get(..len).unwrap_or(&[]));
            let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else { continue };
            let after = self.rest.split_off(end + 1);
            for line in self.rest.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                let mut line = parse(line);
                match (&mut line, &self.last) {
                    (Line::Print(print), _) => {
                        name(print);
                        self.last = Some(print.clone());
                    }
                    (Line::Other(text), _) if self.instance.is_none() && is_event(text) => self.last = None,
                    (Line::Other(text), Some(last)) => {
                        line = Line::Print(Print { text: std::mem::take(text), ..last.clone() });
                    }
                    _ => {}
                }
                sink(line);
                count += 1;
            }
            self.rest = after;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |line: &str, task: &str, pid, cpu, text: &str| match parse(line.as_bytes()) {
            Line::Print(p) => assert_eq!((p.task.as_str(), p.pid, p.cpu, p.text.as_str()), (task, pid, cpu, text)),
            other => panic!("{line}: {other:?}"),
        };
        check("            bash-99      [003] d..21  9876.543210: bpf_trace_printk: x: y", "bash", 99, 3, "x: y");
        check("          <idle>-0       [000] d.s2.     1.000000: bpf_trace_printk: ", "<idle>", 0, 0, "");
        check(" kworker/u8:1-ev-12345   [011] .....     2.5: bpf_trace_printk: a", "kworker/u8:1-ev", 12345, 11, "a");
        check("   my [odd] task-7 (  77) [001] .....     2.5: bpf_trace_printk: a", "my [odd] task", 7, 1, "a");
        assert_eq!(parse(b"CPU:1 [LOST 123 EVENTS]"), Line::Lost { cpu: 1, count: 123 });
        assert_eq!(parse(b"second line"), Line::Other("second line".into()));
        assert!(is_event("   bash-99      [003] d..21  9876.543210: sched_switch: prev_comm=x"));
        assert!(!is_event("second line") && !is_event("[1] a: b") && !is_event("x[2] y 3.5"));
        assert!(matches!(parse(&[0xff, 0, b':', 1]), Line::Other(_)));
    }
}
