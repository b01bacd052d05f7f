//! A command as the source of events: its system calls, forks, execs, exits and signals, and those of all that it starts.

use crate::vm::{EventSource, Faults, has_much, is_packet};
use crate::{Class, Error, Summary};
use skep_object::{ProgramIdx, ProgramSpec, Target};
use skep_vm::context::TypedArgument;
use skep_vm::source::syscalls::{self, EventKind, Progress, Tracer, Until, Wants};
use skep_vm::source::tracepoints::{self, Layout, RawArg};
use skep_vm::{Context, Object, Program, Runner, Vm};
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A command that is, or will be, followed.
pub(crate) struct Followed {
    command: Vec<OsString>,
    wants: Wants,
    hooks: Vec<Hook>,
    runner: Runner,
    tracer: Option<Tracer>,
    end: Option<syscalls::End>,
}

/// A program and the event it runs at.
struct Hook {
    program: ProgramIdx,
    at: At,
}

#[derive(Clone, Copy)]
enum At {
    Tracepoint(&'static Layout),
    /// Arguments of a raw or BTF tracepoint, and whether it is that of the calls' starts.
    Raw {
        args: &'static [RawArg],
        enter: bool,
    },
}

impl Followed {
    /// The command is started when the session is polled for the first time.
    pub(crate) fn new(command: Vec<OsString>, runner: Runner) -> Followed {
        Followed { command, wants: Wants::default(), hooks: Vec::new(), runner, tracer: None, end: None }
    }
}

fn failure(error: &syscalls::TraceError) -> Error {
    match error {
        syscalls::TraceError::Exec { .. } => Error::Command { text: error.to_string() },
        _ => Error::vm(Class::NotPermittedOrUnsupported, error.to_string()),
    }
}

impl EventSource for Followed {
    fn attach(&mut self, _: &Vm, program: ProgramIdx, loaded: &Program, spec: &ProgramSpec) -> Result<String, String> {
        if is_packet(loaded.kind()) {
            return Err("its packets come from a capture: give one by --packets FILE".to_owned());
        }
        let unknown = || "its section does not say which tracepoint".to_owned();
        let (at, place) = match &spec.hook.target {
            Target::Tracepoint(at) => {
                let (category, name) = at.as_ref().ok_or_else(unknown)?;
                let layout = tracepoints::find(category, name).map_err(|missing| missing.to_string())?;
                layout.add_to(&mut self.wants);
                (At::Tracepoint(layout), format!("tracepoint {category}/{name}"))
            }
            Target::RawTracepoint(name) | Target::BtfTracepoint(name) => {
                let name = name.as_ref().ok_or_else(unknown)?;
                let args = tracepoints::raw(name).map_err(|missing| missing.to_string())?;
                let enter = args.contains(&RawArg::Number);
                *(if enter { &mut self.wants.enter } else { &mut self.wants.exit }) = syscalls::Calls::All;
                (At::Raw { args, enter }, format!("raw tracepoint {name}"))
            }
            _ => {
                return Err(format!(
                    "programs of type {} run at events that only the kernel sees; use --engine kernel",
                    spec.hook.prog_type.short_name()
                ));
            }
        };
        self.hooks.push(Hook { program, at });
        Ok(place)
    }

    fn run(&mut self, object: &Object, timeout: Duration, faults: &mut Faults) -> Result<bool, Error> {
        let Followed { command, wants, hooks, runner, tracer, end } = self;
        if end.is_some() || hooks.is_empty() {
            return Ok(false);
        }
        let tracer = match tracer {
            Some(tracer) => tracer,
            none => {
                let command = syscalls::Command::new(command.iter().cloned());
                none.insert(Tracer::start(&command, wants).map_err(|error| failure(&error))?)
            }
        };
        let mut record = Vec::new();
        let until = Until { deadline: Instant::now().checked_add(timeout), stop: None };
        let progress = tracer.run(until, &mut |event, task| {
            let mut is_set = false;
            for hook in hooks.iter() {
                let Some(program) = object.program(hook.program) else { continue };
                let mut context = match hook.at {
                    At::Tracepoint(layout) => {
                        if !layout.encode(event, task, &mut record) {
                            continue;
                        }
                        Context::tracepoint(&record)
                    }
                    At::Raw { args, enter } => {
                        let (number, result) = match (&event.kind, enter) {
                            (EventKind::SysEnter(call), true) => (call.number, 0),
                            (EventKind::SysExit(call), false) => (call.number, call.result),
                            _ => continue,
                        };
                        let Some(registers) = task.registers() else { continue };
                        raw_context(args, number, result, &tracepoints::pt_regs(&registers))
                    }
                };
                if !is_set {
                    runner.set_task(Arc::new(task.stopped()));
                    is_set = true;
                }
                if let Err(fault) = runner.run(program, &mut context) {
                    faults.add(&fault);
                }
            }
            match is_set && has_much(object) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match progress.map_err(|error| failure(&error))? {
            Progress::Ended(how) => *end = Some(how),
            Progress::TimedOut | Progress::Stopped | Progress::Broke => {}
        }
        Ok(true)
    }

    /// Whatever still runs of the command ends with its tracer.
    fn detach(&mut self) {
        self.hooks.clear();
        self.tracer = None;
    }

    fn summary(&self, faults: u64) -> Option<Summary> {
        let exit_code = Some(self.end?.exit_code());
        Some(Summary { exit_code, verdicts: Vec::new(), packets: None, faults })
    }
}

/// The context of a raw tracepoint program: its arguments, and behind them the registers that one of them points to.
fn raw_context(args: &[RawArg], number: i64, result: i64, registers: &[u8; 168]) -> Context<'static> {
    let described = args.iter().map(|arg| match arg {
        RawArg::Registers => (TypedArgument::Registers, 0),
        RawArg::Number => (TypedArgument::Number, number as u64),
        RawArg::Result => (TypedArgument::Number, result as u64),
    });
    let (types, values): (Vec<_>, Vec<_>) = described.unzip();
    Context::typed_arguments(&types, &values, registers)
}
