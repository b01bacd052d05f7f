//! The running Linux kernel as an engine.
use crate::{AttachOptions, Attached, Contents, Engine, Entry, Error, Event, LoadOptions, Session};
use skep_kernel::attach::{self, Rate};
use skep_kernel::load::{self, Loaded, Selection};
use skep_kernel::{Link, LogLevel, Map};
use skep_object::{MapIdx, ObjectSpec, ProgramIdx};
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
        Ok(Box::new(KernelSession { links: Vec::new(), loaded, spec }))
    }
}

/// What stands loaded in the kernel. Fields drop in order: attachments end before programs and maps go.
struct KernelSession {
    links: Vec<Link>,
    loaded: Loaded,
    spec: ObjectSpec,
}

impl KernelSession {
    fn map(&self, index: MapIdx) -> Result<&Map, Error> {
        self.loaded.map(index).ok_or_else(|| Error::NoMap(index.0))
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
        self.links.extend(links);
        Ok(Attached { place, note, output: None })
    }

    fn poll(&mut self, _timeout: Duration, _sink: &mut dyn FnMut(Event<'_>)) -> Result<usize, Error> {
        Ok(0)
    }

    fn is_readable(&self, map: MapIdx) -> bool {
        self.loaded.map(map).is_some_and(Map::is_readable)
    }

    fn read_map(&self, map: MapIdx, limit: usize) -> Result<Contents, Error> {
        let map = self.map(map)?;
        read_kernel_map(map, limit).map_err(|cause| Error::Map { action: "read map", object: map.name().to_owned(), cause })
    }
}

/// Reads up to `limit` entries of a map in the kernel.
pub fn read_kernel_map(map: &Map, limit: usize) -> skep_kernel::Result<Contents> {
    let mut contents = Contents { per_cpu: map.is_per_cpu(), ..Contents::default() };
    for entry in map.iter() {
        let (key, value) = entry?;
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
