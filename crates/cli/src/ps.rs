//! `skep ps`: the programs, maps and links that are loaded on this machine, and who holds them.

use crate::args::{Format, PsArgs, PsWhat};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::view::layout::show_time;
use crate::view::table::{self, Column};
use serde_json::{Value, json};
use skep_abi::AttachType;
use skep_btf::{Btf, Type, TypeId};
use skep_kernel::info::{MapInfo, ProgramInfo};
use skep_kernel::inspect::{self, LinkInfo, LinkPlace, Owner, Owners, PerfEventPlace, PinInfo, Pinned};
use skep_kernel::{BtfObject, Program};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// Where pins are looked for.
const BPFFS: &str = "/sys/fs/bpf";

/// Everything that is listed.
struct Inventory {
    programs: Vec<ProgramInfo>,
    maps: Vec<MapInfo>,
    links: Vec<LinkInfo>,
    owners: Owners,
    pins: Vec<PinInfo>,
    kernel_types: OnceCell<Option<Btf>>,
}

/// Lists.
pub(crate) fn ps(args: &PsArgs) -> Result<(), Failure> {
    let fail = |error: skep_kernel::Error| Failure::new(Exit::from(error.class()), error);
    let inventory = Inventory {
        programs: inspect::programs().map_err(fail)?,
        maps: inspect::maps().map_err(fail)?,
        links: inspect::links().map_err(fail)?,
        owners: inspect::owners(),
        // Nothing is pinned where no BPF file system is mounted.
        pins: if skep_kernel::pin::is_bpffs(Path::new(BPFFS)) {
            inspect::pins(Path::new(BPFFS)).unwrap_or_default()
        } else {
            Vec::new()
        },
        kernel_types: OnceCell::new(),
    };
    let mut out = Output::new();
    let wanted = |what| args.what.is_none_or(|only| only == what);
    match args.format {
        Format::Text => out.text(&inventory.text(&wanted)),
        Format::Json => inventory.json(&wanted).iter().for_each(|object| out.json(object)),
    }
    out.end()
}

impl Inventory {
    fn text(&self, wanted: &dyn Fn(PsWhat) -> bool) -> String {
        let mut parts = Vec::new();
        if wanted(PsWhat::Programs) {
            let columns = [
                Column::number("id"),
                Column::text("type"),
                Column::text("program"),
                Column::text("attached to"),
                Column::text("maps"),
                Column::number("insns"),
                Column::number("runs"),
                Column::number("time"),
                Column::text("held by"),
            ];
            let rows = self.programs.iter().map(|program| {
                let places: Vec<String> = self
                    .links
                    .iter()
                    .filter(|link| link.program_id == program.id)
                    .map(|link| self.place(link))
                    .collect();
                let counted = |text: String| if program.run_count > 0 { text } else { "-".to_owned() };
                vec![
                    program.id.to_string(),
                    program_type(program),
                    full_name(program),
                    some(&places.join(", ")),
                    some(&program.map_ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
                    (program.xlated_len / 8).to_string(),
                    counted(program.run_count.to_string()),
                    counted(show_time(program.run_time_ns.into())),
                    self.held(self.owners.programs.get(&program.id), Pinned::Program(program.id)),
                ]
            });
            parts.push(listing("no programs are loaded", &columns, rows.collect()));
        }
        if wanted(PsWhat::Maps) {
            let columns = [
                Column::number("id"),
                Column::text("type"),
                Column::text("map"),
                Column::number("key"),
                Column::number("value"),
                Column::number("max entries"),
                Column::text("flags"),
                Column::text("held by"),
            ];
            let rows = self.maps.iter().map(|map| {
                vec![
                    map.id.to_string(),
                    map_type(map),
                    some(&map.name),
                    map.key_size.to_string(),
                    map.value_size.to_string(),
                    map.max_entries.to_string(),
                    if map.flags == 0 { "-".to_owned() } else { format!("{:#x}", map.flags) },
                    self.held(self.owners.maps.get(&map.id), Pinned::Map(map.id)),
                ]
            });
            parts.push(listing("no maps are loaded", &columns, rows.collect()));
        }
        if wanted(PsWhat::Links) {
            let columns = [
                Column::number("id"),
                Column::text("type"),
                Column::text("link to"),
                Column::text("program"),
                Column::text("held by"),
            ];
            let rows = self.links.iter().map(|link| {
                let program = self.programs.iter().find(|program| program.id == link.program_id);
                vec![
                    link.id.to_string(),
                    link_type(link),
                    self.place(link),
                    program.map_or_else(|| link.program_id.to_string(), |p| format!("{} ({})", full_name(p), p.id)),
                    self.held(self.owners.links.get(&link.id), Pinned::Link(link.id)),
                ]
            });
            parts.push(listing("nothing is attached by a link", &columns, rows.collect()));
        }
        parts.join("\n")
    }

    fn json(&self, wanted: &dyn Fn(PsWhat) -> bool) -> Vec<Value> {
        let mut objects = Vec::new();
        if wanted(PsWhat::Programs) {
            objects.extend(self.programs.iter().map(|program| {
                let links = self.links.iter().filter(|link| link.program_id == program.id);
                json!({
                    "kind": "program",
                    "id": program.id,
                    "type": program_type(program),
                    "name": full_name(program),
                    "tag": program.tag.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
                    "uid": program.uid,
                    "gpl_compatible": program.gpl_compatible,
                    "links": links.map(|link| link.id).collect::<Vec<_>>(),
                    "map_ids": program.map_ids,
                    "btf_id": program.btf_id,
                    "insns": program.xlated_len / 8,
                    "jited_bytes": program.jited_len,
                    "verified_insns": program.verified_insns,
                    "run_count": program.run_count,
                    "run_time_ns": program.run_time_ns,
                    "recursion_misses": program.recursion_misses,
                    "loaded_at_ns": program.load_time_ns,
                    "pids": pids(self.owners.programs.get(&program.id)),
                    "pins": self.pinned(Pinned::Program(program.id)),
                })
            }));
        }
        if wanted(PsWhat::Maps) {
            objects.extend(self.maps.iter().map(|map| {
                json!({
                    "kind": "map",
                    "id": map.id,
                    "type": map_type(map),
                    "name": map.name,
                    "key_bytes": map.key_size,
                    "value_bytes": map.value_size,
                    "max_entries": map.max_entries,
                    "flags": map.flags,
                    "btf_id": map.btf_id,
                    "pids": pids(self.owners.maps.get(&map.id)),
                    "pins": self.pinned(Pinned::Map(map.id)),
                })
            }));
        }
        if wanted(PsWhat::Links) {
            objects.extend(self.links.iter().map(|link| {
                json!({
                    "kind": "link",
                    "id": link.id,
                    "type": link_type(link),
                    "program_id": link.program_id,
                    "place": self.place(link),
                    "pids": pids(self.owners.links.get(&link.id)),
                    "pins": self.pinned(Pinned::Link(link.id)),
                })
            }));
        }
        objects
    }

    fn pinned(&self, object: Pinned) -> Vec<PathBuf> {
        self.pins.iter().filter(|pin| pin.object == object).map(|pin| pin.path.clone()).collect()
    }

    /// Processes by name and id, then pins.
    fn held(&self, owners: Option<&Vec<Owner>>, object: Pinned) -> String {
        let processes = owners.into_iter().flatten().map(|owner| format!("{}({})", owner.name, owner.pid));
        let pins = self.pinned(object).into_iter().map(|path| path.display().to_string());
        some(&processes.chain(pins).collect::<Vec<_>>().join(", "))
    }

    /// Where a link is attached, for people.
    fn place(&self, link: &LinkInfo) -> String {
        let hook = |attach_type: &Option<AttachType>| attach_type.map_or("?", AttachType::short_name);
        let returns = |ret: &bool| if *ret { " return" } else { "" };
        match &link.place {
            LinkPlace::RawTracepoint { name } => format!("raw tracepoint {name}"),
            LinkPlace::Tracing { attach_type, target_object, target_btf_id, .. } => {
                let name =
                    self.target_name(*target_object, *target_btf_id).unwrap_or_else(|| format!("type {target_btf_id}"));
                format!("{} {name}", hook(attach_type))
            }
            LinkPlace::Cgroup { cgroup_id, attach_type } => {
                format!(
                    "{} {}",
                    hook(attach_type),
                    cgroup_path(*cgroup_id).unwrap_or_else(|| format!("cgroup {cgroup_id}"))
                )
            }
            LinkPlace::Iter { target, .. } => format!("iter {target}"),
            LinkPlace::Netns { inode, attach_type } => format!("{} netns {inode}", hook(attach_type)),
            LinkPlace::Xdp { ifindex } => format!("xdp {}", interface(*ifindex)),
            LinkPlace::PerfEvent(PerfEventPlace::Kprobe { function, offset, ret, .. }) => match offset {
                0 => format!("kprobe{} {function}", returns(ret)),
                offset => format!("kprobe{} {function}+{offset:#x}", returns(ret)),
            },
            LinkPlace::PerfEvent(PerfEventPlace::Uprobe { file, offset, ret }) => {
                format!("uprobe{} {file}+{offset:#x}", returns(ret))
            }
            LinkPlace::PerfEvent(PerfEventPlace::Tracepoint { name }) => format!("tracepoint {name}"),
            LinkPlace::PerfEvent(PerfEventPlace::Event { kind, config }) => format!("perf event {kind}:{config}"),
            LinkPlace::PerfEvent(PerfEventPlace::Unknown) => "perf event".to_owned(),
            LinkPlace::KprobeMulti { count, ret, .. } => format!("{count} kprobes{}", returns(ret)),
            LinkPlace::UprobeMulti { path, count, ret, .. } => format!("{count} uprobes{} {path}", returns(ret)),
            LinkPlace::StructOps { map_id } => format!("struct_ops map {map_id}"),
            LinkPlace::Netfilter { family, hook, priority } => {
                format!("netfilter family {family} hook {hook} priority {priority}")
            }
            LinkPlace::Tcx { ifindex, attach_type } | LinkPlace::Netkit { ifindex, attach_type } => {
                format!("{} {}", hook(attach_type), interface(*ifindex))
            }
            LinkPlace::Sockmap { map_id, attach_type } => format!("{} map {map_id}", hook(attach_type)),
            _ => "?".to_owned(),
        }
    }

    /// Name of a function, tracepoint or LSM hook by its BTF id, in the kernel's types or a module's.
    fn target_name(&self, object: u32, id: u32) -> Option<String> {
        let kernel = || self.kernel_types.get_or_init(|| skep_kernel::kernel_btf().ok()).as_ref();
        let module;
        let btf = match BtfObject::from_id(object) {
            Ok(found) if found.info().is_ok_and(|info| info.name != "vmlinux") => {
                module = found.read().ok()?;
                &module
            }
            _ => kernel()?,
        };
        match btf.get(TypeId(id)).ok()? {
            // The prefixes that the kernel puts before tracepoints and LSM hooks say nothing to a person.
            Type::Func { name, .. } => Some(name.strip_prefix("bpf_lsm_").unwrap_or(name).to_owned()),
            Type::Typedef { name, .. } => Some(name.strip_prefix("btf_trace_").unwrap_or(name).to_owned()),
            _ => None,
        }
    }
}

fn listing(none: &str, columns: &[Column], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() { format!("{none}\n") } else { table::set(columns, rows) }
}

fn some(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn pids(owners: Option<&Vec<Owner>>) -> Vec<u32> {
    owners.into_iter().flatten().map(|owner| owner.pid).collect()
}

fn program_type(program: &ProgramInfo) -> String {
    program.prog_type.map_or_else(|| format!("type {}", program.raw_type), |ty| ty.short_name().to_owned())
}

fn map_type(map: &MapInfo) -> String {
    map.map_type.map_or_else(|| format!("type {}", map.raw_type), |ty| ty.short_name().to_owned())
}

fn link_type(link: &LinkInfo) -> String {
    link.link_type.map_or_else(|| format!("type {}", link.raw_type), |ty| ty.short_name().to_owned())
}

/// The kernel keeps 15 bytes of a program's name; its BTF has the rest.
fn full_name(program: &ProgramInfo) -> String {
    if program.name.len() < 15 {
        return some(&program.name);
    }
    let full = Program::from_id(program.id).and_then(|program| program.full_name());
    full.unwrap_or_else(|_| program.name.clone())
}

fn interface(index: u32) -> String {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let found = entries.into_iter().find(|entry| {
        std::fs::read_to_string(entry.path().join("ifindex")).is_ok_and(|text| text.trim() == index.to_string())
    });
    match found {
        Some(entry) => entry.file_name().to_string_lossy().into_owned(),
        // Another namespace's, or gone.
        None => format!("interface {index}"),
    }
}

/// A cgroup's id is the inode number of its directory. At most so many directories are looked at.
fn cgroup_path(id: u64) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    const MOST_DIRECTORIES: usize = 10_000;
    let mut todo = vec![skep_kernel::mounts::cgroup2_root()?];
    let mut looked = 0;
    while let Some(dir) = todo.pop() {
        looked += 1;
        if looked > MOST_DIRECTORIES {
            return None;
        }
        if std::fs::metadata(&dir).is_ok_and(|about| about.ino() == id) {
            return Some(dir.display().to_string());
        }
        let below = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        todo.extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
    None
}
