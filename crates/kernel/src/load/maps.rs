//! Maps of an object: made, or adopted from their pins, and filled.

use super::{LoadError, LoadOptions};
use crate::error::{Error, Result};
use crate::map::{Map, MapParams, Update};
use crate::{BtfObject, cpu, pin, sys};
use skep_abi::MapType;
use skep_object::{InitialValue, MapOrigin, MapSpec, ObjectSpec};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Map creation flags. Source: `BPF_F_*` in `include/uapi/linux/bpf.h`.
const F_RDONLY_PROG: u32 = 1 << 7;
const F_MMAPABLE: u32 = 1 << 10;

/// Pins made by this load; removed again unless they are kept.
#[derive(Debug, Default)]
pub(crate) struct Pins(Vec<PathBuf>);

impl Pins {
    /// They stay.
    pub(crate) fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for path in &self.0 {
            // Nothing better can be done about a pin that does not go; the error that brought us here is told.
            let _ = pin::unpin(path);
        }
    }
}

/// Makes every map of the object, in its order, and fills it.
pub(crate) fn create_all(
    spec: &ObjectSpec,
    btf: Option<&BtfObject>,
    options: &LoadOptions,
    pins: &mut Pins,
) -> Result<Vec<Map>, LoadError> {
    let mut maps = Vec::with_capacity(spec.maps.len());
    for map in &spec.maps {
        let made = obtain(map, btf, options, pins).map_err(|cause| LoadError::Map { name: map.name.clone(), cause })?;
        maps.push(made);
    }
    for (map_spec, map) in spec.maps.iter().zip(&maps) {
        for slot in &map_spec.initial {
            let InitialValue::Map(inner) = slot.value else { continue };
            let Some(inner) = maps.get(inner.0) else { continue };
            map.set_fd(&slot.slot.to_ne_bytes(), inner.as_fd())
                .map_err(|cause| LoadError::Map { name: map_spec.name.clone(), cause })?;
        }
    }
    Ok(maps)
}

fn obtain(spec: &MapSpec, btf: Option<&BtfObject>, options: &LoadOptions, pins: &mut Pins) -> Result<Map> {
    let spec = &settled(spec)?;
    if let Some(given) = options.reuse.get(&spec.name) {
        check_fits(spec, given, "the map given in its place")?;
        return given.try_clone();
    }
    if spec.pin_by_name {
        let path = pin_path(&spec.name, &options.pin_root)?;
        match Map::from_pin(&path) {
            Ok(found) => {
                check_fits(spec, &found, &format!("what is pinned at {}", path.display()))?;
                let fd = found.fd().try_clone_to_owned().map_err(|e| Error::kernel("duplicate map", &spec.name, e))?;
                return Map::from_fd(fd, Some(spec.name.clone()));
            }
            Err(e) if e.errno().is_some_and(|n| n.0 == libc::ENOENT) => {}
            Err(e) => return Err(e),
        }
        let map = create(spec, btf)?;
        fill(spec, &map)?;
        map.pin(&path)?;
        pins.0.push(path);
        return Ok(map);
    }
    let map = create(spec, btf)?;
    fill(spec, &map)?;
    Ok(map)
}

/// Where a map of this name is pinned: right in `root`. The name comes from the object, so that it must not lead elsewhere.
fn pin_path(name: &str, root: &Path) -> Result<PathBuf> {
    if name.contains('/') || matches!(name, "" | "." | "..") {
        return Err(Error::Invalid {
            action: "pin map",
            object: format!("`{}`", name.escape_debug()),
            why: "its name is no file name; rename it, or declare it without `pinning`".into(),
        });
    }
    // A bpffs takes no dots in names.
    Ok(root.join(name.replace('.', "_")))
}

/// What the spec leaves to the loader: sizes that depend on the machine, and those that the kernel fixes. A buffer may
/// declare the type of its records as that of its values; the kernel takes no such sizes.
fn settled(spec: &MapSpec) -> Result<MapSpec> {
    let mut spec = spec.clone();
    match spec.map_type {
        MapType::PerfEventArray => (spec.key_size, spec.value_size) = (4, 4),
        MapType::Ringbuf | MapType::UserRingbuf => (spec.key_size, spec.value_size) = (0, 0),
        _ => {}
    }
    match spec.map_type {
        MapType::PerfEventArray if spec.max_entries == 0 => spec.max_entries = cpu::possible()? as u32,
        MapType::Ringbuf | MapType::UserRingbuf if spec.max_entries > 0 => {
            let page = sys::page_size() as u32;
            spec.max_entries =
                spec.max_entries.checked_next_multiple_of(page).and_then(u32::checked_next_power_of_two).ok_or_else(
                    || Error::Invalid {
                        action: "create map",
                        object: spec.name.clone(),
                        why: format!("a ring buffer of {} bytes is too large", spec.max_entries),
                    },
                )?;
        }
        _ => {}
    }
    if matches!(spec.origin, MapOrigin::Rodata | MapOrigin::Kconfig) {
        spec.flags |= F_RDONLY_PROG;
    }
    Ok(spec)
}

fn create(spec: &MapSpec, btf: Option<&BtfObject>) -> Result<Map> {
    let inner = match &spec.inner {
        Some(inner) => Some(create(&settled(inner)?, btf)?),
        None => None,
    };
    let mut params = MapParams::new(&spec.name, spec.map_type, spec.key_size, spec.value_size, spec.max_entries);
    params.flags = spec.flags;
    params.numa_node = spec.numa_node;
    params.map_extra = spec.map_extra;
    params.inner = inner.as_ref().map(Map::fd);
    if let (Some(btf), Some(value), true) = (btf, spec.value_type, takes_types(spec)) {
        params.btf = Some((btf.fd(), spec.key_type.map_or(0, |id| id.0), value.0));
    }
    let error = match Map::create(&params) {
        Ok(map) => return Ok(map),
        Err(e) => e,
    };
    if !error.errno().is_some_and(|n| matches!(n.0, libc::EINVAL | libc::E2BIG | 524)) {
        return Err(error);
    }
    // The kernel says EINVAL for types that this map type (in this version) does not take, and for flags that came
    // later. Types only help inspection, except where the value holds kernel-managed fields: without types the verifier
    // then refuses the program with its own words.
    if params.btf.take().is_some()
        && let Ok(map) = Map::create(&params)
    {
        return Ok(map);
    }
    if spec.origin != MapOrigin::Declared && params.flags & F_MMAPABLE != 0 {
        params.flags &= !F_MMAPABLE;
        if let Ok(map) = Map::create(&params) {
            return Ok(map);
        }
    }
    Err(error)
}

/// Whether the kernel takes types for keys and values of this map. Source: the `map_check_btf` operations under
/// `kernel/bpf/`; maps without one refuse.
fn takes_types(spec: &MapSpec) -> bool {
    let data = spec.data.is_some();
    (data || spec.key_type.is_some() || spec.key_size == 0)
        && !matches!(
            spec.map_type,
            MapType::PerfEventArray
                | MapType::CgroupArray
                | MapType::StackTrace
                | MapType::ArrayOfMaps
                | MapType::HashOfMaps
                | MapType::Devmap
                | MapType::DevmapHash
                | MapType::Cpumap
                | MapType::Xskmap
                | MapType::Sockmap
                | MapType::Sockhash
                | MapType::Queue
                | MapType::Stack
                | MapType::Ringbuf
                | MapType::UserRingbuf
                | MapType::BloomFilter
                | MapType::Arena
                | MapType::ProgArray
        )
}

fn fill(spec: &MapSpec, map: &Map) -> Result<()> {
    let frozen = matches!(spec.origin, MapOrigin::Rodata | MapOrigin::Kconfig);
    if let Some(data) = &spec.data {
        // A new map is all zeros.
        if data.iter().any(|b| *b != 0) {
            let mut value = vec![0; map.value_len()];
            let len = value.len().min(data.len());
            value[..len].copy_from_slice(&data[..len]);
            map.update(&0u32.to_ne_bytes(), &value, Update::Any)?;
        }
    }
    if frozen {
        match map.freeze() {
            // Before 5.2 there is no freezing; programs still cannot write.
            Err(e) if e.errno().is_some_and(|n| n.0 == libc::EINVAL) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Whether a map that is there already can stand in for the one that the object declares.
fn check_fits(spec: &MapSpec, found: &Map, what: &str) -> Result<()> {
    let info = found.info()?;
    // The kernel adds this flag to device maps by itself.
    let ignored = match spec.map_type {
        MapType::Devmap | MapType::DevmapHash => F_RDONLY_PROG,
        _ => 0,
    };
    let kind = info.map_type.map_or_else(|| format!("type {}", info.raw_type), |t| t.to_string());
    let differs: Vec<String> = [
        (info.raw_type != spec.map_type.as_u32()).then(|| format!("type {kind}, not {}", spec.map_type)),
        (info.key_size != spec.key_size).then(|| format!("key size {}, not {}", info.key_size, spec.key_size)),
        (info.value_size != spec.value_size)
            .then(|| format!("value size {}, not {}", info.value_size, spec.value_size)),
        (info.max_entries != spec.max_entries)
            .then(|| format!("max_entries {}, not {}", info.max_entries, spec.max_entries)),
        ((info.flags ^ spec.flags) & !ignored != 0).then(|| format!("flags {:#x}, not {:#x}", info.flags, spec.flags)),
        (info.map_extra != spec.map_extra).then(|| format!("map_extra {}, not {}", info.map_extra, spec.map_extra)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if differs.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid {
        action: "adopt map",
        object: spec.name.clone(),
        why: format!("{what} has {}; unpin it, or make the declaration agree", differs.join(", ")),
    })
}
