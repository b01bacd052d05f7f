//! One boot: a machine is started, its three serial ports are read, and it is always gone at the end.
//!
//! The guest's side of the protocol stands in `init.sh`. Output streams are bytes followed by a mark that
//! nobody can guess; what comes after the mark (from processes that the command left behind) is dropped.
//!
//! Limits: the kernel log is read from the console's file only when it is needed, its last 256 KiB.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::{Accel, GuestError};

/// How often the machine is looked at while nothing is reported.
const TICK: Duration = Duration::from_millis(50);
/// What the guest gets to power off once everything has been handed over.
const GRACE: Duration = Duration::from_secs(10);
const LOG_BYTES: u64 = 256 << 10;

/// The hardware and the kernel to boot. All paths are absolute.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) accel: Accel,
    pub(crate) cpu: &'a str,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) vmlinuz: &'a Path,
    pub(crate) initrd: &'a Path,
    pub(crate) cmdline: &'a str,
    /// An empty directory for sockets and the console's file.
    pub(crate) dir: &'a Path,
    /// What the guest writes behind each output stream.
    pub(crate) mark: &'a [u8],
    /// Counted from the start of QEMU.
    pub(crate) timeout: Duration,
}

/// How a command in a guest ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) boot: Duration,
    pub(crate) total: Duration,
    pub(crate) kernel_log: String,
}

enum Event {
    Started,
    Exit(i32),
    /// A stream came to its mark.
    Marked,
    /// Our own output could not be written; the run makes no sense any more.
    Broken(io::Error),
}

/// Boots, passes the command's output on as it comes, and waits for the end.
pub(crate) fn boot<'a>(
    machine: &Machine<'_>,
    stdout: &'a mut (dyn Write + Send),
    stderr: &'a mut (dyn Write + Send),
) -> Result<Ended, GuestError> {
    // Addressed through the open directory: a socket's path may have 108 bytes only.
    let dir = File::open(machine.dir)?;
    let listen = |name: &str| {
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))?;
        listener.set_nonblocking(true)?;
        io::Result::Ok(listener)
    };
    let listeners = [listen("out.sock")?, listen("err.sock")?, listen("ctl.sock")?];

    let started = Instant::now();
    let mut vm = Vm::start(machine)?;
    let [out, err, ctl] = vm.connect(&listeners)?;
    let answer = ctl.try_clone()?;

    thread::scope(|scope| {
        // Dropped before the threads are waited for: without QEMU their streams end.
        let mut vm = vm;
        let (events, inbox) = mpsc::channel();
        let copies = [(out, stdout, events.clone()), (err, stderr, events.clone())];
        let copies = copies.map(|(from, to, events)| scope.spawn(move || copy(from, to, machine.mark, &events)));
        scope.spawn(move || control(ctl, &events));

        let deadline = started + machine.timeout;
        let (mut boot, mut status, mut marked) = (None, None, 0);
        while status.is_none() || marked < 2 {
            match inbox.recv_timeout(TICK) {
                Ok(Event::Started) => boot = Some(started.elapsed()),
                Ok(Event::Exit(code)) => status = Some(code),
                Ok(Event::Marked) => marked += 1,
                Ok(Event::Broken(error)) => return Err(GuestError::Output(error)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    vm.check_alive(status)?;
                    if Instant::now() >= deadline {
                        let after = machine.timeout;
                        let kernel_log = kernel_log(machine.dir);
                        return Err(GuestError::Timeout { after, started: boot.is_some(), kernel_log });
                    }
                }
            }
        }
        let total = started.elapsed();
        let _ = (&answer).write_all(b"bye\n");
        vm.wait(GRACE)?;
        drop(vm);
        // A program may well have been the cause of what happens when it is gone.
        let kernel_log = kernel_log(machine.dir);
        if panicked(&kernel_log) {
            return Err(GuestError::Panic { status, kernel_log });
        }
        for copy in copies {
            if let Ok(Err(error)) = copy.join() {
                return Err(GuestError::Output(error));
            }
        }
        Ok(Ended { status: status.unwrap_or_default(), boot: boot.unwrap_or(total), total, kernel_log })
    })
}

/// A running QEMU; killed (by its own process id) and reaped when dropped.
struct Vm<'a> {
    child: Child,
    dir: &'a Path,
    panicked_since: Option<Instant>,
}

impl<'a> Vm<'a> {
    fn start(machine: &Machine<'a>) -> Result<Self, GuestError> {
        let stderr_path = machine.dir.join("qemu.err");
        // If this process is killed, the kernel ends QEMU as well.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        // One translator thread takes turns between the processors. With a thread each, a processor has been
        // seen to run a stale breakpoint of code that another had just patched (static keys, ftrace, kprobes),
        // once in some fifty boots: an oops in the middle of an instruction.
        let accel = match machine.accel {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg,thread=single",
        };
        command.args(["-machine", "q35", "-accel", accel, "-cpu", machine.cpu]);
        command.args(["-smp", &machine.cpus.to_string(), "-m", &machine.memory_mib.to_string()]);
        command.arg("-kernel").arg(machine.vmlinuz).arg("-initrd").arg(machine.initrd);
        command.args(["-append", machine.cmdline]);
        command.args(["-chardev", "file,id=console,path=console.log", "-serial", "chardev:console"]);
        command.args(["-device", "virtio-serial-pci,max_ports=4"]);
        for name in ["out", "err", "ctl"] {
            command.args(["-chardev", &format!("socket,id={name},path={name}.sock")]);
            command.args(["-device", &format!("virtserialport,chardev={name},name=skep.{name}")]);
        }
        let child = command
            .current_dir(machine.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(stderr_path)?)
            .spawn()
            .map_err(|cause| GuestError::Qemu(format!("start setpriv (package util-linux): {cause}")))?;
        Ok(Self { child, dir: machine.dir, panicked_since: None })
    }

    /// Waits until QEMU, which connects before it boots, has opened all three ports.
    fn connect(&mut self, listeners: &[UnixListener; 3]) -> Result<[UnixStream; 3], GuestError> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut accept = |listener: &UnixListener| loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(status) = self.child.try_wait()? {
                        return Err(GuestError::Qemu(self.complaint(status)));
                    }
                    if Instant::now() >= deadline {
                        return Err(GuestError::Qemu("QEMU has not opened its ports within 60 s".to_owned()));
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error.into()),
            }
        };
        let [out, err, ctl] = listeners;
        Ok([accept(out)?, accept(err)?, accept(ctl)?])
    }

    /// An error when the machine is gone, or its kernel has panicked, before the command's end was told.
    fn check_alive(&mut self, status: Option<i32>) -> Result<(), GuestError> {
        if let Some(ended) = self.child.try_wait()? {
            let kernel_log = kernel_log(self.dir);
            if panicked(&kernel_log) {
                return Err(GuestError::Panic { status, kernel_log });
            }
            return Err(GuestError::Gone { qemu: self.complaint(ended), kernel_log });
        }
        // A panic restarts the machine, which ends QEMU; but a panic may also stick before that.
        let kernel_log = kernel_log(self.dir);
        if panicked(&kernel_log) {
            let since = *self.panicked_since.get_or_insert_with(Instant::now);
            if since.elapsed() > Duration::from_secs(5) {
                return Err(GuestError::Panic { status, kernel_log });
            }
        }
        Ok(())
    }

    /// Waits for QEMU's own end, and makes one after `patience`.
    fn wait(&mut self, patience: Duration) -> Result<(), GuestError> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn complaint(&self, status: ExitStatus) -> String {
        let said = fs::read_to_string(self.dir.join("qemu.err")).unwrap_or_default();
        format!("QEMU ended with {status}: {}", said.trim())
    }
}

impl Drop for Vm<'_> {
    fn drop(&mut self) {
        // Already reaped: both calls do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reports "start" and "exit N".
fn control(mut ctl: UnixStream, events: &Sender<Event>) {
    let (mut line, mut byte) = (Vec::new(), [0]);
    // A line has at most a few bytes, so one at a time is no waste.
    while matches!(ctl.read(&mut byte), Ok(1)) && line.len() < 64 {
        if byte[0] != b'\n' {
            line.push(byte[0]);
            continue;
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        if text == "start" {
            let _ = events.send(Event::Started);
        } else if let Some(code) = text.strip_prefix("exit ").and_then(|code| code.parse().ok()) {
            let _ = events.send(Event::Exit(code));
        }
        line.clear();
    }
}

/// Passes a stream on up to its mark, and reads it empty after that.
fn copy(mut from: UnixStream, to: &mut (dyn Write + Send), mark: &[u8], events: &Sender<Event>) -> io::Result<()> {
    let mut finder = MarkFinder::new(mark);
    let (mut buffer, mut clear) = (vec![0; 64 << 10], Vec::new());
    let mut broken = |error: io::Error| {
        let copy = io::Error::new(error.kind(), error.to_string());
        let _ = events.send(Event::Broken(error));
        copy
    };
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        if finder.found {
            continue;
        }
        clear.clear();
        finder.push(&buffer[..read], &mut clear);
        to.write_all(&clear).and_then(|()| to.flush()).map_err(&mut broken)?;
        if finder.found {
            let _ = events.send(Event::Marked);
        }
    }
    if !finder.found {
        to.write_all(finder.held()).and_then(|()| to.flush()).map_err(&mut broken)?;
    }
    Ok(())
}

/// Tells a stream from the mark behind it, wherever reads cut it (Knuth, Morris, Pratt).
struct MarkFinder<'a> {
    mark: &'a [u8],
    /// For each length matched: the next shorter one that may still go on.
    shorter: Vec<usize>,
    matched: usize,
    found: bool,
}

impl<'a> MarkFinder<'a> {
    fn new(mark: &'a [u8]) -> Self {
        let mut shorter = vec![0; mark.len()];
        let mut length = 0;
        for at in 1..mark.len() {
            while length > 0 && mark[at] != mark[length] {
                length = shorter[length - 1];
            }
            if mark[at] == mark[length] {
                length += 1;
            }
            shorter[at] = length;
        }
        Self { mark, shorter, matched: 0, found: false }
    }

    /// Appends to `clear` what is certainly not part of the mark.
    fn push(&mut self, bytes: &[u8], clear: &mut Vec<u8>) {
        for &byte in bytes {
            while self.matched > 0 && self.mark[self.matched] != byte {
                let next = self.shorter[self.matched - 1];
                clear.extend_from_slice(&self.mark[..self.matched - next]);
                self.matched = next;
            }
            if self.mark[self.matched] == byte {
                self.matched += 1;
            } else {
                clear.push(byte);
            }
            if self.matched == self.mark.len() {
                self.found = true;
                return;
            }
        }
    }

    /// The bytes held back as the possible start of a mark.
    fn held(&self) -> &[u8] {
        &self.mark[..self.matched]
    }
}

fn panicked(kernel_log: &str) -> bool {
    kernel_log.contains("Kernel panic - not syncing")
}

fn kernel_log(dir: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(console(dir))?;
        let start = file.metadata()?.len().saturating_sub(LOG_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).replace('\r', "")
}

fn console(dir: &Path) -> PathBuf {
    dir.join("console.log")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(mark: &[u8], stream: &[u8], chunk: usize) -> (Vec<u8>, bool) {
        let mut finder = MarkFinder::new(mark);
        let mut clear = Vec::new();
        for part in stream.chunks(chunk) {
            if !finder.found {
                finder.push(part, &mut clear);
            }
        }
        if !finder.found {
            clear.extend_from_slice(finder.held());
        }
        (clear, finder.found)
    }

    #[test]
    fn the_mark_is_found_wherever_reads_cut() {
        for chunk in 1..20 {
            assert_eq!(split(b"aab", b"xaaaabrest", chunk), (b"xaa".to_vec(), true));
            assert_eq!(split(b"aab", b"aaba", chunk), (b"".to_vec(), true));
            assert_eq!(split(b"abab!", b"ababab-abab", chunk), (b"ababab-abab".to_vec(), false));
            assert_eq!(split(b"abab!", b"ababab!", chunk), (b"ab".to_vec(), true));
            assert_eq!(split(b"mark", b"", chunk), (b"".to_vec(), false));
        }
    }
}
