//! `skep dump`: what a loaded map holds, decoded by the types that were loaded with it.

use crate::args::{DumpArgs, Format};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::view::map::{Facts, GlobalsView, MapView};
use skep_btf::{Btf, Type, TypeId};
use skep_engine::Contents;
use skep_kernel::{BtfObject, Map, inspect};
use skep_object::VarSpec;
use std::path::Path;

/// Entries that are read at most; a larger map says that there is more.
const MOST_ENTRIES: usize = 10_000_000;

/// Prints a map.
pub(crate) fn dump(args: &DumpArgs) -> Result<(), Failure> {
    let map = open(&args.map)?;
    let info = map.info().map_err(|error| Failure::new(Exit::from(error.class()), error))?;
    let Some(map_type) = info.map_type.filter(|_| map.is_readable()) else {
        let kind = info.map_type.map_or_else(|| format!("type {}", info.raw_type), |ty| ty.short_name().to_owned());
        return Err(Failure::say(
            Exit::NotSo,
            format!("dump {}: a map of {kind} holds nothing that can be read from outside", args.map),
        ));
    };
    // A map without types is dumped as bytes; so is one whose types may not be read.
    let btf = match info.btf_id {
        0 => None,
        id => BtfObject::from_id(id).and_then(|object| object.read()).ok(),
    };
    let contents = skep_engine::read_kernel_map(&map, MOST_ENTRIES)
        .map_err(|error| Failure::new(Exit::from(error.class()), error))?;
    let mut out = Output::new();
    let value_type = Some(TypeId(info.btf_value_type_id)).filter(|ty| *ty != TypeId::VOID);
    let globals = btf.as_ref().zip(value_type).and_then(|(btf, ty)| globals(btf, ty));
    match globals {
        Some(view) => {
            let data = contents.entries.first().and_then(|entry| entry.values.first()).cloned().unwrap_or_default();
            match args.format {
                Format::Text => out.text(&view.text(&data)),
                Format::Json => view.json(&data).iter().for_each(|object| out.json(object)),
            }
        }
        None => {
            let view = MapView::new(&Facts {
                name: if info.name.is_empty() { &args.map } else { &info.name },
                map_type,
                key_size: info.key_size,
                value_size: info.value_size,
                max_entries: info.max_entries,
                btf: btf.as_ref(),
                key_type: Some(TypeId(info.btf_key_type_id)),
                value_type,
            });
            print(&mut out, args, &view, &contents);
        }
    }
    out.end()
}

fn print(out: &mut Output, args: &DumpArgs, view: &MapView, contents: &Contents) {
    match args.format {
        Format::Text => {
            let text = view.text(contents, args.top);
            out.text(if text.is_empty() { "(empty)\n" } else { &text });
        }
        Format::Json => view.json(contents).for_each(|object| out.json(&object)),
    }
}

/// The variables of a data section's map, all of them: also those that `skep run` leaves out as the program's own.
fn globals(btf: &Btf, ty: TypeId) -> Option<GlobalsView> {
    let Type::Datasec(section) = btf.get(ty).ok()? else { return None };
    let vars = section.vars.iter().filter_map(|var| match btf.get(var.ty).ok()? {
        Type::Var { name, target, .. } => {
            Some(VarSpec { name: name.to_owned(), offset: var.offset, size: var.size, ty: target, is_static: false })
        }
        _ => None,
    });
    Some(GlobalsView::new(Some(btf), &vars.collect::<Vec<_>>()))
}

/// Finds a map by its id, the path of its pin, or its name. A name that several maps have asks for the id.
fn open(wanted: &str) -> Result<Map, Failure> {
    let fail = |error: skep_kernel::Error| match error.errno() {
        // The kernel does not say which right it wants.
        Some(errno) if matches!(errno.name(), Some("EPERM" | "EACCES")) => {
            let (missing, next) = skep_kernel::privilege::diagnose(&["CAP_SYS_ADMIN"]);
            Failure::say(Exit::Unavailable, format!("dump {wanted}: not permitted: {missing}; {next}"))
        }
        Some(errno) if errno.name() == Some("ENOENT") => {
            Failure::say(Exit::NotSo, format!("dump {wanted}: there is no such map; `skep ps maps` lists them"))
        }
        _ => Failure::new(Exit::from(error.class()), error),
    };
    if let Ok(id) = wanted.parse::<u32>() {
        return Map::from_id(id).map_err(fail);
    }
    if wanted.contains('/') {
        let path = Path::new(wanted);
        if path.exists() && !skep_kernel::pin::is_bpffs(path) {
            return Err(Failure::say(
                Exit::NotSo,
                format!(
                    "dump {wanted}: it is no pin: it does not lie in a BPF file system; `skep ps maps` shows where maps are pinned"
                ),
            ));
        }
        return Map::from_pin(Path::new(wanted)).map_err(fail);
    }
    let all = inspect::maps().map_err(fail)?;
    // The kernel keeps 15 bytes of a name.
    let short: String = wanted.chars().take(15).collect();
    let found: Vec<_> = all.iter().filter(|map| map.name == short).collect();
    match found.as_slice() {
        [map] => Map::from_id(map.id).map_err(fail),
        [] => {
            let near = all.iter().map(|map| map.name.as_str()).filter(|name| strsim::jaro_winkler(name, wanted) > 0.8);
            let near = near.take(3).collect::<Vec<_>>().join(", ");
            let hint = if near.is_empty() { String::new() } else { format!(" (near: {near})") };
            Err(Failure::say(
                Exit::NotSo,
                format!("dump {wanted}: no map of this name is loaded{hint}; `skep ps maps` lists them"),
            ))
        }
        several => {
            let ids = several.iter().map(|map| map.id.to_string()).collect::<Vec<_>>().join(", ");
            Err(Failure::say(
                Exit::Usage,
                format!("dump {wanted}: several maps have this name; say which by id: {ids}"),
            ))
        }
    }
}
