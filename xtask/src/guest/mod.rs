//! A command line to its run under one of Debian's kernels: `cargo xtask guest --kernel 6.1 -- uname -r`.
//!
//! The kernel is Debian's cloud kernel package of a suite ([`KERNELS`]), fetched through a private apt and
//! never installed; QEMU boots it with a small file system of busybox, kernel modules and the files passed.
//! Standard output, standard error and the exit code of the command come through unchanged.
//!
//! ```no_run
//! use xtask::guest::Guest;
//!
//! let output = Guest::new("6.12")?.file("/usr/sbin/bpftool", None)?.output(["bpftool", "prog"])?;
//! assert_eq!(output.status, 0);
//! # Ok::<(), xtask::guest::GuestError>(())
//! ```
//!
//! In the guest: the command runs as root in /root, standard input is empty, /proc, /sys, /dev, /tmp, /run and
//! /sys/fs/cgroup (cgroup2) are mounted, `lo` is up, `skep` is at /bin/skep if it was built. tracefs and bpffs
//! are not mounted. Busybox gives the shell and the usual commands; its `ip` knows little (no peer names), so pass
//! the host's where more is needed. The kernel's command line has `lsm=capability,bpf`, so that BPF LSM programs work.
//!
//! | module | turns what into what |
//! |---|---|
//! | `sources` | the machine's apt sources -> a source for other suites |
//! | `apt` | suites -> packages |
//! | `image` | packages -> kernel and base initramfs, cached |
//! | `payload` | files of the host -> the rest of the initramfs |
//! | `qemu` | kernel, initramfs -> output and exit code |
//! | `cpio` | files -> archive |
//!
//! Limits: amd64; a guest has no network but `lo` and what the command makes; no disk; a run is given up after
//! a time limit (120 s unless told otherwise). Output that [`Guest::output`] collects is limited to 64 MiB.

mod apt;
pub mod cli;
mod cpio;
mod image;
mod payload;
mod qemu;
mod sources;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;

use image::{Image, Lock};
use payload::Payload;

/// A kernel that guests can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kernel {
    /// The version to ask for, as in `--kernel 6.12`.
    pub series: &'static str,
    /// Suites of Debian's archive that have it; the newest package in them is taken.
    suites: &'static [&'static str],
    /// QEMU's `-cpu` without hardware acceleration.
    tcg_cpu: &'static str,
}

/// The kernels on offer. A series that a suite has left is still found in the backports for a while.
pub const KERNELS: &[Kernel] = &[
    Kernel { series: "6.1", suites: &["bookworm"], tcg_cpu: TCG_CPU },
    Kernel { series: "6.12", suites: &["trixie", "bookworm-backports"], tcg_cpu: TCG_CPU },
    Kernel { series: "7.2", suites: &["sid", "trixie-backports"], tcg_cpu: TCG_CPU },
];

/// The plain model for all: 6.12 has been seen to panic in BPF work with `-cpu max`, and was clean without
/// 16-byte compare-and-exchange. RDRAND lets the kernel's random numbers be ready at once; without it
/// getrandom(2) blocks for the first seconds.
const TCG_CPU: &str = "qemu64,cx16=off,rdrand=on";

/// What every guest boots with. `oops=panic`, `panic=-1`: an oops ends the run and is reported, instead of
/// leaving it to its time limit. `mitigations=off`: a quarter less to wait for under emulation.
const CMDLINE: &str = "console=ttyS0 quiet oops=panic panic=-1 lsm=capability,bpf mitigations=off \
                       cryptomgr.notests random.trust_cpu=on random.trust_bootloader=on";

/// What [`Guest::output`] collects of each stream at most.
const MAX_OUTPUT: usize = 64 << 20;
/// How long a kernel under KVM gets to show that it boots, once per kernel (about 1 s where it works).
const KVM_PROBE: Duration = Duration::from_secs(10);

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The processor, by /dev/kvm.
    Kvm,
    /// QEMU's translator: slower, works everywhere.
    Tcg,
}

impl Accel {
    /// QEMU's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// What a command in a guest left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunOutput {
    /// The exit code; 128 + N when signal N ended the command, 127 when there is no such command.
    pub status: i32,
    /// Standard output, byte for byte; empty when it was passed on elsewhere.
    pub stdout: Vec<u8>,
    /// Standard error, byte for byte; empty when it was passed on elsewhere.
    pub stderr: Vec<u8>,
    /// What the kernel wrote to its console: warnings and worse, since it boots with `quiet`.
    pub kernel_log: String,
    /// From the start of QEMU to the start of the command.
    pub boot: Duration,
    /// From the start of QEMU to the end of the command and its output.
    pub total: Duration,
    /// What the guest ran on.
    pub accel: Accel,
}

/// Why a command could not be run to its end in a guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// The guest's kernel panicked, or had an oops, which is made into a panic.
    #[error("the guest's kernel panicked{}\n{}", after_exit(*status), tail(kernel_log, 60))]
    Panic {
        /// The command's exit code, when the panic came after its end.
        status: Option<i32>,
        /// The console's content.
        kernel_log: String,
    },
    /// The time limit was reached.
    #[error(
        "the guest was given up after {after:?}: {}; a longer limit is set with --timeout\n{}",
        if *started { "the command was still running" } else { "the command had not been started" },
        tail(kernel_log, 20)
    )]
    Timeout {
        /// The limit.
        after: Duration,
        /// Whether the command had been started by then.
        started: bool,
        /// The console's content.
        kernel_log: String,
    },
    /// The machine went away without panic before the command's end was known (the command may have powered it off).
    #[error("the guest went away before the command's end was known: {qemu}\n{}", tail(kernel_log, 20))]
    Gone {
        /// QEMU's exit status and messages.
        qemu: String,
        /// The console's content.
        kernel_log: String,
    },
    /// QEMU could not be started.
    #[error("start QEMU: {0}\nIt is in the Debian package qemu-system-x86")]
    Qemu(String),
    /// The command's output could not be passed on.
    #[error("pass the guest's output on: {0}")]
    Output(#[source] io::Error),
    /// A file or process of this machine.
    #[error("run a guest: {0}")]
    Io(#[from] io::Error),
    /// No kernel, no busybox, a file that cannot be passed, ...
    #[error("{0:#}")]
    Setup(#[from] anyhow::Error),
}

fn after_exit(status: Option<i32>) -> String {
    status.map_or_else(String::new, |code| format!(" after the command had ended with {code}"))
}

fn tail(kernel_log: &str, lines: usize) -> String {
    let all: Vec<&str> = kernel_log.lines().collect();
    let from = all.len().saturating_sub(lines);
    let shown = all[from..].iter().map(|line| format!("  | {line}\n")).collect::<String>();
    if shown.is_empty() { "the kernel log is empty".to_owned() } else { format!("end of the kernel log:\n{shown}") }
}

/// A guest to be: a kernel, what it gets to see, and its limits. Each run boots afresh.
#[derive(Debug)]
pub struct Guest {
    kernel: Kernel,
    cache: PathBuf,
    payload: Payload,
    environment: Vec<(OsString, OsString)>,
    memory_mib: Option<u64>,
    cpus: u32,
    timeout: Duration,
    accel: Option<Accel>,
    cpu: Option<String>,
    cmdline: String,
}

impl Guest {
    /// A guest with a kernel of [`KERNELS`], and `skep` in it if that has been built.
    ///
    /// # Errors
    /// When there is no such kernel, or `$SKEP_BIN` names no program.
    pub fn new(series: &str) -> Result<Self, GuestError> {
        let kernel = KERNELS.iter().find(|kernel| kernel.series == series).with_context(|| {
            let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.series).collect();
            format!("there is no guest kernel {series}; there are {}", known.join(", "))
        })?;
        let mut guest = Self {
            kernel: *kernel,
            cache: cache_dir(),
            payload: Payload::default(),
            environment: Vec::new(),
            memory_mib: None,
            cpus: 2,
            timeout: Duration::from_secs(120),
            accel: None,
            cpu: None,
            cmdline: CMDLINE.to_owned(),
        };
        if let Some(skep) = skep_binary() {
            guest.payload.add_file(&skep, Some(Path::new("/bin/skep")))?;
        }
        Ok(guest)
    }

    /// Passes a file of the host, with the shared libraries it needs. Without a place in the guest, a program
    /// goes to /bin and anything else to /root, where commands start.
    ///
    /// # Errors
    /// When the file cannot be read, one of its libraries is missing, or the guest path is not absolute.
    pub fn file(mut self, host: impl AsRef<Path>, guest: Option<&Path>) -> Result<Self, GuestError> {
        self.payload.add_file(host.as_ref(), guest)?;
        Ok(self)
    }

    /// Passes a directory of the host with all it holds; without a place in the guest, to /root/NAME.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn dir(mut self, host: impl AsRef<Path>, guest: Option<&Path>) -> Result<Self, GuestError> {
        self.payload.add_dir(host.as_ref(), guest)?;
        Ok(self)
    }

    /// Sets an environment variable for the command, which gets HOME, PATH and LANG otherwise.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Memory of the guest; unless set, 512 MiB and what the passed files take.
    #[must_use]
    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.memory_mib = Some(mib);
        self
    }

    /// Processors of the guest; 2 unless set.
    #[must_use]
    pub fn cpus(mut self, count: u32) -> Self {
        self.cpus = count;
        self
    }

    /// How long boot and command may take together; 120 s unless set.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Insists on an accelerator. Unless set: KVM where this kernel has been seen to boot with it, else TCG.
    #[must_use]
    pub fn accel(mut self, accel: Accel) -> Self {
        self.accel = Some(accel);
        self
    }

    /// QEMU's `-cpu`; unless set, the machine's own under KVM, and under TCG what this kernel is known to run on.
    #[must_use]
    pub fn cpu(mut self, model: &str) -> Self {
        self.cpu = Some(model.to_owned());
        self
    }

    /// Adds words to the kernel's command line.
    #[must_use]
    pub fn kernel_args(mut self, words: &str) -> Self {
        self.cmdline.push(' ');
        self.cmdline.push_str(words);
        self
    }

    /// Runs a command (program and arguments) and collects its output.
    ///
    /// # Errors
    /// When the command could not be run to its end; its own failure is [`RunOutput::status`].
    pub fn output<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Result<RunOutput, GuestError> {
        let (mut stdout, mut stderr) = (Collected::default(), Collected::default());
        let output = self.run(command, &mut stdout, &mut stderr)?;
        Ok(RunOutput { stdout: stdout.bytes, stderr: stderr.bytes, ..output })
    }

    /// Runs a command (program and arguments) and passes its output on while it runs.
    ///
    /// # Errors
    /// As [`Self::output`], and when the output cannot be written.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        command: impl IntoIterator<Item = S>,
        stdout: &mut (dyn Write + Send),
        stderr: &mut (dyn Write + Send),
    ) -> Result<RunOutput, GuestError> {
        let script = self.command_script(command)?;
        let lock = Lock::take(&self.cache)?;
        let image = image::prepare(&self.cache, &self.kernel, false, &lock)?;
        let accel = self.accel.map_or_else(|| self.probe(&image), Ok)?;
        drop(lock);
        self.boot(&image, accel, &script, self.timeout, stdout, stderr)
    }

    fn boot(
        &self,
        image: &Image,
        accel: Accel,
        script: &[u8],
        timeout: Duration,
        stdout: &mut (dyn Write + Send),
        stderr: &mut (dyn Write + Send),
    ) -> Result<RunOutput, GuestError> {
        let dir = RunDir::create(&self.cache)?;
        let mark = random_mark()?;
        let initrd = dir.path.join("initrd");
        let size = self.write_initrd(image, &initrd, script, &mark)?;
        // The archive and what is unpacked from it are there at the same time.
        let memory_mib = self.memory_mib.unwrap_or(512 + 2 * (size >> 20));
        let ended = qemu::boot(
            &qemu::Machine {
                accel,
                cpu: self.cpu.as_deref().unwrap_or(if accel == Accel::Kvm { "host" } else { self.kernel.tcg_cpu }),
                cpus: self.cpus,
                memory_mib,
                vmlinuz: &image.vmlinuz,
                initrd: &initrd,
                cmdline: &self.cmdline,
                dir: &dir.path,
                mark: mark.as_bytes(),
                timeout,
            },
            stdout,
            stderr,
        )?;
        Ok(RunOutput {
            status: ended.status,
            stdout: Vec::new(),
            stderr: Vec::new(),
            kernel_log: ended.kernel_log,
            boot: ended.boot,
            total: ended.total,
            accel,
        })
    }

    /// The base image with the files of this run behind it; gives the size in bytes.
    fn write_initrd(&self, image: &Image, path: &Path, script: &[u8], mark: &str) -> Result<u64, GuestError> {
        let mut own = Payload::default();
        own.add_bytes(Path::new("/skep/command"), script.to_vec())?;
        own.add_bytes(Path::new("/skep/settings"), format!("MARK={mark}\n").into_bytes())?;
        let mut out = File::create(path)?;
        io::copy(&mut File::open(&image.base)?, &mut out)?;
        own.write(&mut out, image.directories.clone())?;
        self.payload.write(&mut out, image.directories.clone())?;
        Ok(out.metadata()?.len())
    }

    /// The shell script that becomes the command: every word is quoted, so that it arrives as it is.
    fn command_script<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Result<Vec<u8>, GuestError> {
        let mut script = b"export HOME=/root LANG=C.UTF-8\n".to_vec();
        let library_dirs: Vec<_> = self.payload.library_dirs().map(|dir| dir.as_os_str().as_bytes()).collect();
        if !library_dirs.is_empty() {
            script.extend_from_slice(b"export LD_LIBRARY_PATH=");
            script.extend(quoted(&library_dirs.join(&b':')));
            script.push(b'\n');
        }
        for (name, value) in &self.environment {
            let name = name.to_str().filter(|name| is_variable(name));
            let name = name.context("an environment variable's name has only letters, digits and _")?;
            script.extend_from_slice(format!("export {name}=").as_bytes());
            script.extend(quoted(value.as_bytes()));
            script.push(b'\n');
        }
        script.extend_from_slice(b"cd /root\nexec");
        let words = script.len();
        for word in command {
            if word.as_ref().as_bytes().contains(&0) {
                return Err(anyhow::anyhow!("a word of the command has a NUL byte in it").into());
            }
            script.push(b' ');
            script.extend(quoted(word.as_ref().as_bytes()));
        }
        if script.len() == words {
            return Err(anyhow::anyhow!("no command to run in the guest").into());
        }
        script.push(b'\n');
        Ok(script)
    }

    /// Whether this kernel boots under KVM on this machine: tried once with a time limit, then remembered.
    fn probe(&self, image: &Image) -> Result<Accel, GuestError> {
        if File::options().read(true).write(true).open("/dev/kvm").is_err() {
            return Ok(Accel::Tcg);
        }
        let host = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let release = image::release(&self.cache, &self.kernel).unwrap_or_default();
        let memory = self.cache.join("kvm");
        let known = fs::read_to_string(&memory).unwrap_or_default();
        // A host on which one stock kernel hangs is given up for all; a success counts for that kernel only.
        let refused = format!("host {}: tcg", host.trim());
        let works = format!("host {}, guest {release}: kvm", host.trim());
        if known.lines().any(|line| line == refused) {
            return Ok(Accel::Tcg);
        }
        if known.lines().any(|line| line == works) {
            return Ok(Accel::Kvm);
        }
        eprintln!(
            "xtask guest: trying KVM with kernel {} (once, {} s at most)",
            self.kernel.series,
            KVM_PROBE.as_secs()
        );
        let plain = Self {
            payload: Payload::default(),
            environment: Vec::new(),
            memory_mib: None,
            cpu: None,
            cmdline: CMDLINE.to_owned(),
            cache: self.cache.clone(),
            ..*self
        };
        let script = plain.command_script(["true"])?;
        let tried = plain.boot(image, Accel::Kvm, &script, KVM_PROBE, &mut io::sink(), &mut io::sink());
        let (accel, line) = match tried {
            Ok(output) if output.status == 0 => (Accel::Kvm, works),
            Ok(_) | Err(_) => (Accel::Tcg, refused),
        };
        eprintln!("xtask guest: using {} (remembered in {})", accel.name(), memory.display());
        let mut file = File::options().create(true).append(true).open(&memory)?;
        writeln!(file, "{line}")?;
        Ok(accel)
    }
}

/// Makes the images of `kernels` and finds out about KVM; with `refresh`, newer packages are looked for.
///
/// # Errors
/// When a package cannot be found or fetched.
pub fn prepare(kernels: &[Kernel], refresh: bool) -> Result<Vec<String>, GuestError> {
    let mut lines = Vec::new();
    for kernel in kernels {
        let guest = Guest::new(kernel.series)?;
        let lock = Lock::take(&guest.cache)?;
        let image = image::prepare(&guest.cache, kernel, refresh, &lock)?;
        let accel = guest.probe(&image)?;
        let release = image::release(&guest.cache, kernel).unwrap_or_default();
        lines.push(format!("{}: {release}, {}", kernel.series, accel.name()));
    }
    Ok(lines)
}

/// `$SKEP_GUEST_DIR`, for several target directories to share one cache; else target/guest.
fn cache_dir() -> PathBuf {
    match std::env::var_os("SKEP_GUEST_DIR") {
        Some(dir) if !dir.is_empty() => crate::workspace_dir().join(dir),
        _ => crate::target_dir().join("guest"),
    }
}

/// `$SKEP_BIN`, else the newer one of target/release/skep and target/debug/skep, if there is any.
fn skep_binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("SKEP_BIN") {
        return Some(PathBuf::from(path));
    }
    let built = ["release", "debug"].map(|profile| crate::target_dir().join(profile).join("skep"));
    let age = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    built.into_iter().filter(|path| path.is_file()).max_by_key(age)
}

/// A word for the shell that stands for these bytes, whatever they are.
fn quoted(word: &[u8]) -> Vec<u8> {
    let mut text = vec![b'\''];
    for &byte in word {
        if byte == b'\'' {
            text.extend_from_slice(b"'\\''");
        } else {
            text.push(byte);
        }
    }
    text.push(b'\'');
    text
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn random_mark() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Collects output up to [`MAX_OUTPUT`]; more is an error, not a cut.
#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
}

impl Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("the command wrote more than {} MiB", MAX_OUTPUT >> 20)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// target/guest/runs/PID-N, removed when dropped; those of processes that were killed go at the next run.
struct RunDir {
    path: PathBuf,
}

impl RunDir {
    fn create(cache: &Path) -> io::Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let runs = cache.join("runs");
        fs::create_dir_all(&runs)?;
        for entry in fs::read_dir(&runs)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let dead = name.split_once('-').is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists());
            if dead {
                // Another process may be doing the same.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = runs.join(format!("{}-{number}", std::process::id()));
        if path.exists() {
            // Of an earlier process with this number.
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(Self { path })
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted(b"a b"), b"'a b'");
        assert_eq!(quoted(b"it's"), b"'it'\\''s'");
        assert_eq!(quoted(b""), b"''");
        assert!(is_variable("RUST_LOG") && !is_variable("1A") && !is_variable("A=B") && !is_variable(""));
    }

    #[test]
    fn an_unknown_kernel_names_the_known() {
        let error = Guest::new("5.4").unwrap_err();
        assert!(error.to_string().contains("6.1, 6.12, 7.2"), "{error}");
    }

    #[test]
    fn the_end_of_the_kernel_log_is_shown() {
        let error =
            GuestError::Timeout { after: Duration::from_secs(3), started: true, kernel_log: "one\ntwo\n".to_owned() };
        let text = error.to_string();
        assert!(text.contains("3s: the command was still running") && text.contains("  | two\n"), "{text}");
    }
}
