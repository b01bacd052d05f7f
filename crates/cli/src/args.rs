//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// See, steer and guard a Linux machine with eBPF.
#[derive(Parser, Debug)]
#[command(name = "skep", version, max_term_width = 110, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Build, load and attach a BPF program, and show what it reports
    Run(Box<RunArgs>),
    /// Tell whether programs are safe, and if not why, without loading them
    Check(Box<CheckArgs>),
    /// Run raw bytecode from standard input in the embedded engine, and print its result
    Exec(ExecArgs),
    /// List the programs, maps and links that are loaded on this machine
    Ps(PsArgs),
    /// Print what a map holds, decoded by its types
    Dump(DumpArgs),
    /// Tell what this machine can run, what is missing and how to get it
    Doctor(DoctorArgs),
    /// Waits for the end of `skep run`, and takes away what the kernel would not
    #[command(hide = true, name = crate::run::sweeper::SWEEP_COMMAND)]
    Sweep {
        #[arg(required = true)]
        leftovers: Vec<skep_engine::Leftover>,
    },
    /// Waits, stopped, until `skep run` lets it go, then becomes the command
    #[command(hide = true, name = crate::run::child::WAIT_COMMAND)]
    Wait {
        /// The process that lets it go
        parent: u32,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// How results are written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One object a line
    Json,
}

/// Where programs run.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum EngineChoice {
    /// The kernel; the embedded engine where the kernel does not take the program and a command or a capture is given
    #[default]
    Auto,
    /// The running Linux kernel
    Kernel,
    /// The embedded engine, without a kernel or rights: on the system calls of a command, or on a capture
    Vm,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Where to run the programs
    #[arg(long, value_enum, default_value_t)]
    pub(crate) engine: EngineChoice,

    /// Run XDP, tc and socket filter programs over this capture (pcap or pcapng, - for standard input)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["command", "iface", "cgroup", "pid"])]
    pub(crate) packets: Option<String>,

    /// Write the packets that pass to this capture, as the programs left them (- for standard output)
    #[arg(long, value_name = "FILE", requires = "packets")]
    pub(crate) out: Option<String>,

    /// Stop after this time, such as 10s, 500ms or 2m (default: run until Ctrl-C)
    #[arg(long, short = 'd', value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,

    /// Print maps and globals this often; 0 prints them only at the end (default: 1s on a terminal, else 0)
    #[arg(long, short = 'i', value_name = "TIME", value_parser = duration)]
    pub(crate) interval: Option<Duration>,

    /// Network interface for XDP, tc and socket filter programs
    #[arg(long, value_name = "DEV")]
    pub(crate) iface: Option<String>,

    /// Cgroup (version 2) for cgroup programs, a path
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<PathBuf>,

    /// Watch this process: for uprobes and perf events, and as `target_pid` where the program has such a parameter
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,

    /// Set a constant of the program (`const volatile` global)
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = name_value)]
    pub(crate) params: Vec<(String, String)>,

    /// Load only this program of the file (may be repeated); also one in a `?` section
    #[arg(long = "prog", value_name = "NAME")]
    pub(crate) programs: Vec<String>,

    /// Decode the records of ring and perf buffers as this type, for one map or for all
    #[arg(long = "record", value_name = "[MAP=]TYPE")]
    pub(crate) records: Vec<String>,

    /// How often perf_event programs sample, per second and CPU
    #[arg(long, value_name = "HZ", default_value_t = 99, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) frequency: u64,

    /// What perf_event programs sample: a software or hardware event by its perf name
    #[arg(long, value_name = "EVENT", default_value = "cpu-clock")]
    pub(crate) event: String,

    /// Attach tc programs by the classic hook (clsact and cls_bpf) even where the kernel has tcx
    #[arg(long)]
    pub(crate) classic_tc: bool,

    /// Text or JSON, one object a line
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,

    /// Rows of a table to print; 0 prints all (JSON always has all)
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) top: usize,

    /// Pass this to clang (may be repeated), such as --cflag=-DDEBUG
    #[arg(long = "cflag", value_name = "FLAG", allow_hyphen_values = true)]
    pub(crate) cflags: Vec<OsString>,

    /// Print the verifier's whole log when it refuses a program, its statistics when it does not
    #[arg(long)]
    pub(crate) log: bool,

    /// Where to write the report if the kernel and skep's own check do not agree (default: in the cache directory)
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Say nothing on stderr but errors and losses
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,

    /// A C source file, or an object that was built from one
    pub(crate) file: PathBuf,

    /// Run this command, and end with it
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// C source files, or objects that were built from them; - with --raw
    pub(crate) files: Vec<PathBuf>,

    /// Check for this kernel, or for several, such as 5.10,5.15,6.1, which gives a table
    #[arg(long = "kernel", value_name = "LIST", value_delimiter = ',')]
    pub(crate) kernels: Vec<skep_abi::KernelVersion>,

    /// Check against the types of this kernel: its /sys/kernel/btf/vmlinux, or its image
    #[arg(long, value_name = "FILE")]
    pub(crate) btf: Option<PathBuf>,

    /// Check only this program of the file (may be repeated)
    #[arg(long = "prog", value_name = "NAME")]
    pub(crate) programs: Vec<String>,

    /// What a program is where its section name does not say, such as xdp or 2/1=tc (may be repeated)
    #[arg(long = "type", value_name = "[SECTION=]TYPE")]
    pub(crate) types: Vec<TypeChoice>,

    /// Check a program of this type that comes as hex digits from standard input
    #[arg(long, value_name = "TYPE", conflicts_with_all = ["types", "programs", "cflags"])]
    pub(crate) raw: Option<ProgramKind>,

    /// Text or JSON, one object a line
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,

    /// As for a user without CAP_BPF and CAP_PERFMON
    #[arg(long)]
    pub(crate) unprivileged: bool,

    /// Show where the instructions went: by function, loop and source line
    #[arg(long)]
    pub(crate) complexity: bool,

    /// Explain an error code, such as SKEP0007
    #[arg(long, value_name = "CODE", conflicts_with = "files")]
    pub(crate) explain: Option<String>,

    /// Pass this to clang (may be repeated), such as --cflag=-DDEBUG
    #[arg(long = "cflag", value_name = "FLAG", allow_hyphen_values = true)]
    pub(crate) cflags: Vec<OsString>,
}

/// What a program is: by the name of its type, or by what its section would be called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ProgramKind {
    pub(crate) prog_type: skep_abi::ProgramType,
    pub(crate) attach_type: Option<skep_abi::AttachType>,
    pub(crate) sleepable: bool,
}

impl std::str::FromStr for ProgramKind {
    type Err = String;

    fn from_str(text: &str) -> Result<ProgramKind, String> {
        let hook = skep_object::sections::hook(text).hook;
        if hook.prog_type != skep_abi::ProgramType::Unspec {
            let (prog_type, attach_type, sleepable) = (hook.prog_type, hook.attach_type, hook.sleepable);
            return Ok(ProgramKind { prog_type, attach_type, sleepable });
        }
        match skep_abi::ProgramType::from_name(text) {
            Some(prog_type) if prog_type != skep_abi::ProgramType::Unspec => {
                Ok(ProgramKind { prog_type, attach_type: None, sleepable: false })
            }
            _ => Err("no such program type: write xdp, tc, socket_filter, tracepoint, cgroup/connect4 ...".to_owned()),
        }
    }
}

/// A `--type`, perhaps for one section only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TypeChoice {
    pub(crate) section: Option<String>,
    pub(crate) kind: ProgramKind,
}

impl std::str::FromStr for TypeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<TypeChoice, String> {
        match text.rsplit_once('=') {
            Some((section, kind)) => Ok(TypeChoice { section: Some(section.to_owned()), kind: kind.parse()? }),
            None => Ok(TypeChoice { section: None, kind: text.parse()? }),
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    /// How to run it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) engine: ExecEngine,
    /// Memory for the program, as hex digits: r1 points to it, r2 is its length
    #[arg(long, value_name = "HEX")]
    pub(crate) mem: Option<crate::exec::HexBytes>,
    /// How many instructions it may run
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    pub(crate) budget: u64,
    /// Print the program as assembler text in place of running it
    #[arg(long)]
    pub(crate) disasm: bool,
}

/// How `skep exec` runs a program.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum ExecEngine {
    /// By the interpreter
    #[default]
    Interp,
    /// As machine code
    Jit,
}

#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    /// Only programs, maps or links
    #[arg(value_enum)]
    pub(crate) what: Option<PsWhat>,
    /// Text or JSON, one object a line
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// What `skep ps` lists.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PsWhat {
    /// Programs
    Programs,
    /// Maps
    Maps,
    /// Links
    Links,
}

#[derive(Args, Debug)]
pub(crate) struct DumpArgs {
    /// A map by its id, its name, or the path of its pin
    pub(crate) map: String,
    /// Text or JSON, one object a line
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Rows to print; 0 prints all (JSON always has all)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) top: usize,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Text or JSON, one object a line
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    // A bare number is seconds, as sleep(1) takes it.
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 10s, 500ms or 2m"))
}

fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("-1").is_err());
        assert!(duration("soon").is_err());
    }

    #[test]
    fn program_types_by_name_or_section() {
        let kind = |text: &str| text.parse::<ProgramKind>().map(|kind| (kind.prog_type, kind.attach_type));
        use skep_abi::{AttachType as A, ProgramType as P};
        assert_eq!(kind("socket_filter"), Ok((P::SocketFilter, None)));
        assert_eq!(kind("cgroup/connect4"), Ok((P::CgroupSockAddr, Some(A::CgroupInet4Connect))));
        assert_eq!(kind("xdp").map(|kind| kind.0), Ok(P::Xdp));
        assert!(kind("nothing").is_err());
        let choice: TypeChoice = "2/1=tc".parse().expect("parses");
        assert_eq!((choice.section.as_deref(), choice.kind.prog_type), (Some("2/1"), P::SchedCls));
    }

    #[test]
    fn the_command_comes_last() {
        let cli = Cli::try_parse_from(["skep", "run", "x.c", "--", "ls", "-l", "--iface"]).expect("parses");
        let Command::Run(args) = cli.command else { panic!("not run") };
        assert_eq!(args.command, ["ls", "-l", "--iface"]);
        assert_eq!(args.iface, None);
    }
}
