//! One interface over everything that runs BPF programs: load a spec, attach its programs, poll what they report, read
//! their maps.
//!
//! An [`Engine`] makes a [`Session`] of an [`ObjectSpec`]; a session owns what it loaded and attached, and dropping it
//! detaches and unloads all of it but what was pinned on purpose. What comes out is bytes: decoding by type is for the
//! caller, who has the spec's BTF.
//!
//! ```no_run
//! use skep_engine::{AttachOptions, Choice, Event, LoadOptions, pick};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use skep_engine::Source;
//! let elf = std::fs::read("prog.bpf.o")?;
//! let spec = skep_object::ObjectSpec::parse("prog", &elf)?;
//! let mut session = pick(Choice::Kernel, Source::None).load(spec, &LoadOptions::default())?;
//! for program in session.programs() {
//!     session.attach(program, &AttachOptions::default())?;
//! }
//! session.poll(std::time::Duration::from_secs(1), &mut |event| {
//!     if let Event::Record { data, .. } = event {
//!         println!("{} bytes", data.len());
//!     }
//! })?;
//! # Ok(()) }
//! ```

mod command;
mod kernel;
mod packets;
mod vm;

pub use kernel::{KernelEngine, read_kernel_map};
pub use skep_kernel::Class;
pub use skep_kernel::attach::{AttachError, Leftover};
pub use skep_kernel::load::LoadError;
pub use skep_kernel::log::{Advice, Refusal, SourceLine};
pub use vm::VmEngine;

use skep_object::{MapIdx, ObjectSpec, ProgramIdx};
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

/// Which engine is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// The running Linux kernel.
    #[default]
    Kernel,
    /// The embedded engine.
    Vm,
}

/// Where the events of the embedded engine come from. (Those of the kernel come from the whole machine.)
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Source {
    /// Nowhere: programs are loaded and do not run.
    #[default]
    None,
    /// Packets of a capture.
    Packets(Packets),
    /// System calls, forks, execs, exits and signals of a command, which the session starts when it is first polled, and
    /// of all that it starts.
    Command(Vec<OsString>),
}

/// A capture to run programs over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packets {
    /// A pcap or pcapng file, `-` for standard input.
    pub input: String,
    /// Where packets go that the programs let pass, as they left them.
    pub output: Option<String>,
}

/// The engine for a choice.
pub fn pick(choice: Choice, source: Source) -> Box<dyn Engine> {
    match choice {
        Choice::Kernel => Box::new(KernelEngine),
        Choice::Vm => Box::new(VmEngine { source }),
    }
}

/// What is to be said once the source of events has come to its end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Exit code of the command, 128 and the signal's number if one ended it.
    pub exit_code: Option<u8>,
    /// How often each program gave each verdict: program, verdict, packets.
    pub verdicts: Vec<(String, String, u64)>,
    /// Packets read, written, and those of which the capture has not all bytes.
    pub packets: Option<PacketCounts>,
    /// Runs that ended early, by a fault.
    pub faults: u64,
}

/// Packets of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PacketCounts {
    /// Read from the capture.
    pub read: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Written to the output.
    pub written: u64,
    /// Those of which the capture has not all bytes.
    pub truncated: u64,
}

/// Why an engine could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Loading failed; nothing stays loaded.
    #[error(transparent)]
    Load(Box<LoadError>),
    /// Attaching failed; what was attached before stays with the session.
    #[error(transparent)]
    Attach(Box<AttachError>),
    /// A map could not be read, or its events not be waited for.
    #[error("{action} {object}: {cause}")]
    Map {
        /// What was attempted.
        action: &'static str,
        /// On what.
        object: String,
        /// Why it failed.
        cause: Box<skep_kernel::Error>,
    },
    /// Something of the embedded engine: a program that it cannot run, a capture that is no capture.
    #[error("{text}")]
    Vm {
        /// What it is to the person.
        class: Class,
        /// What was attempted, on what, why it failed.
        text: String,
    },
    /// The command to be followed cannot be started.
    #[error("{text}")]
    Command {
        /// What was attempted, on what, why it failed.
        text: String,
    },
    /// A map that the session does not have.
    #[error("the session has no map number {0}")]
    NoMap(usize),
    /// A program that the session has not loaded.
    #[error("the session has no program number {0}")]
    NoProgram(usize),
}

// Errors are boxed so that a result without one stays small.
impl From<LoadError> for Error {
    fn from(error: LoadError) -> Error {
        Error::Load(Box::new(error))
    }
}

impl From<AttachError> for Error {
    fn from(error: AttachError) -> Error {
        Error::Attach(Box::new(error))
    }
}

impl Error {
    /// A map that could not be read or waited for.
    fn map(action: &'static str, object: impl Into<String>, cause: skep_kernel::Error) -> Error {
        Error::Map { action, object: object.into(), cause: Box::new(cause) }
    }

    /// An error of the embedded engine.
    fn vm(class: Class, text: impl Into<String>) -> Error {
        Error::Vm { class, text: text.into() }
    }

    /// What it is to the person, which decides the exit code.
    pub fn class(&self) -> Class {
        match self {
            Error::Load(error) => error.class(),
            Error::Attach(error) => error.class(),
            Error::Map { cause, .. } => cause.class(),
            Error::Vm { class, .. } => *class,
            Error::Command { .. } => Class::Usage,
            Error::NoMap(_) | Error::NoProgram(_) => Class::Usage,
        }
    }
}

/// Where programs run.
pub trait Engine {
    /// Name for messages: `kernel`.
    fn name(&self) -> &'static str;

    /// Loads what the spec wants loaded. On failure nothing stays loaded.
    fn load(&self, spec: ObjectSpec, options: &LoadOptions) -> Result<Box<dyn Session>, Error>;
}

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Only these programs, by name; empty loads all that their sections do not hold back.
    pub only: Vec<String>,
    /// Keep the verifier's log also for programs that it accepts.
    pub log: bool,
}

/// What the section name of a program may leave open.
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    /// Network interface, by name.
    pub interface: Option<String>,
    /// Directory of a version 2 cgroup.
    pub cgroup: Option<PathBuf>,
    /// Process for uprobes and perf events.
    pub pid: Option<u32>,
    /// What a perf_event program samples.
    pub sampling: Option<Sampling>,
    /// The classic tc hook even where the kernel has tcx.
    pub classic_tc: bool,
}

/// What a perf_event program samples.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sampling {
    /// Event by its perf name, such as `cpu-clock` or `cycles`.
    pub event: String,
    /// Samples per second and CPU.
    pub frequency_hz: u64,
}

/// A program that has been attached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The program.
    pub program: ProgramIdx,
    /// Where, for people: `tracepoint sched/sched_switch`, `XDP veth0 (native)`.
    pub place: String,
    /// What a person should know about how, such as why XDP is generic.
    pub note: Option<String>,
    /// What would stay attached if this process were killed; whoever can should see to it (see [`Leftover`]).
    pub leftover: Option<Leftover>,
    /// Whether it is an iterator, which runs when [`Session::iterate`] asks for it.
    pub iterates: bool,
}

/// Something that a program reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A record of a ring or perf buffer.
    Record {
        /// The buffer.
        map: MapIdx,
        /// CPU it was written on, where the buffer says.
        cpu: Option<u32>,
        /// Its bytes.
        data: &'a [u8],
    },
    /// Records that found the buffer full.
    Lost {
        /// The buffer.
        map: MapIdx,
        /// How many since the last such event.
        count: u64,
    },
    /// Lines of bpf_printk that found the kernel's trace full.
    PrintsLost {
        /// How many since the last such event.
        count: u64,
    },
    /// A run that ended early. The first few of a session are told; [`Summary::faults`] counts all.
    Fault {
        /// Program, instruction and cause.
        text: &'a str,
    },
    /// A line of bpf_printk.
    Print {
        /// Name of the task that ran the program.
        task: &'a str,
        /// Its thread id.
        pid: u32,
        /// CPU.
        cpu: u32,
        /// The text.
        text: &'a str,
    },
}

/// What one key of a map holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Key; empty for maps without keys.
    pub key: Vec<u8>,
    /// One value, or one for each possible CPU.
    pub values: Vec<Vec<u8>>,
}

/// What a map holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Contents {
    /// Entries in the engine's order.
    pub entries: Vec<Entry>,
    /// Whether values are one for each possible CPU.
    pub per_cpu: bool,
    /// Whether there were more entries than asked for.
    pub more: bool,
}

/// What stands loaded.
pub trait Session {
    /// The spec as loaded.
    fn spec(&self) -> &ObjectSpec;

    /// The programs that are loaded, in file order.
    fn programs(&self) -> Vec<ProgramIdx>;

    /// What the verifier said of an accepted program, where [`LoadOptions::log`] asked for it.
    fn log(&self, program: ProgramIdx) -> Option<&str>;

    /// What was odd but not wrong, for the person.
    fn warnings(&self) -> &[String];

    /// Attaches a program where its section says.
    fn attach(&mut self, program: ProgramIdx, options: &AttachOptions) -> Result<Attached, Error>;

    /// Everything is attached: what is to outlive the session, such as maps pinned by name, stays from now on. Without this
    /// nothing of a session outlives it.
    fn settled(&mut self);

    /// Runs an iterator program that is attached, and hands over what it prints while it does. Chunks may be empty, so that
    /// whoever wants to stop can do so. Gives whether it ran to its end.
    fn iterate(
        &mut self,
        program: ProgramIdx,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error>;

    /// Detaches every program; what they wrote stays to be read.
    fn detach(&mut self);

    /// Waits up to `timeout` for records and bpf_printk lines, and hands over what is there, each buffer in order.
    /// Gives the number of events.
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize, Error>;

    /// Whether the map's contents can be read from here (not so for buffers and for storage without keys to walk).
    fn is_readable(&self, map: MapIdx) -> bool;

    /// Reads up to `limit` entries.
    fn read_map(&self, map: MapIdx, limit: usize) -> Result<Contents, Error>;

    /// What the session's source of events has come to, once it has ended. `None` before that, and for sessions whose
    /// events do not end.
    fn summary(&self) -> Option<Summary> {
        None
    }
}
