//! The running Linux kernel as an engine.
use crate::{AttachOptions, Attached, Contents, Engine, Entry, Error, Event, LoadOptions, Session};
use skep_kernel::attach::{self, Rate};
use skep_kernel::load::{self, Loaded, Selection};
use skep_kernel::perfbuf::PerfBufferOptions;
use skep_kernel::reader::{Reader, Report};
use skep_kernel::trace_pipe::TracePipe;
use skep_kernel::{Link, LogLevel, Map, iter};
use skep_object::{MapIdx, ObjectSpec, ProgramIdx, ProgramSpec, Target};
use std::ops::ControlFlow;
use std::time::Duration;

/// Loads into the running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelEngine;

impl Engine for KernelEngine {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn load(&self, spec: ObjectSpec, options: &LoadOptions) -> Result<Box<dyn Session>, Error> {
        let selection = match options.only.as_slice() {
            [] => Selection::Autoload,
            names => Selection::Named(names.to_vec()),
        };
        let log_level = if options.log { LogLevel::Level1 } else { LogLevel::None };
        let load_options = load::LoadOptions { programs: selection, log_level, ..load::LoadOptions::default() };
        let loaded = load::load(&spec, &load_options)?;
        let mut warnings = loaded.warnings().to_vec();
        let reader = reader(&spec, &loaded, &mut warnings)?;
        Ok(Box::new(KernelSession { links: Vec::new(), iterators: Vec::new(), reader, loaded, spec, warnings }))
    }
}

/// What stands loaded in the kernel. Fields drop in order: attachments end before programs and maps go.
struct KernelSession {
    links: Vec<Link>,
    /// Where in `links` those of iterator programs are.
    iterators: Vec<(ProgramIdx, usize)>,
    reader: Reader,
    loaded: Loaded,
    spec: ObjectSpec,
    warnings: Vec<String>,
}

/// Reads every buffer of the session, and bpf_printk's lines if a program prints any.
fn reader(spec: &ObjectSpec, loaded: &Loaded, warnings: &mut Vec<String>) -> Result<Reader, Error> {
    let fail = |object: &str| {
        let object = object.to_owned();
        move |cause| Error::map("read records of", object, cause)
    };
    let mut reader = Reader::new().map_err(fail("the session"))?;
    for (index, map) in loaded.maps().iter().enumerate() {
        reader.add(index, map, PerfBufferOptions::default()).map_err(fail(map.name()))?;
    }
    let is_loaded = |index: usize| loaded.program(ProgramIdx(index)).is_some();
    if spec.programs.iter().enumerate().any(|(index, program)| is_loaded(index) && prints(program)) {
        let pipe = TracePipe::open().and_then(|mut pipe| pipe.discard().map(|()| pipe));
        match pipe {
            Ok(pipe) => {
                if pipe.is_stopped() {
                    warnings.push(
                        "lines of bpf_printk do not come: the kernel's trace is stopped (by another tracer, or by an oops of the \
                         kernel); `echo 1 > /sys/kernel/tracing/tracing_on` as root starts it"
                            .to_owned(),
                    );
                }
                reader.add_pipe(pipe);
            }
            // The programs run all the same; only their lines cannot be shown.
            Err(error) => warnings.push(format!("lines of bpf_printk cannot be shown: {error}")),
        }
    }
    Ok(reader)
}

/// Whether a program calls `bpf_trace_printk` or `bpf_trace_vprintk`. Source: `enum bpf_func_id`.
fn prints(program: &ProgramSpec) -> bool {
    const CALL: u8 = 0x85;
    const TRACE_PRINTK: i32 = 6;
    const TRACE_VPRINTK: i32 = 177;
    program.insns.iter().any(|i| i.opcode == CALL && i.src == 0 && matches!(i.imm, TRACE_PRINTK | TRACE_VPRINTK))
}

impl KernelSession {
    fn map(&self, index: MapIdx) -> Result<&Map, Error> {
        self.loaded.map(index).ok_or(Error::NoMap(index.0))
    }
}

impl Session for KernelSession {
    fn spec(&self) -> &ObjectSpec {
        &self.spec
    }

    fn programs(&self) -> Vec<ProgramIdx> {
        (0..self.spec.programs.len()).map(ProgramIdx).filter(|index| self.loaded.program(*index).is_some()).collect()
    }

    fn log(&self, program: ProgramIdx) -> Option<&str> {
        self.loaded.program(program).map(|program| program.log()).filter(|log| !log.is_empty())
    }

    fn attach(&mut self, program: ProgramIdx, options: &AttachOptions) -> Result<Attached, Error> {
        let loaded = self.loaded.program(program).ok_or(Error::NoProgram(program.0))?;
        let spec = self.spec.programs.get(program.0).ok_or(Error::NoProgram(program.0))?;
        let defaults = attach::AttachOptions::default();
        let options = attach::AttachOptions {
            interface: options.interface.clone(),
            cgroup: options.cgroup.clone(),
            pid: options.pid,
            sampling: options.sampling.as_ref().map_or(defaults.sampling, |sampling| attach::Sampling {
                event: sampling.event.clone(),
                rate: Rate::FrequencyHz(sampling.frequency_hz),
            }),
            classic_tc: options.classic_tc,
            ..attach::AttachOptions::default()
        };
        let links = attach::attach(loaded, &spec.hook, &options)?;
        // A perf_event program has a link on each CPU; one of them tells where.
        let place = links.first().map(|link| link.place().to_owned()).unwrap_or_default();
        let note = links.iter().find_map(|link| link.note().map(str::to_owned));
        let leftover = links.iter().find_map(Link::leftover);
        let iterates = matches!(spec.hook.target, Target::Iter(_));
        if iterates {
            self.iterators.push((program, self.links.len()));
        }
        self.links.extend(links);
        Ok(Attached { program, place, note, leftover, iterates })
    }

    fn iterate(
        &mut self,
        program: ProgramIdx,
        sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let at = self.iterators.iter().find(|(iterator, _)| *iterator == program).map(|(_, at)| *at);
        let link = at.and_then(|at| self.links.get(at)).ok_or(Error::NoProgram(program.0))?;
        iter::run(link, sink).map_err(|cause| Error::map("run", link.place(), cause))
    }

    fn settled(&mut self) {
        self.loaded.keep_pins();
    }

    fn detach(&mut self) {
        self.iterators.clear();
        self.links.clear();
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize, Error> {
        let polled = self.reader.poll(timeout, &mut |report| match report {
            Report::Record { buffer, cpu, data, .. } => sink(Event::Record { map: MapIdx(buffer), cpu, data }),
            Report::Lost { buffer, count, .. } => sink(Event::Lost { map: MapIdx(buffer), count }),
            Report::Print(print) => {
                sink(Event::Print { task: &print.task, pid: print.pid, cpu: print.cpu, text: &print.text });
            }
            Report::LostLines { count, .. } => sink(Event::PrintsLost { count }),
            // In the common trace: the rest of a print with line ends in it, or another tracer's line; nothing tells which.
            Report::OtherLine(_) => {}
        });
        polled.map_err(|cause| Error::map("wait for", "records", cause))
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn is_readable(&self, map: MapIdx) -> bool {
        self.loaded.map(map).is_some_and(Map::is_readable)
    }

    fn read_map(&self, map: MapIdx, limit: usize) -> Result<Contents, Error> {
        let map = self.map(map)?;
        read_kernel_map(map, limit).map_err(|cause| Error::map("read map", map.name(), cause))
    }
}

/// Reads up to `limit` entries of a map in the kernel. Of an array with more entries than that, those that are all zeros
/// are left out: they say nothing, and the others may stand at the end.
pub fn read_kernel_map(map: &Map, limit: usize) -> skep_kernel::Result<Contents> {
    // Source: `enum bpf_map_type`.
    const ARRAY: u32 = 2;
    const PERCPU_ARRAY: u32 = 6;
    let mut contents = Contents { per_cpu: map.is_per_cpu(), ..Contents::default() };
    let is_array = map.map_type().is_some_and(|ty| matches!(ty.as_u32(), ARRAY | PERCPU_ARRAY));
    let sparse = is_array && map.max_entries() as usize > limit;
    for entry in map.iter() {
        let (key, value) = entry?;
        if sparse && value.iter().all(|&byte| byte == 0) {
            continue;
        }
        if contents.entries.len() == limit {
            contents.more = true;
            break;
        }
        let values = match contents.per_cpu {
            true => map.per_cpu(&value).map(<[u8]>::to_vec).collect(),
            false => vec![value],
        };
        contents.entries.push(Entry { key, values });
    }
    Ok(contents)
}
