//! `cargo xtask guest`: arguments to calls of [`super::Guest`].
//!
//! The exit code is the command's own. When there is none: 124 after the time limit, 125 for anything else
//! that kept the command from being run to its end (a panic, no such kernel, ...); 2 for wrong usage.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::{Accel, Guest, GuestError, KERNELS, Kernel};

/// The arguments of `cargo xtask guest`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kernel to boot: 6.1, 6.12 or 7.2
    #[arg(long, value_name = "VERSION", required_unless_present = "prepare", value_parser = parse_kernel)]
    kernel: Option<Kernel>,

    /// Memory in MiB [default: 512, and what the files take]
    #[arg(long, value_name = "MB")]
    memory: Option<u64>,

    /// Processors
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,

    /// Give up after this many seconds, boot included
    #[arg(long, value_name = "S", default_value_t = 120)]
    timeout: u64,

    /// Pass a file, with the shared libraries it needs; a program goes to /bin, another file to /root
    #[arg(long = "file", value_name = "HOSTPATH[:GUESTPATH]")]
    files: Vec<OsString>,

    /// Pass a directory; it goes to /root/NAME
    #[arg(long = "dir", value_name = "HOSTDIR[:GUESTDIR]")]
    dirs: Vec<OsString>,

    /// Set an environment variable for the command
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<OsString>,

    /// What to run on [default: kvm where it has been seen to work, else tcg]
    #[arg(long, value_name = "kvm|tcg", value_parser = parse_accel)]
    accel: Option<Accel>,

    /// QEMU's processor model [default: one that the kernel is known to run on]
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,

    /// More words for the kernel's command line
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    kernel_args: Option<String>,

    /// Say on standard error how long it took, and show the kernel's warnings
    #[arg(long, short)]
    verbose: bool,

    /// Fetch all kernels (or the one of --kernel) and exit
    #[arg(long, conflicts_with = "command")]
    prepare: bool,

    /// With --prepare: look for newer packages
    #[arg(long, requires = "prepare")]
    refresh: bool,

    /// The command and its arguments
    #[arg(last = true, value_name = "CMD", required_unless_present = "prepare")]
    command: Vec<OsString>,
}

/// Runs the subcommand; problems go to standard error.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("xtask guest: {error}");
            ExitCode::from(if matches!(error, GuestError::Timeout { .. }) { 124 } else { 125 })
        }
    }
}

fn run(args: &Args) -> Result<i32, GuestError> {
    if args.prepare {
        let kernels = args.kernel.as_ref().map_or(KERNELS, std::slice::from_ref);
        for line in super::prepare(kernels, args.refresh)? {
            println!("{line}");
        }
        return Ok(0);
    }
    let kernel = args.kernel.ok_or_else(|| anyhow::anyhow!("no --kernel"))?;
    let mut guest = Guest::new(kernel.series)?.cpus(args.cpus).timeout(Duration::from_secs(args.timeout));
    if let Some(mib) = args.memory {
        guest = guest.memory_mib(mib);
    }
    if let Some(accel) = args.accel {
        guest = guest.accel(accel);
    }
    if let Some(model) = &args.cpu {
        guest = guest.cpu(model);
    }
    if let Some(words) = &args.kernel_args {
        guest = guest.kernel_args(words);
    }
    for argument in &args.files {
        let (host, place) = split_place(argument);
        guest = guest.file(host, place.as_deref())?;
    }
    for argument in &args.dirs {
        let (host, place) = split_place(argument);
        guest = guest.dir(host, place.as_deref())?;
    }
    for pair in &args.environment {
        let (name, value) = split_at_byte(pair, b'=', false)
            .ok_or_else(|| anyhow::anyhow!("--env {}: not NAME=VALUE", pair.display()))?;
        guest = guest.env(name, value);
    }
    let output = guest.run(&args.command, &mut std::io::stdout(), &mut std::io::stderr())?;
    if args.verbose {
        eprint!("{}", output.kernel_log);
        eprintln!(
            "xtask guest: {} on {}: command after {:.1} s, end after {:.1} s",
            kernel.series,
            output.accel.name(),
            output.boot.as_secs_f64(),
            output.total.as_secs_f64()
        );
    }
    Ok(output.status)
}

fn parse_kernel(text: &str) -> Result<Kernel, String> {
    KERNELS.iter().find(|kernel| kernel.series == text).copied().ok_or_else(|| {
        let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.series).collect();
        format!("there are {}", known.join(", "))
    })
}

fn parse_accel(text: &str) -> Result<Accel, String> {
    [Accel::Kvm, Accel::Tcg].into_iter().find(|accel| accel.name() == text).ok_or_else(|| "kvm or tcg".to_owned())
}

/// `HOST:GUEST` where GUEST is absolute; a colon otherwise belongs to the host's path.
fn split_place(argument: &OsStr) -> (PathBuf, Option<PathBuf>) {
    match split_at_byte(argument, b':', true) {
        Some((host, guest)) if Path::new(&guest).is_absolute() => (PathBuf::from(host), Some(PathBuf::from(guest))),
        _ => (PathBuf::from(argument), None),
    }
}

fn split_at_byte(text: &OsStr, byte: u8, last: bool) -> Option<(OsString, OsString)> {
    let bytes = text.as_bytes();
    let at = if last { bytes.iter().rposition(|&b| b == byte) } else { bytes.iter().position(|&b| b == byte) }?;
    Some((OsString::from_vec(bytes[..at].to_vec()), OsString::from_vec(bytes[at + 1..].to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_guest_is_absolute() {
        let split = |text: &str| split_place(OsStr::new(text));
        assert_eq!(split("a:/b"), (PathBuf::from("a"), Some(PathBuf::from("/b"))));
        assert_eq!(split("a:b"), (PathBuf::from("a:b"), None));
        assert_eq!(split("/x/a:b:/c"), (PathBuf::from("/x/a:b"), Some(PathBuf::from("/c"))));
    }
}
