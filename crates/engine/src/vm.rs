//! The embedded engine: programs run in this process, on packets of a capture or on the system calls of a command.

use crate::{
    AttachOptions, Attached, Class, Contents, Engine, Entry, Error, Event, LoadOptions, Session, Source, Summary,
};
use skep_abi::{MapType, ProgramType};
use skep_object::{MapIdx, ObjectSpec, ProgramIdx, ProgramSpec, Target};
use skep_vm::context::TypedArgument;
use skep_vm::source::syscalls::{self, Progress, Tracer, Until, Wants};
use skep_vm::source::tracepoints::{self, Layout, RawArg};
use skep_vm::{Context, Limits, Memory, Mode, Object, ObjectOptions, Printed, Runner, SystemHost, Vm};
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Instructions that one run of a program may take, as many as the kernel's verifier would walk.
const INSN_LIMIT: u64 = 1_000_000;

/// Time that one run may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Faults that are told one by one; the others are counted.
const SHOWN_FAULTS: usize = 3;

/// Runs programs in this process.
#[derive(Clone, Debug, Default)]
pub struct VmEngine {
    /// Where events come from.
    pub source: Source,
}

impl Engine for VmEngine {
    fn name(&self) -> &'static str {
        "embedded engine"
    }

    fn load(&self, spec: ObjectSpec, options: &LoadOptions) -> Result<Box<dyn Session>, Error> {
        let host = Arc::new(SystemHost::default());
        let limits = Limits { insns: Some(INSN_LIMIT), time: Some(TIME_LIMIT), ..Limits::default() };
        let vm = Vm::new(skep_vm::Config {
            // Nothing has verified these programs for this engine.
            memory: Memory::Checked,
            mode: Mode::Compiled,
            limits,
            host: host.clone(),
            ..skep_vm::Config::default()
        });
        let object_options = ObjectOptions { only: options.only.clone(), ..ObjectOptions::default() };
        let object = vm.load(&spec, &object_options).map_err(|error| {
            let class = match error {
                skep_vm::LoadError::Code { .. } | skep_vm::LoadError::Map { .. } => Class::NotPermittedOrUnsupported,
                _ => Class::NotSo,
            };
            Error::vm(class, format!("load {}: {error}", spec.name))
        })?;
        let feed = match &self.source {
            Source::None => Feed::None,
            Source::Command(command) => Feed::Command(Box::new(Followed {
                command: command.clone(),
                wants: Wants::default(),
                tracer: None,
                end: None,
            })),
            Source::Packets(packets) => Feed::Packets(Box::new(crate::packets::Feed::open(packets)?)),
        };
        Ok(Box::new(VmSession {
            warnings: object.warnings().to_vec(),
            runner: vm.runner(),
            vm,
            host,
            object,
            feed,
            hooks: Vec::new(),
            faults: Faults::default(),
            lost: Vec::new(),
        }))
    }
}

/// Where a session's events come from.
enum Feed {
    None,
    Command(Box<Followed>),
    Packets(Box<crate::packets::Feed>),
}

/// A command that is, or will be, followed.
struct Followed {
    command: Vec<OsString>,
    wants: Wants,
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
    /// Arguments of a raw or BTF tracepoint, and whether its programs see them as `u64`s.
    Raw {
        args: &'static [RawArg],
        enter: bool,
    },
    Packets,
}

/// Runs that ended early.
#[derive(Default)]
struct Faults {
    untold: Vec<String>,
    count: u64,
}

impl Faults {
    fn add(&mut self, fault: &skep_vm::Fault) {
        let text = fault.to_string();
        if self.count < SHOWN_FAULTS as u64 {
            self.untold.push(text);
        }
        self.count += 1;
    }
}

/// What stands loaded in this process.
struct VmSession {
    runner: Runner,
    vm: Vm,
    host: Arc<SystemHost>,
    object: Object,
    feed: Feed,
    hooks: Vec<Hook>,
    warnings: Vec<String>,
    faults: Faults,
    /// What has been reported as lost, by buffer.
    lost: Vec<(MapIdx, u64)>,
}

impl VmSession {
    fn attach_tracepoint(&mut self, program: &ProgramSpec) -> Result<(At, String), String> {
        let Feed::Command(followed) = &mut self.feed else {
            return Err("its events are those of a command: give one behind --".to_owned());
        };
        let wants = &mut followed.wants;
        let unknown = || "its section does not say which tracepoint".to_owned();
        match &program.hook.target {
            Target::Tracepoint(at) => {
                let (category, name) = at.as_ref().ok_or_else(unknown)?;
                let layout = tracepoints::find(category, name).map_err(|missing| missing.to_string())?;
                layout.add_to(wants);
                Ok((At::Tracepoint(layout), format!("tracepoint {category}/{name}")))
            }
            Target::RawTracepoint(name) | Target::BtfTracepoint(name) => {
                let name = name.as_ref().ok_or_else(unknown)?;
                let args = tracepoints::raw(name).map_err(|missing| missing.to_string())?;
                let enter = args.contains(&RawArg::Number);
                *(if enter { &mut wants.enter } else { &mut wants.exit }) = syscalls::Calls::All;
                Ok((At::Raw { args, enter }, format!("raw tracepoint {name}")))
            }
            _ => Err(format!(
                "programs of type {} run at events that only the kernel sees; use --engine kernel",
                program.hook.prog_type.short_name()
            )),
        }
    }

    /// Runs what is attached for the events of the command, up to the deadline or until a buffer fills.
    fn follow(&mut self, timeout: Duration) -> Result<bool, Error> {
        let VmSession { runner, object, feed, hooks, faults, .. } = self;
        let Feed::Command(followed) = feed else { return Ok(false) };
        if followed.end.is_some() {
            return Ok(false);
        }
        let fail = |error: syscalls::TraceError| {
            let class = match error {
                syscalls::TraceError::Exec { .. } => Class::Usage,
                _ => Class::NotPermittedOrUnsupported,
            };
            Error::vm(class, error.to_string())
        };
        let tracer = match &mut followed.tracer {
            Some(tracer) => tracer,
            none => none.insert(
                Tracer::start(&syscalls::Command::new(followed.command.iter().cloned()), &followed.wants)
                    .map_err(fail)?,
            ),
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
                            (syscalls::EventKind::SysEnter(call), true) => (call.number, 0),
                            (syscalls::EventKind::SysExit(call), false) => (call.number, call.result),
                            _ => continue,
                        };
                        let Some(registers) = task.registers() else { continue };
                        raw_context(args, number, result, &tracepoints::pt_regs(&registers))
                    }
                    At::Packets => continue,
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
        match progress.map_err(fail)? {
            Progress::Ended(end) => followed.end = Some(end),
            Progress::TimedOut | Progress::Stopped | Progress::Broke => {}
        }
        Ok(true)
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

/// Whether a buffer of records is filling up, so that it is time to print.
fn has_much(object: &Object) -> bool {
    let maps = object.spec().maps.iter().enumerate();
    maps.filter(|(_, map)| map.map_type == MapType::Ringbuf).any(|(index, spec)| {
        // BPF_RB_AVAIL_DATA
        let waiting = object.map(MapIdx(index)).map_or(0, |map| map.ringbuf_query(0));
        waiting > u64::from(spec.max_entries) / 4
    })
}

impl Session for VmSession {
    fn spec(&self) -> &ObjectSpec {
        self.object.spec()
    }

    fn programs(&self) -> Vec<ProgramIdx> {
        self.object.programs().map(|(index, _)| index).collect()
    }

    fn log(&self, _: ProgramIdx) -> Option<&str> {
        None
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn attach(&mut self, program: ProgramIdx, _: &AttachOptions) -> Result<Attached, Error> {
        let spec = self.object.spec().programs.get(program.0).ok_or(Error::NoProgram(program.0))?.clone();
        let refuse = |why: String| {
            let text = format!("attach {} ({}) in the embedded engine: {why}", spec.name, spec.section);
            Error::vm(Class::NotPermittedOrUnsupported, text)
        };
        let is_packet = matches!(
            spec.hook.prog_type,
            ProgramType::Xdp
                | ProgramType::SchedCls
                | ProgramType::SchedAct
                | ProgramType::SocketFilter
                | ProgramType::CgroupSkb
        );
        let (at, place) = match (&mut self.feed, is_packet) {
            (Feed::Packets(feed), true) => {
                let program = self.object.program(program).ok_or(Error::NoProgram(program.0))?;
                (At::Packets, feed.attach(&self.vm, program, &spec).map_err(refuse)?)
            }
            (Feed::Packets(_), false) => {
                return Err(refuse("a capture has packets only; programs of this type run at other events".to_owned()));
            }
            (_, true) => return Err(refuse("its packets come from a capture: give one by --packets FILE".to_owned())),
            (_, false) => self.attach_tracepoint(&spec).map_err(refuse)?,
        };
        self.hooks.push(Hook { program, at });
        Ok(Attached { program, place, note: None, leftover: None, iterates: false })
    }

    fn settled(&mut self) {}

    fn iterate(
        &mut self,
        program: ProgramIdx,
        _: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        Err(Error::NoProgram(program.0))
    }

    fn detach(&mut self) {
        self.hooks.clear();
        match &mut self.feed {
            // Whatever still runs of the command ends with its tracer.
            Feed::Command(followed) => followed.tracer = None,
            Feed::Packets(feed) => feed.detach(),
            Feed::None => {}
        }
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize, Error> {
        let went_on = match &mut self.feed {
            Feed::None => false,
            Feed::Command(_) if self.hooks.is_empty() => false,
            Feed::Command(_) => self.follow(timeout)?,
            Feed::Packets(feed) => {
                let VmSession { object, faults, .. } = self;
                feed.run(timeout, &mut |fault| faults.add(fault), &mut || has_much(object))?
            }
        };
        let mut count = 0;
        let VmSession { object, lost, host, faults, .. } = self;
        for (index, spec) in object.spec().maps.iter().enumerate() {
            let (index, Some(map)) = (MapIdx(index), object.map(MapIdx(index))) else { continue };
            let result = match spec.map_type {
                MapType::Ringbuf => map.user().poll(&mut |data| {
                    sink(Event::Record { map: index, cpu: None, data });
                    count += 1;
                    ControlFlow::Continue(())
                }),
                MapType::PerfEventArray => map.user().poll_perf(&mut |cpu, data| {
                    sink(Event::Record { map: index, cpu: Some(cpu), data });
                    count += 1;
                }),
                _ => continue,
            };
            result.map_err(|errno| Error::vm(Class::NotSo, format!("read records of {}: {errno}", spec.name)))?;
            let total: u64 = map.user().lost().iter().sum();
            let known = match lost.iter_mut().find(|(map, _)| *map == index) {
                Some((_, known)) => known,
                None => {
                    lost.push((index, 0));
                    match lost.last_mut() {
                        Some((_, known)) => known,
                        None => continue,
                    }
                }
            };
            if total > *known {
                sink(Event::Lost { map: index, count: total - *known });
                count += 1;
                *known = total;
            }
        }
        let (prints, prints_lost) = host.take_prints();
        count += prints.len();
        for Printed { comm, tid, cpu, text } in prints {
            sink(Event::Print { task: &comm, pid: tid, cpu, text: &text });
        }
        if prints_lost > 0 {
            sink(Event::PrintsLost { count: prints_lost });
            count += 1;
        }
        for text in faults.untold.drain(..) {
            sink(Event::Fault { text: &text });
            count += 1;
        }
        if !went_on && count == 0 && self.summary().is_none() {
            std::thread::sleep(timeout);
        }
        Ok(count)
    }

    fn is_readable(&self, map: MapIdx) -> bool {
        let kind = self.object.spec().maps.get(map.0).map(|map| map.map_type);
        kind.is_some_and(|kind| {
            !matches!(
                kind,
                MapType::Ringbuf
                    | MapType::PerfEventArray
                    | MapType::Queue
                    | MapType::Stack
                    | MapType::BloomFilter
                    | MapType::ProgArray
            )
        })
    }

    fn read_map(&self, index: MapIdx, limit: usize) -> Result<Contents, Error> {
        let map = self.object.map(index).ok_or(Error::NoMap(index.0))?;
        let fail = |errno| Error::vm(Class::NotSo, format!("read map {}: {errno}", map.name()));
        let mut contents = Contents { per_cpu: map.is_per_cpu(), ..Contents::default() };
        let is_array = matches!(map.map_type(), MapType::Array | MapType::PercpuArray);
        let sparse = is_array && map.max_entries() as usize > limit;
        for (key, value) in map.user().entries().map_err(fail)? {
            if sparse && value.iter().all(|&byte| byte == 0) {
                continue;
            }
            if contents.entries.len() == limit {
                contents.more = true;
                break;
            }
            let slot = (map.value_size() as usize).next_multiple_of(8);
            let values = match contents.per_cpu {
                true => value.chunks(slot).map(|value| value[..map.value_size() as usize].to_vec()).collect(),
                false => vec![value],
            };
            contents.entries.push(Entry { key, values });
        }
        Ok(contents)
    }

    fn summary(&self) -> Option<Summary> {
        let faults = self.faults.count;
        match &self.feed {
            Feed::None => None,
            Feed::Command(followed) => {
                let end = followed.end?;
                Some(Summary { exit_code: Some(end.exit_code()), verdicts: Vec::new(), packets: None, faults })
            }
            Feed::Packets(feed) => feed.summary(faults),
        }
    }
}
