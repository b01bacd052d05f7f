//! The embedded engine: programs run in this process, on packets of a capture or on the system calls of a command.

use crate::command::Followed;
use crate::packets::Capture;
use crate::{
    AttachOptions, Attached, Class, Contents, Engine, Entry, Error, Event, LoadOptions, Session, Source, Summary,
};
use skep_abi::{MapType, ProgramType};
use skep_object::{MapIdx, ObjectSpec, ProgramIdx, ProgramSpec};
use skep_vm::{Limits, Memory, Mode, Object, ObjectOptions, Printed, Program, SystemHost, Vm};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

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
        let source: Box<dyn EventSource> = match &self.source {
            Source::None => Box::new(Nowhere),
            Source::Command(command) => Box::new(Followed::new(command.clone(), vm.runner())),
            Source::Packets(packets) => Box::new(Capture::open(packets)?),
        };
        Ok(Box::new(VmSession {
            warnings: object.warnings().to_vec(),
            vm,
            host,
            object,
            source,
            faults: Faults::default(),
            lost: Vec::new(),
        }))
    }
}

/// Where the events come from that the programs of a session run at. One implementation a kind of source: a command that
/// is followed, a capture; recorded events of the kernel are to be another.
pub(crate) trait EventSource {
    /// Takes a program on, to run at the events that its section names. Gives the place for people, or why it has none.
    fn attach(&mut self, vm: &Vm, program: ProgramIdx, loaded: &Program, spec: &ProgramSpec) -> Result<String, String>;

    /// Runs what is attached for the events that come until the time is up, the source ends or a buffer is filling up.
    /// Gives whether the source was at work at all.
    fn run(&mut self, object: &Object, timeout: Duration, faults: &mut Faults) -> Result<bool, Error>;

    /// Lets go of every program, and of whatever the source itself has started.
    fn detach(&mut self);

    /// What it has come to, once it has ended; the number of faults is the session's.
    fn summary(&self, faults: u64) -> Option<Summary>;
}

/// No source: programs are loaded and do not run.
struct Nowhere;

impl EventSource for Nowhere {
    fn attach(&mut self, _: &Vm, _: ProgramIdx, loaded: &Program, _: &ProgramSpec) -> Result<String, String> {
        Err(match loaded.kind() {
            kind if is_packet(kind) => "its packets come from a capture: give one by --packets FILE".to_owned(),
            _ => "its events are those of a command: give one behind --".to_owned(),
        })
    }

    fn run(&mut self, _: &Object, _: Duration, _: &mut Faults) -> Result<bool, Error> {
        Ok(false)
    }

    fn detach(&mut self) {}

    fn summary(&self, _: u64) -> Option<Summary> {
        None
    }
}

/// Whether programs of this type run on packets.
pub(crate) fn is_packet(kind: ProgramType) -> bool {
    use ProgramType as P;
    matches!(kind, P::Xdp | P::SchedCls | P::SchedAct | P::SocketFilter | P::CgroupSkb)
}

/// Runs that ended early.
#[derive(Default)]
pub(crate) struct Faults {
    untold: Vec<String>,
    count: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: &skep_vm::Fault) {
        let text = fault.to_string();
        if self.count < SHOWN_FAULTS as u64 {
            self.untold.push(text);
        }
        self.count += 1;
    }
}

/// What stands loaded in this process.
struct VmSession {
    vm: Vm,
    host: Arc<SystemHost>,
    object: Object,
    source: Box<dyn EventSource>,
    warnings: Vec<String>,
    faults: Faults,
    /// What has been reported as lost, by buffer.
    lost: Vec<(MapIdx, u64)>,
}

/// Whether a buffer of records is filling up, so that it is time to print.
pub(crate) fn has_much(object: &Object) -> bool {
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
        let loaded = self.object.program(program).ok_or(Error::NoProgram(program.0))?;
        let place = self.source.attach(&self.vm, program, loaded, &spec).map_err(refuse)?;
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
        self.source.detach();
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize, Error> {
        let went_on = self.source.run(&self.object, timeout, &mut self.faults)?;
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
        self.source.summary(self.faults.count)
    }
}
