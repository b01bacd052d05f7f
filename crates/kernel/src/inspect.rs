//! Everything that is loaded on this machine: programs, maps, links, BTF objects, and which processes hold them.
//!
//! ```no_run
//! for program in skep_kernel::inspect::programs()? {
//!     println!("{} {}", program.id, program.name);
//! }
//! # Ok::<(), skep_kernel::Error>(())
//! ```
//!
//! Takes CAP_SYS_ADMIN. The list is no snapshot: what goes away while it is made is left out, what comes may be missing.
//! At most [`LIMIT`] objects of a kind are listed.

use crate::error::{Error, Result};
use crate::info::{self, BtfInfo, Fields, MapInfo, ProgramInfo};
use crate::sys::obj::{self, Kind, LinkText};
use crate::{privilege, sys};
use skep_abi::{AttachType, LinkType};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Most objects of a kind that are listed.
pub const LIMIT: usize = 1 << 20;

/// Every program, by id.
pub fn programs() -> Result<Vec<ProgramInfo>> {
    all(Kind::Program, "programs", info::program_info)
}

/// Every map, by id.
pub fn maps() -> Result<Vec<MapInfo>> {
    all(Kind::Map, "maps", info::map_info)
}

/// Every link, by id.
pub fn links() -> Result<Vec<LinkInfo>> {
    all(Kind::Link, "links", link_info)
}

/// Every BTF object, by id: the kernel's, its modules', and those of programs.
pub fn btf_objects() -> Result<Vec<BtfInfo>> {
    all(Kind::Btf, "BTF objects", info::btf_info)
}

fn all<T>(kind: Kind, what: &'static str, ask: impl Fn(BorrowedFd<'_>) -> Result<T>) -> Result<Vec<T>> {
    let mut found = Vec::new();
    let mut id = 0;
    while found.len() < LIMIT {
        match obj::next_id(kind, id) {
            Ok(Some(next)) => id = next,
            Ok(None) => break,
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                let (missing, next) = privilege::diagnose(&["CAP_SYS_ADMIN"]);
                return Err(Error::Permission { action: "list", object: what.into(), missing, next });
            }
            Err(e) => return Err(Error::kernel("list", what, e)),
        }
        match obj::open_id(kind, id) {
            Ok(fd) => found.push(ask(fd.as_fd())?),
            // Gone meanwhile, or going.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EAGAIN)) => {}
            Err(e) => return Err(Error::kernel("open", format!("{what} id {id}"), e)),
        }
    }
    Ok(found)
}

/// What the kernel tells about a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkInfo {
    /// Id.
    pub id: u32,
    /// Number of the type.
    pub raw_type: u32,
    /// The type, `None` for one newer than this program.
    pub link_type: Option<LinkType>,
    /// The program; 0 for struct_ops links.
    pub program_id: u32,
    /// Where it is attached.
    pub place: LinkPlace,
}

/// Where a link is attached. Attach types are `None` where the number is newer than this program.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LinkPlace {
    /// A raw tracepoint.
    RawTracepoint {
        /// Its name.
        name: String,
    },
    /// A function, BTF tracepoint or LSM hook by BTF id; another program's function for freplace.
    Tracing {
        /// Kind.
        attach_type: Option<AttachType>,
        /// BTF object, or the program for freplace; 0 before 5.13.
        target_object: u32,
        /// Type in it.
        target_btf_id: u32,
        /// Cookie (6.17).
        cookie: u64,
    },
    /// A cgroup.
    Cgroup {
        /// Its id: the inode number of its directory.
        cgroup_id: u64,
        /// Kind.
        attach_type: Option<AttachType>,
    },
    /// An iterator.
    Iter {
        /// What it walks, such as `task` or `bpf_map_elem`.
        target: String,
        /// The map, for iterators over elements of one; else 0.
        map_id: u32,
    },
    /// A network namespace.
    Netns {
        /// Inode number.
        inode: u32,
        /// Kind.
        attach_type: Option<AttachType>,
    },
    /// XDP.
    Xdp {
        /// Interface, 0 when it is gone.
        ifindex: u32,
    },
    /// A perf event: kprobe, uprobe, tracepoint, counter.
    PerfEvent(PerfEventPlace),
    /// Many kprobes.
    KprobeMulti {
        /// How many functions.
        count: u32,
        /// At their returns.
        ret: bool,
        /// Runs that were missed.
        missed: u64,
    },
    /// Many uprobes.
    UprobeMulti {
        /// The binary.
        path: String,
        /// How many offsets.
        count: u32,
        /// At their returns.
        ret: bool,
        /// Only in this process; 0 for all.
        pid: u32,
    },
    /// A struct_ops map.
    StructOps {
        /// Id of the map.
        map_id: u32,
    },
    /// Netfilter.
    Netfilter {
        /// Protocol family, `NFPROTO_*`.
        family: u32,
        /// `NF_INET_*` hook.
        hook: u32,
        /// Order among the programs of the hook.
        priority: i32,
    },
    /// tcx.
    Tcx {
        /// Interface, 0 when it is gone.
        ifindex: u32,
        /// Ingress or egress.
        attach_type: Option<AttachType>,
    },
    /// netkit.
    Netkit {
        /// Interface, 0 when it is gone.
        ifindex: u32,
        /// Primary or peer.
        attach_type: Option<AttachType>,
    },
    /// A socket map.
    Sockmap {
        /// Id of the map.
        map_id: u32,
        /// Kind.
        attach_type: Option<AttachType>,
    },
    /// A type that is newer than this program, or of which the kernel tells nothing.
    Unknown,
}

/// What a perf event link is at (6.6; before that the kernel does not tell).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PerfEventPlace {
    /// A kprobe.
    Kprobe {
        /// Function, empty when the kernel does not tell.
        function: String,
        /// Bytes from its start.
        offset: u32,
        /// Address, 0 without CAP_SYSLOG.
        address: u64,
        /// At its return.
        ret: bool,
        /// Runs that were missed.
        missed: u64,
    },
    /// A uprobe.
    Uprobe {
        /// The binary.
        file: String,
        /// Bytes from the start of the file.
        offset: u32,
        /// At its return.
        ret: bool,
    },
    /// A tracepoint.
    Tracepoint {
        /// Its name without the category.
        name: String,
    },
    /// A counter.
    Event {
        /// `PERF_TYPE_*`
        kind: u32,
        /// `config` of the event.
        config: u64,
    },
    /// The kernel does not tell.
    Unknown,
}

/// `BPF_F_KPROBE_MULTI_RETURN`, `BPF_F_UPROBE_MULTI_RETURN`
const F_MULTI_RETURN: u32 = 1;

/// Where the union of `bpf_link_info` begins.
const UNION: usize = 16;

/// Asks about one link.
pub fn link_info(fd: BorrowedFd<'_>) -> Result<LinkInfo> {
    let ask = |text| obj::link_info(fd, text).map_err(|e| Error::kernel("ask about", "a link", e));
    let (bytes, _) = ask(None)?;
    let f = Fields(&bytes);
    let raw_type = f.u32(0);
    let link_type = LinkType::from_u32(raw_type);
    let attach = |at: usize| AttachType::from_u32(f.u32(at));
    let text_at = |address_at, len_at| ask(Some(LinkText { address_at, len_at })).map(|(_, room)| info::text(&room));
    let place = match link_type {
        Some(LinkType::RawTracepoint) => LinkPlace::RawTracepoint { name: text_at(UNION, 24)? },
        Some(LinkType::Tracing) => LinkPlace::Tracing {
            attach_type: attach(UNION),
            target_object: f.u32(20),
            target_btf_id: f.u32(24),
            cookie: f.u64(32),
        },
        Some(LinkType::Cgroup) => LinkPlace::Cgroup { cgroup_id: f.u64(UNION), attach_type: attach(24) },
        Some(LinkType::Iter) => LinkPlace::Iter { target: text_at(UNION, 24)?, map_id: f.u32(28) },
        Some(LinkType::Netns) => LinkPlace::Netns { inode: f.u32(UNION), attach_type: attach(20) },
        Some(LinkType::Xdp) => LinkPlace::Xdp { ifindex: f.u32(UNION) },
        Some(LinkType::PerfEvent) => LinkPlace::PerfEvent(perf_event(&f, text_at)?),
        Some(LinkType::KprobeMulti) => {
            LinkPlace::KprobeMulti { count: f.u32(24), ret: f.u32(28) & F_MULTI_RETURN != 0, missed: f.u64(32) }
        }
        Some(LinkType::UprobeMulti) => LinkPlace::UprobeMulti {
            path: text_at(UNION, 48)?,
            count: f.u32(52),
            ret: f.u32(56) & F_MULTI_RETURN != 0,
            pid: f.u32(60),
        },
        Some(LinkType::StructOps) => LinkPlace::StructOps { map_id: f.u32(UNION) },
        Some(LinkType::Netfilter) => {
            LinkPlace::Netfilter { family: f.u32(UNION), hook: f.u32(20), priority: f.u32(24) as i32 }
        }
        Some(LinkType::Tcx) => LinkPlace::Tcx { ifindex: f.u32(UNION), attach_type: attach(20) },
        Some(LinkType::Netkit) => LinkPlace::Netkit { ifindex: f.u32(UNION), attach_type: attach(20) },
        Some(LinkType::Sockmap) => LinkPlace::Sockmap { map_id: f.u32(UNION), attach_type: attach(20) },
        _ => LinkPlace::Unknown,
    };
    Ok(LinkInfo { id: f.u32(4), raw_type, link_type, program_id: f.u32(8), place })
}

/// Source: `enum bpf_perf_event_type`.
fn perf_event(f: &Fields<'_>, text_at: impl Fn(usize, usize) -> Result<String>) -> Result<PerfEventPlace> {
    Ok(match f.u32(UNION) {
        kind @ (1 | 2) => PerfEventPlace::Uprobe { file: text_at(24, 32)?, offset: f.u32(36), ret: kind == 2 },
        kind @ (3 | 4) => PerfEventPlace::Kprobe {
            function: text_at(24, 32)?,
            offset: f.u32(36),
            address: f.u64(40),
            missed: f.u64(48),
            ret: kind == 4,
        },
        5 => PerfEventPlace::Tracepoint { name: text_at(24, 32)? },
        6 => PerfEventPlace::Event { config: f.u64(24), kind: f.u32(32) },
        _ => PerfEventPlace::Unknown,
    })
}

/// A process that holds an object open.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Owner {
    /// Process id, in this process's namespace.
    pub pid: u32,
    /// Name of the process, at most 15 bytes (`/proc/PID/comm`).
    pub name: String,
}

/// Which processes hold which objects open, by id.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// By program id.
    pub programs: HashMap<u32, Vec<Owner>>,
    /// By map id.
    pub maps: HashMap<u32, Vec<Owner>>,
    /// By link id.
    pub links: HashMap<u32, Vec<Owner>>,
    /// By BTF object id.
    pub btf_objects: HashMap<u32, Vec<Owner>>,
}

/// Looks through the descriptors of every process for BPF objects, by `/proc/PID/fdinfo`. Processes that may not be
/// looked at are left out.
pub fn owners() -> Owners {
    let mut owners = Owners::default();
    let Ok(processes) = std::fs::read_dir("/proc") else { return owners };
    for process in processes.flatten() {
        if let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) {
            look(pid, &process.path(), &mut owners);
        }
    }
    owners
}

fn look(pid: u32, process: &Path, owners: &mut Owners) {
    let Ok(descriptors) = std::fs::read_dir(process.join("fd")) else { return };
    let mut owner = None;
    for descriptor in descriptors.flatten() {
        let Some(kind) = std::fs::read_link(descriptor.path()).ok().and_then(|t| sys::kind_of_target(t.to_str()?))
        else {
            continue;
        };
        let Ok(text) = std::fs::read_to_string(process.join("fdinfo").join(descriptor.file_name())) else { continue };
        let (field, known) = match kind {
            Kind::Program => ("prog_id:", &mut owners.programs),
            Kind::Map => ("map_id:", &mut owners.maps),
            Kind::Link => ("link_id:", &mut owners.links),
            Kind::Btf => ("btf_id:", &mut owners.btf_objects),
        };
        let Some(id) = text.lines().find_map(|l| l.strip_prefix(field)?.trim().parse().ok()) else { continue };
        let owner = owner.get_or_insert_with(|| {
            let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
            Owner { pid, name: name.trim_end().to_owned() }
        });
        let held: &mut Vec<Owner> = known.entry(id).or_default();
        if held.last() != Some(owner) {
            held.push(owner.clone());
        }
    }
}

/// What is pinned below a directory of a BPF file system: path, kind and id. Takes no more than [`LIMIT`] entries.
pub fn pins(root: &Path) -> Result<Vec<PinInfo>> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let entries = std::fs::read_dir(&dir).map_err(|e| Error::file("list", &dir, e))?;
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(t) if t.is_dir() && todo.len() < LIMIT => todo.push(path),
                Ok(t) if t.is_file() && found.len() < LIMIT => found.extend(pinned(&path)),
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Something that is pinned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinInfo {
    /// Where.
    pub path: std::path::PathBuf,
    /// What.
    pub object: Pinned,
}

/// What is pinned, by id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pinned {
    /// A program.
    Program(u32),
    /// A map.
    Map(u32),
    /// A link.
    Link(u32),
}

fn pinned(path: &Path) -> Option<PinInfo> {
    let fd: OwnedFd = crate::pin::get(path).ok()?;
    let object = match sys::fd_kind(fd.as_fd())? {
        Kind::Program => Pinned::Program(info::program_info(fd.as_fd()).ok()?.id),
        Kind::Map => Pinned::Map(info::map_info(fd.as_fd()).ok()?.id),
        Kind::Link => Pinned::Link(link_info(fd.as_fd()).ok()?.id),
        Kind::Btf => return None,
    };
    Some(PinInfo { path: path.to_path_buf(), object })
}
