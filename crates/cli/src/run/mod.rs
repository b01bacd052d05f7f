//! `skep run`: from a file to what its programs report.

pub(crate) mod child;
mod opinion;
pub(crate) mod source;
mod stream;
pub(crate) mod sweeper;

use crate::args::{EngineChoice, RunArgs};
use crate::diagnose;
use crate::failure::{Exit, Failure};
use crate::output::tell;
use crate::signals::Stop;
use child::Held;
use opinion::Opinion;
use skep_engine::{AttachOptions, Attached, Choice, Class, LoadError, LoadOptions, Packets, Sampling, Session, Source};
use skep_object::{InitialValue, MapOrigin, ObjectSpec, ProgramIdx};
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;
use stream::Stream;
use sweeper::Sweeper;

/// Name of the parameter that `--pid` and the command behind `--` set where a program has it.
const TARGET_PID: &str = "target_pid";

/// Runs a file. Gives the exit code: 0, or that of the command behind `--`.
pub(crate) fn run(args: &RunArgs) -> Result<u8, Failure> {
    let started = Instant::now();
    let stop = Stop::listen()?;
    let mut spec = source::read(args)?;
    for warning in spec.warnings.iter().filter(|_| !args.quiet) {
        tell(format_args!("warning: {}: {warning}", spec.name));
    }
    set_params(&mut spec, args)?;
    let name = spec.name.clone();
    let Started { mut session, attached, mut stream, mut held, place, in_kernel } = start(args, spec)?;
    let sweeper = Sweeper::start(&attached.iter().filter_map(|attached| attached.leftover).collect::<Vec<_>>())?;
    session.settled();
    for note in attached.iter().filter_map(|attached| attached.note.as_deref()).filter(|_| !args.quiet) {
        tell(format_args!("skep: {name}: {note}"));
    }
    if !args.quiet {
        let places: Vec<String> = attached.iter().map(|attached| attached.place.clone()).collect();
        let count = session.programs().len();
        let programs = if count == 1 { "program" } else { "programs" };
        tell(format_args!(
            "skep: {name}: {count} {programs} in the {place}, attached in {:.0?}: {}",
            started.elapsed(),
            places.join(", ")
        ));
    }
    // Only now, so that nothing waits for it.
    let opinion = if in_kernel { Opinion::form(session.spec(), &args.programs) } else { None };
    for iterator in attached.iter().filter(|attached| attached.iterates) {
        // Whether it came to its end or was stopped is seen below: by a signal, or a reader that has gone away.
        let _ended = session
            .iterate(iterator.program, &mut |chunk| stream.iterator(chunk, &stop))
            .map_err(|error| diagnose::failure(&error, args.log))?;
        stream.iterator_ended();
    }
    // An iterator has said all it will say; with nothing else attached there is nothing to wait for.
    let only_iterators = attached.iter().all(|attached| attached.iterates);
    if let Some(held) = &held {
        held.go()?;
    }
    if !only_iterators || held.is_some() {
        stream
            .follow(session.as_mut(), &stop, args.duration, &mut || held.as_mut().and_then(Held::ended).is_some())
            .map_err(|error| diagnose::failure(&error, args.log))?;
    }
    stream.finish(session.as_mut()).map_err(|error| diagnose::failure(&error, args.log))?;
    let exit = session.summary().and_then(|summary| summary.exit_code);
    drop(session);
    if let Some(sweeper) = sweeper {
        sweeper.dismiss();
    }
    stream.end()?;
    if let Some(opinion) = opinion {
        opinion.of_acceptance(args);
    }
    Ok(exit.or(held.as_mut().and_then(Held::ended).map(exit_code)).unwrap_or(0))
}

/// The code a shell would show: 128 and the signal's number for a command that a signal ended.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// What stands loaded and attached.
struct Started {
    session: Box<dyn Session>,
    attached: Vec<Attached>,
    stream: Stream,
    /// The command, where the kernel watches it; the embedded engine starts it itself.
    held: Option<Held>,
    /// The engine's name.
    place: &'static str,
    /// Whether that is the kernel.
    in_kernel: bool,
}

/// Loads and attaches, in the engine that was asked for or the one that can.
fn start(args: &RunArgs, spec: ObjectSpec) -> Result<Started, Failure> {
    let source = match (&args.packets, args.command.as_slice()) {
        (Some(input), _) => Source::Packets(Packets { input: input.clone(), output: args.out.clone() }),
        (None, []) => Source::None,
        (None, command) => Source::Command(command.to_vec()),
    };
    match (args.engine, &source) {
        (EngineChoice::Kernel, Source::Packets(_)) => Err(Failure::say(
            Exit::Usage,
            "run over a capture: the kernel takes packets from interfaces only; leave --engine kernel out, or give --iface \
             in place of --packets",
        )),
        (EngineChoice::Kernel, _) => start_in(args, spec, Choice::Kernel, source).map_err(Refused::into_failure),
        (EngineChoice::Vm, _) | (EngineChoice::Auto, Source::Packets(_)) => {
            start_in(args, spec, Choice::Vm, source).map_err(Refused::into_failure)
        }
        (EngineChoice::Auto, Source::None) => {
            let hint = without_the_kernel(&spec);
            start_in(args, spec, Choice::Kernel, source).map_err(|refused| match (refused.class, hint) {
                (Some(Class::NotPermittedOrUnsupported), Some(hint)) => refused.into_failure().with_note(hint),
                _ => refused.into_failure(),
            })
        }
        (EngineChoice::Auto, Source::Command(_)) => {
            let refused = match start_in(args, spec.clone(), Choice::Kernel, source.clone()) {
                Err(refused) if refused.class == Some(Class::NotPermittedOrUnsupported) => refused,
                other => return other.map_err(Refused::into_failure),
            };
            // The kernel's word is what the person has to act on, unless the other engine can do it.
            let started = match start_in(args, spec, Choice::Vm, source) {
                Ok(started) => started,
                Err(other) if other.reason.is_empty() => return Err(refused.into_failure()),
                Err(other) => {
                    let note = format!("the embedded engine cannot run it either: {}", other.reason);
                    return Err(refused.into_failure().with_note(&note));
                }
            };
            if !args.quiet {
                tell(format_args!(
                    "skep: the kernel does not take it ({}), so it runs in the embedded engine and sees this command alone",
                    refused.reason
                ));
            }
            Ok(started)
        }
    }
}

/// How the embedded engine could run the programs where the kernel does not, if it can.
fn without_the_kernel(spec: &ObjectSpec) -> Option<&'static str> {
    use skep_abi::ProgramType as P;
    let mut kinds = spec.programs.iter().map(|program| program.hook.prog_type);
    if kinds.clone().all(|kind| matches!(kind, P::Tracepoint | P::RawTracepoint)) {
        return Some("with a command behind -- it can run in the embedded engine, which needs no rights");
    }
    kinds
        .all(|kind| matches!(kind, P::Xdp | P::SchedCls | P::SocketFilter | P::CgroupSkb))
        .then_some("over a capture, given by --packets FILE, it can run in the embedded engine, which needs no rights")
}

/// Why an engine did not take the programs.
struct Refused {
    /// What it is, where an engine said so.
    class: Option<Class>,
    /// In one line.
    reason: String,
    failure: Failure,
}

impl Refused {
    fn into_failure(self) -> Failure {
        self.failure
    }

    fn by(error: &skep_engine::Error, args: &RunArgs) -> Refused {
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or_default().to_owned();
        Refused { class: Some(error.class()), reason, failure: diagnose::failure(error, args.log) }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused { class: None, reason: String::new(), failure }
    }
}

/// Loads and attaches in this engine.
fn start_in(args: &RunArgs, mut spec: ObjectSpec, choice: Choice, source: Source) -> Result<Started, Refused> {
    let held = match args.command.as_slice() {
        [] => None,
        _ if choice == Choice::Vm => None,
        command => Some(Held::start(command).map_err(|error| Failure::new(Exit::Usage, error))?),
    };
    let pid = args.pid.or(held.as_ref().map(Held::id));
    set_target(&mut spec, args, pid)?;
    let name = spec.name.clone();
    let engine = skep_engine::pick(choice, source);
    let options = LoadOptions { only: args.programs.clone(), log: args.log };
    let in_kernel = choice == Choice::Kernel;
    // To be looked at if the kernel refuses it.
    let given = in_kernel.then(|| spec.clone());
    let mut session = match engine.load(spec, &options) {
        Ok(session) => session,
        Err(error) => {
            let mut refused = Refused::by(&error, args);
            if let (skep_engine::Error::Load(cause), Some(given)) = (&error, given)
                && let LoadError::Program(refusal) = cause.as_ref()
                && let Some(opinion) = Opinion::form(&given, &args.programs)
                && let Some(text) = opinion.of_refusal(refusal, args, std::io::stderr().is_terminal())
            {
                refused.failure = refused.failure.with_text(&text);
            }
            return Err(refused);
        }
    };
    let stream = Stream::new(args, session.as_ref())?;
    let attached = attach_all(session.as_mut(), args, pid, choice)?;
    for warning in session.warnings().iter().filter(|_| !args.quiet) {
        tell(format_args!("warning: {name}: {warning}"));
    }
    if args.log {
        for program in session.programs() {
            if let Some(log) = session.log(program) {
                tell(format_args!("verifier log of {}:\n{}", session.spec().programs[program.0].name, log.trim_end()));
            }
        }
    }
    Ok(Started { session, attached, stream, held, place: engine.name(), in_kernel })
}

fn set_params(spec: &mut ObjectSpec, args: &RunArgs) -> Result<(), Failure> {
    for (name, value) in &args.params {
        spec.set_global_text(name, value)
            .map_err(|error| Failure::say(Exit::Usage, format!("--param {name}={value}: {error}")))?;
    }
    Ok(())
}

/// Tells a program that has such a parameter which process it is for.
fn set_target(spec: &mut ObjectSpec, args: &RunArgs, pid: Option<u32>) -> Result<(), Failure> {
    let explicit = args.params.iter().any(|(name, _)| name == TARGET_PID);
    let constants = || spec.maps.iter().filter(|map| map.origin == MapOrigin::Rodata);
    let has_target = constants().flat_map(|map| &map.vars).any(|var| var.name == TARGET_PID);
    if let (Some(pid), true, false) = (pid, has_target, explicit) {
        spec.set_global_text(TARGET_PID, &pid.to_string())
            .map_err(|error| Failure::say(Exit::NotSo, format!("set {TARGET_PID} to {pid}: {error}")))?;
    }
    Ok(())
}

/// Attaches every loaded program that is not the target of a tail call; the first failure ends it all.
fn attach_all(
    session: &mut dyn Session,
    args: &RunArgs,
    pid: Option<u32>,
    choice: Choice,
) -> Result<Vec<Attached>, Refused> {
    let options = AttachOptions {
        interface: args.iface.clone(),
        cgroup: args.cgroup.clone(),
        pid,
        sampling: Some(Sampling { event: args.event.clone(), frequency_hz: args.frequency }),
        classic_tc: args.classic_tc,
    };
    let tail_called: Vec<ProgramIdx> = session
        .spec()
        .maps
        .iter()
        .flat_map(|map| &map.initial)
        .filter_map(|slot| match slot.value {
            InitialValue::Program(program) => Some(program),
            InitialValue::Map(_) => None,
        })
        .collect();
    let programs = session.programs();
    let mut attached = Vec::new();
    for program in programs.into_iter().filter(|program| !tail_called.contains(program)) {
        let spec = &session.spec().programs[program.0];
        if spec.hook.wants_cgroup() && options.cgroup.is_none() && choice == Choice::Kernel {
            // Without one the kernel would take the root: every process of the machine. That is for the person to say.
            return Err(Refused::from(Failure::say(
                Exit::Usage,
                format!(
                    "attach {} ({}): say which cgroup with --cgroup PATH (the root, for every process: {})",
                    spec.name,
                    spec.section,
                    skep_kernel::mounts::cgroup2_root().unwrap_or_else(|| "/sys/fs/cgroup".into()).display()
                ),
            )));
        }
        attached.push(session.attach(program, &options).map_err(|error| Refused::by(&error, args))?);
    }
    if attached.is_empty() {
        let name = &session.spec().name;
        return Err(Refused::from(Failure::say(
            Exit::NotSo,
            format!(
                "run {name}: it has no program to attach. A program is a function with SEC(\"...\"), such as \
                 SEC(\"tracepoint/sched/sched_switch\"); one in a SEC(\"?...\") section is loaded only by --prog NAME"
            ),
        )));
    }
    Ok(attached)
}
