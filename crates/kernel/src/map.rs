//! Maps: made from parameters, opened by id or from a pin; read, written, walked.
//!
//! Keys and values are bytes, always exactly as long as the map says; a wrong length is an error before the kernel is
//! asked. A per-CPU value is one slot a possible CPU, each rounded up to 8 bytes, see [`Map::value_len`] and
//! [`Map::per_cpu`].
//!
//! ```no_run
//! # use skep_kernel::{Map, MapParams};
//! # use skep_abi::MapType;
//! let map = Map::create(&MapParams::new("counts", MapType::Hash, 4, 8, 1024))?;
//! map.update(&7u32.to_ne_bytes(), &1u64.to_ne_bytes(), skep_kernel::Update::Any)?;
//! assert_eq!(map.lookup(&7u32.to_ne_bytes())?, Some(1u64.to_ne_bytes().to_vec()));
//! # Ok::<(), skep_kernel::Error>(())
//! ```
//!
//! Limits: a walk sees every element that stays in the map all the while; what is added or removed meanwhile may or may
//! not be seen, and an element that moves may be seen twice where the kernel has no batch walk. A walk ends after
//! [`Map::WALK_LIMIT`] steps more than `max_entries`.

use crate::error::{Errno, Error, Result};
use crate::{cpu, info, pin, sys};
use skep_abi::MapType;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What a map is made from. [`MapParams::new`] sets what every map needs, the rest starts at "none".
#[derive(Clone, Debug)]
pub struct MapParams<'a> {
    /// Name; what the kernel takes of it is up to 15 letters, digits, `_` and `.`.
    pub name: &'a str,
    /// Type.
    pub map_type: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value (of one CPU's, for per-CPU maps).
    pub value_size: u32,
    /// Most elements; bytes for ring buffers.
    pub max_entries: u32,
    /// `BPF_F_*` of map creation.
    pub flags: u32,
    /// With `BPF_F_NUMA_NODE`.
    pub numa_node: u32,
    /// Meaning depends on the type.
    pub map_extra: u64,
    /// Interface for maps that are offloaded to a device, else 0.
    pub ifindex: u32,
    /// Template for maps of maps.
    pub inner: Option<BorrowedFd<'a>>,
    /// Types of key and value: BTF object, ids in it.
    pub btf: Option<(BorrowedFd<'a>, u32, u32)>,
    /// Id of the kernel struct that a struct_ops map holds, else 0.
    pub vmlinux_value_type: u32,
}

impl<'a> MapParams<'a> {
    /// The parameters that every map needs.
    pub fn new(name: &'a str, map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> MapParams<'a> {
        MapParams {
            name,
            map_type,
            key_size,
            value_size,
            max_entries,
            flags: 0,
            numa_node: 0,
            map_extra: 0,
            ifindex: 0,
            inner: None,
            btf: None,
            vmlinux_value_type: 0,
        }
    }

    /// What it is, for messages.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} ({}, key {}, value {}, {} entries)",
            self.name, self.map_type, self.key_size, self.value_size, self.max_entries
        )
    }
}

/// Whether an update may make an element, replace one, or both. Source: `BPF_ANY` and friends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u64)]
pub enum Update {
    /// Make or replace.
    #[default]
    Any = 0,
    /// Make; fails with `EEXIST` when it is there.
    NoExist = 1,
    /// Replace; fails with `ENOENT` when it is not there.
    Exist = 2,
}

/// `BPF_F_LOCK`: takes the `bpf_spin_lock` in the value while copying.
const F_LOCK: u64 = 4;

/// A map in the kernel; lives as long as something holds it: this handle, a program, a pin.
#[derive(Debug)]
pub struct Map {
    handle: sys::map::Handle,
    name: String,
    raw_type: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// Bytes that the kernel moves for a value. Source: `bpf_map_value_size` in `kernel/bpf/syscall.c`. 0 for a type that is not
/// known: it could be more than the map says, see [`Map::known`].
fn value_len(raw_type: u32, value_size: u32) -> Result<usize> {
    Ok(match MapType::from_u32(raw_type) {
        Some(t) if is_per_cpu(t) => slot_len(value_size) * cpu::possible()?,
        // What user space gives and gets are descriptors and ids.
        Some(
            MapType::PerfEventArray
            | MapType::ProgArray
            | MapType::CgroupArray
            | MapType::ArrayOfMaps
            | MapType::HashOfMaps,
        ) => 4,
        Some(_) => value_size as usize,
        None => 0,
    })
}

fn slot_len(value_size: u32) -> usize {
    (value_size as usize).next_multiple_of(8)
}

fn is_per_cpu(map_type: MapType) -> bool {
    matches!(
        map_type,
        MapType::PercpuHash | MapType::PercpuArray | MapType::LruPercpuHash | MapType::PercpuCgroupStorage
    )
}

impl Map {
    /// How many steps more than `max_entries` a walk takes before it gives up on a map that changes under it.
    pub const WALK_LIMIT: u64 = 1 << 20;

    /// Makes a map.
    pub fn create(params: &MapParams<'_>) -> Result<Map> {
        let mut attr = sys::map::Create {
            map_type: params.map_type.as_u32(),
            key_size: params.key_size,
            value_size: params.value_size,
            max_entries: params.max_entries,
            map_flags: params.flags,
            inner_map_fd: params.inner.map_or(0, |fd| fd.as_raw_fd() as u32),
            numa_node: params.numa_node,
            name: sys::object_name(params.name),
            ifindex: params.ifindex,
            btf_vmlinux_value_type_id: params.vmlinux_value_type,
            map_extra: params.map_extra,
            ..Default::default()
        };
        if let Some((fd, key, value)) = params.btf {
            attr.btf_fd = fd.as_raw_fd() as u32;
            attr.btf_key_type_id = key;
            attr.btf_value_type_id = value;
        }
        let value_len = value_len(attr.map_type, attr.value_size)?;
        let handle = create_raising_memlock(&attr, value_len).or_else(|error| {
            // Kernels before 4.15 know no names; that is all that the second try leaves out.
            if error.raw_os_error() == Some(libc::E2BIG) || error.raw_os_error() == Some(libc::EINVAL) {
                let nameless = sys::map::Create { name: [0; 16], ..attr };
                if attr.name != nameless.name && !sys::knows_names() {
                    return create_raising_memlock(&nameless, value_len);
                }
            }
            Err(error)
        });
        let handle = handle.map_err(|e| {
            let errno = Errno::of(&e);
            Error::kernel("create map", params.describe(), e).with_next(create_advice(params, errno))
        })?;
        Ok(Map {
            handle,
            name: params.name.to_owned(),
            raw_type: attr.map_type,
            value_size: attr.value_size,
            max_entries: attr.max_entries,
            flags: attr.map_flags,
        })
    }

    /// Opens the map with this id.
    pub fn from_id(id: u32) -> Result<Map> {
        let fd =
            sys::obj::open_id(sys::obj::Kind::Map, id).map_err(|e| Error::kernel("open map", format!("id {id}"), e))?;
        Map::from_fd(fd, None)
    }

    /// Opens the map pinned at `path`.
    pub fn from_pin(path: &Path) -> Result<Map> {
        let fd = pin::get_kind(path, sys::obj::Kind::Map)?;
        Map::from_fd(fd, None)
    }

    /// Takes over a descriptor, which must be a map's. `name` is the full name if the caller knows it (the kernel keeps
    /// only 15 bytes of it).
    pub fn from_fd(fd: OwnedFd, name: Option<String>) -> Result<Map> {
        if sys::fd_kind(fd.as_fd()) != Some(sys::obj::Kind::Map) {
            return Err(Error::Invalid {
                action: "open map",
                object: format!("descriptor {}", fd.as_raw_fd()),
                why: "it is not a map's".into(),
            });
        }
        let info = info::map_info(fd.as_fd())?;
        let value_len = value_len(info.raw_type, info.value_size)?;
        Ok(Map {
            handle: sys::map_handle(fd, info.key_size as usize, value_len),
            name: name.unwrap_or(info.name),
            raw_type: info.raw_type,
            value_size: info.value_size,
            max_entries: info.max_entries,
            flags: info.flags,
        })
    }

    /// Another handle to the same map.
    pub fn try_clone(&self) -> Result<Map> {
        let handle = self.handle.try_clone().map_err(|e| self.error("duplicate map", e))?;
        Ok(Map { handle, name: self.name.clone(), ..*self })
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.handle.fd()
    }

    /// Its name: the full one where it is known, else the kernel's 15 bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type, `None` for one that is newer than this program.
    pub fn map_type(&self) -> Option<MapType> {
        MapType::from_u32(self.raw_type)
    }

    /// The number of its type.
    pub fn raw_type(&self) -> u32 {
        self.raw_type
    }

    /// Bytes of a key.
    pub fn key_size(&self) -> usize {
        self.handle.key_len()
    }

    /// Bytes of a value, of one CPU's for per-CPU maps, as declared.
    pub fn value_size(&self) -> usize {
        self.value_size as usize
    }

    /// Bytes that [`Map::lookup`] returns and [`Map::update`] takes: `value_size`, except for per-CPU maps (one slot of
    /// `value_size` rounded up to 8 for each possible CPU), maps of descriptors (4), and types that are newer than this
    /// program, whose elements cannot be had (0).
    pub fn value_len(&self) -> usize {
        self.handle.value_len()
    }

    /// Most elements; bytes for ring buffers.
    pub fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// `BPF_F_*` of its creation.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Whether user space can walk over its keys and read each value: so not for buffers, queues, filters and storage.
    pub fn is_readable(&self) -> bool {
        use skep_abi::maps::{UserLookup, facts};
        let gives = |lookup| !matches!(lookup, UserLookup::None | UserLookup::Peek | UserLookup::Membership);
        self.map_type().map(facts).is_some_and(|f| f.iterate && gives(f.lookup))
    }

    /// Whether each CPU has a value of its own.
    pub fn is_per_cpu(&self) -> bool {
        self.map_type().is_some_and(is_per_cpu)
    }

    /// What the kernel knows of it.
    pub fn info(&self) -> Result<info::MapInfo> {
        info::map_info(self.fd())
    }

    /// The id that others can open it by.
    pub fn id(&self) -> Result<u32> {
        self.info().map(|i| i.id)
    }

    /// The value of a key, `None` if there is none. For queues and stacks the key is empty and this looks without taking.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.lookup_with(key, 0, false)
    }

    /// [`Map::lookup`] holding the `bpf_spin_lock` in the value, so that no program is half way through changing it.
    pub fn lookup_locked(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.lookup_with(key, F_LOCK, false)
    }

    /// Takes an element out and returns its value, `None` if there was none. Hash tables (5.14), queues, stacks.
    pub fn lookup_and_delete(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.lookup_with(key, 0, true)
    }

    fn lookup_with(&self, key: &[u8], flags: u64, delete: bool) -> Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.value_len()];
        Ok(self.fetch(key, &mut value, flags, delete)?.then_some(value))
    }

    /// [`Map::lookup`] into a buffer of [`Map::value_len`] bytes; whether the key was there.
    pub fn lookup_into(&self, key: &[u8], value: &mut [u8]) -> Result<bool> {
        self.fetch(key, value, 0, false)
    }

    fn fetch(&self, key: &[u8], value: &mut [u8], flags: u64, delete: bool) -> Result<bool> {
        self.known()?;
        self.check("a key", self.key_size(), key.len())?;
        self.check("a value", self.value_len(), value.len())?;
        match self.handle.lookup(key, value, flags, delete) {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(e) => Err(self.error(if delete { "take from map" } else { "read map" }, e)),
        }
    }

    /// Whether a value was put into a bloom filter: `false` is certain, `true` is likely.
    pub fn contains(&self, value: &[u8]) -> Result<bool> {
        // The kernel reads the value here although the command is "lookup"; a copy keeps the interface honest.
        let mut copy = value.to_vec();
        self.fetch(&[], &mut copy, 0, false)
    }

    /// The value of a key of a per-CPU map: one slice of [`Map::value_size`] bytes a possible CPU.
    pub fn per_cpu<'v>(&self, value: &'v [u8]) -> impl Iterator<Item = &'v [u8]> + use<'v> {
        let size = self.value_size();
        value.chunks(slot_len(self.value_size).max(1)).map(move |slot| slot.get(..size).unwrap_or(slot))
    }

    /// Puts one value into every slot of a per-CPU value, for [`Map::update`].
    pub fn spread(&self, value: &[u8]) -> Result<Vec<u8>> {
        self.known()?;
        self.check("a value", self.value_size(), value.len())?;
        let mut all = vec![0; self.value_len()];
        for slot in all.chunks_mut(slot_len(self.value_size).max(1)) {
            if let Some(room) = slot.get_mut(..value.len()) {
                room.copy_from_slice(value);
            }
        }
        Ok(all)
    }

    /// Sets the value of a key. Arrays and hash tables copy; maps of descriptors take a descriptor's number.
    pub fn update(&self, key: &[u8], value: &[u8], how: Update) -> Result<()> {
        self.update_with(key, value, how as u64)
    }

    /// [`Map::update`] holding the `bpf_spin_lock` in the value.
    pub fn update_locked(&self, key: &[u8], value: &[u8], how: Update) -> Result<()> {
        self.update_with(key, value, how as u64 | F_LOCK)
    }

    fn update_with(&self, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        self.known()?;
        self.check("a key", self.key_size(), key.len())?;
        self.check("a value", self.value_len(), value.len())?;
        self.handle.update(key, value, flags).map_err(|e| {
            let errno = Errno::of(&e);
            let error = self.error("write map", e);
            match errno.0 {
                libc::E2BIG => error.with_next(format!("it is full: {} entries", self.max_entries)),
                libc::EPERM => error.with_next("it is frozen or read-only"),
                _ => error,
            }
        })
    }

    /// Sets a slot of a map of descriptors: a program array, a map of maps, a perf event array, a socket map.
    pub fn set_fd(&self, key: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
        let raw = fd.as_raw_fd();
        match self.value_len() {
            8 => self.update(key, &(raw as u64).to_ne_bytes(), Update::Any),
            _ => self.update(key, &raw.to_ne_bytes(), Update::Any),
        }
    }

    /// Removes a key; whether it was there. Arrays cannot.
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        self.known()?;
        self.check("a key", self.key_size(), key.len())?;
        match self.handle.delete(key) {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(e) => Err(self.error("delete from map", e)),
        }
    }

    /// Puts a value into a queue, a stack or a bloom filter. With `make_room` a full queue drops its oldest.
    pub fn push(&self, value: &[u8], make_room: bool) -> Result<()> {
        self.update_with(&[], value, if make_room { Update::Exist as u64 } else { 0 })
    }

    /// Takes the next value from a queue or stack, `None` when it is empty.
    pub fn pop(&self) -> Result<Option<Vec<u8>>> {
        self.lookup_and_delete(&[])
    }

    /// The key after `key`, the first for `None`; `None` at the end. After a key that is gone the walk starts again.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        self.known()?;
        if let Some(key) = key {
            self.check("a key", self.key_size(), key.len())?;
        }
        let mut next = vec![0; self.key_size()];
        match self.handle.next_key(key, &mut next) {
            Ok(()) => Ok(Some(next)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(self.error("walk map", e)),
        }
    }

    /// Walks keys and values, by batches where the kernel can for this type, else key by key.
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(self)
    }

    /// Copies every element: `(key, value)`.
    pub fn entries(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.iter().collect()
    }

    /// One step of a batch walk: up to `count` elements. Start with `None`, go on with [`Batch::cursor`].
    pub fn lookup_batch(&self, cursor: Option<&[u8]>, count: usize) -> Result<Batch> {
        self.known()?;
        self.batch(cursor, count, false).map_err(|e| self.error("read map by batch", e))
    }

    /// [`Map::lookup_batch`] that takes the elements out.
    pub fn lookup_and_delete_batch(&self, cursor: Option<&[u8]>, count: usize) -> Result<Batch> {
        self.known()?;
        self.batch(cursor, count, true).map_err(|e| self.error("take from map by batch", e))
    }

    fn batch(&self, cursor: Option<&[u8]>, count: usize, delete: bool) -> io::Result<Batch> {
        let (key_len, value_len) = (self.key_size(), self.value_len());
        let mut next = vec![0; self.handle.cursor_len()];
        let mut keys = vec![0; key_len * count];
        let mut values = vec![0; value_len * count];
        let (filled, result) = self.handle.lookup_batch(cursor, &mut next, &mut keys, &mut values, delete, 0);
        let end = match result {
            Ok(()) => false,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => true,
            Err(e) => return Err(e),
        };
        keys.truncate(filled as usize * key_len);
        values.truncate(filled as usize * value_len);
        Ok(Batch { key_len, value_len, keys, values, cursor: (!end).then_some(next) })
    }

    /// Sets many elements with one call where the kernel can (5.6 and by type), else one by one. `keys` and `values` are
    /// the elements one behind the other. On an error some may have been set.
    pub fn update_batch(&self, keys: &[u8], values: &[u8], how: Update) -> Result<()> {
        self.known()?;
        let count = self.count_of("keys", keys)?;
        self.check("the values of these keys", count * self.value_len(), values.len())?;
        if count == 0 {
            return Ok(());
        }
        match self.handle.update_batch(keys, values, how as u64) {
            (_, Ok(())) => Ok(()),
            (_, Err(e)) if lacks_batch(&e) => {
                let value_len = self.value_len().max(1);
                keys.chunks(self.key_size()).zip(values.chunks(value_len)).try_for_each(|(k, v)| self.update(k, v, how))
            }
            (_, Err(e)) => Err(self.error("write map by batch", e)),
        }
    }

    /// Deletes many keys with one call where the kernel can, else one by one; keys that are not there are passed over.
    /// Returns how many were deleted.
    pub fn delete_batch(&self, keys: &[u8]) -> Result<usize> {
        self.known()?;
        let mut rest = keys;
        let mut deleted = 0;
        self.count_of("keys", keys)?;
        while !rest.is_empty() {
            match self.handle.delete_batch(rest) {
                (_, Ok(())) => return Ok(deleted + rest.len() / self.key_size()),
                // The kernel stops at the first key that is not there and says how far it came.
                (done, Err(e)) if e.raw_os_error() == Some(libc::ENOENT) => {
                    deleted += done as usize;
                    rest = rest.get((done as usize + 1) * self.key_size()..).unwrap_or(&[]);
                }
                (_, Err(e)) if lacks_batch(&e) => {
                    for key in rest.chunks(self.key_size()) {
                        deleted += usize::from(self.delete(key)?);
                    }
                    return Ok(deleted);
                }
                (_, Err(e)) => return Err(self.error("delete from map by batch", e)),
            }
        }
        Ok(deleted)
    }

    fn count_of(&self, what: &'static str, keys: &[u8]) -> Result<usize> {
        match self.key_size() {
            0 => Err(self.error("use batches on map", io::Error::from_raw_os_error(libc::EINVAL))),
            size if keys.len().is_multiple_of(size) => Ok(keys.len() / size),
            size => Err(Error::Size {
                map: self.name.clone(),
                what,
                expected: keys.len().next_multiple_of(size),
                given: keys.len(),
            }),
        }
    }

    /// From now on only programs may write to it. Not undone by anything.
    pub fn freeze(&self) -> Result<()> {
        self.handle.freeze().map_err(|e| self.error("freeze map", e))
    }

    /// Gives it a path in a BPF file system, so that it outlives this process.
    pub fn pin(&self, path: &Path) -> Result<()> {
        pin::pin(self.fd(), path, || format!("map {}", self.name))
    }

    /// Whether this is a map whose elements can be read and written. Of a type that is newer than this program nobody here
    /// knows how many bytes the kernel moves for a value (of per-CPU types it is more than the value's size).
    fn known(&self) -> Result<()> {
        match self.map_type() {
            Some(_) => Ok(()),
            None => Err(Error::Unsupported {
                what: format!("elements of map {}", self.name),
                why: format!("its type {} is newer than this skep", self.raw_type),
                next: "use a newer skep, or bpftool map dump".into(),
            }),
        }
    }

    fn check(&self, what: &'static str, expected: usize, given: usize) -> Result<()> {
        if expected == given { Ok(()) } else { Err(Error::Size { map: self.name.clone(), what, expected, given }) }
    }

    fn error(&self, action: &'static str, error: io::Error) -> Error {
        Error::kernel(action, self.name.clone(), error)
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

/// Kernels before 5.11 count map memory against a limit that is 64 KiB by default; they answer `EPERM`. Newer ones never
/// do so for root, and asking costs nothing but a second call.
fn create_raising_memlock(attr: &sys::map::Create, value_len: usize) -> io::Result<sys::map::Handle> {
    match sys::map::create(attr, value_len) {
        Err(e) if e.raw_os_error() == Some(libc::EPERM) && sys::raise_memlock() => sys::map::create(attr, value_len),
        result => result,
    }
}

fn create_advice(params: &MapParams<'_>, errno: Errno) -> String {
    match errno.0 {
        libc::EINVAL if params.max_entries == 0 => "set max_entries".into(),
        libc::EINVAL if matches!(params.map_type, MapType::Ringbuf | MapType::UserRingbuf) => {
            "its size must be a power of two and a multiple of the page size".into()
        }
        libc::EINVAL => {
            "the kernel does not know this map type or one of its flags, or does not take these sizes".into()
        }
        libc::E2BIG => "make it smaller".into(),
        libc::ENOMEM => "the machine or the memory cgroup has no room for it; make it smaller".into(),
        libc::EPERM => "this takes root or CAP_BPF (and CAP_NET_ADMIN for some types)".into(),
        _ => String::new(),
    }
}

fn lacks_batch(error: &io::Error) -> bool {
    // 524: the type has no batches. EINVAL: a kernel without the command (or a wrong argument, which the way key by key
    // will then tell).
    matches!(error.raw_os_error(), Some(524 | libc::EINVAL | libc::EOPNOTSUPP))
}

/// Some elements of a walk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    key_len: usize,
    value_len: usize,
    /// The keys, one behind the other.
    pub keys: Vec<u8>,
    /// The values, one behind the other.
    pub values: Vec<u8>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<Vec<u8>>,
}

impl Batch {
    /// The elements.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let count = self.keys.len().checked_div(self.key_len).unwrap_or(0);
        (0..count).filter_map(|i| {
            Some((
                self.keys.get(i * self.key_len..(i + 1) * self.key_len)?,
                self.values.get(i * self.value_len..(i + 1) * self.value_len)?,
            ))
        })
    }
}

/// Walk over a map, see [`Map::iter`].
#[derive(Debug)]
pub struct Iter<'m> {
    map: &'m Map,
    way: Way,
    /// Elements still to be given out, last first.
    ready: Vec<(Vec<u8>, Vec<u8>)>,
    /// Steps left before the walk ends for good.
    budget: u64,
}

#[derive(Debug)]
enum Way {
    Batch { cursor: Option<Vec<u8>>, count: usize, started: bool },
    Keys { last: Option<Vec<u8>> },
    Done,
}

/// Bytes of elements to ask for at once.
const BATCH_BYTES: usize = 256 << 10;

impl<'m> Iter<'m> {
    fn new(map: &'m Map) -> Iter<'m> {
        let element = (map.key_size() + map.value_len()).max(1);
        let most = (BATCH_BYTES / element).clamp(16, 4096).min((map.max_entries as usize).max(1));
        let way = match map.map_type() {
            // These have keys but nothing to look up, or no keys.
            _ if map.key_size() == 0 => Way::Done,
            // The first step tells why.
            None => Way::Keys { last: None },
            // The kernel's batch of array-likes visits by key anyway; for all others it falls back by itself.
            _ => Way::Batch { cursor: None, count: most, started: false },
        };
        Iter { map, way, ready: Vec::new(), budget: u64::from(map.max_entries) + Map::WALK_LIMIT }
    }

    fn step_batch(&mut self, cursor: Option<Vec<u8>>, count: usize, started: bool) -> Result<()> {
        match self.map.batch(cursor.as_deref(), count, false) {
            Ok(batch) => {
                self.ready = batch.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
                self.ready.reverse();
                self.way = match batch.cursor {
                    Some(next) => Way::Batch { cursor: Some(next), count, started: true },
                    None => Way::Done,
                };
                Ok(())
            }
            Err(e) if e.raw_os_error() == Some(libc::ENOSPC) && count < 1 << 22 => {
                // One bucket holds more than was asked for; nothing was lost, ask for more from the same place.
                self.way = Way::Batch { cursor, count: count * 4, started };
                Ok(())
            }
            Err(e) if !started && lacks_batch(&e) => {
                self.way = Way::Keys { last: None };
                Ok(())
            }
            Err(e) => Err(self.map.error("walk map", e)),
        }
    }

    fn step_keys(&mut self, last: Option<Vec<u8>>) -> Result<()> {
        let Some(key) = self.map.next_key(last.as_deref())? else {
            self.way = Way::Done;
            return Ok(());
        };
        // A key may be gone by now (ENOENT), or its slot be empty, or its type not tell values: passed over but for the last.
        if let Some(value) = self.map.lookup(&key)? {
            self.ready.push((key.clone(), value));
        }
        self.way = Way::Keys { last: Some(key) };
        Ok(())
    }
}

impl Iterator for Iter<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(element) = self.ready.pop() {
                return Some(Ok(element));
            }
            self.budget = self.budget.checked_sub(1)?;
            let step = match std::mem::replace(&mut self.way, Way::Done) {
                Way::Batch { cursor, count, started } => self.step_batch(cursor, count, started),
                Way::Keys { last } => self.step_keys(last),
                Way::Done => return None,
            };
            if let Err(e) = step {
                self.way = Way::Done;
                return Some(Err(e));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_a_type_that_is_not_known_are_refused() {
        if !crate::privilege::Capabilities::current().has("CAP_SYS_ADMIN") {
            return eprintln!("needs root, not run");
        }
        // As if a later kernel had made it: its values are larger than it says.
        let number = 0x4242;
        assert_eq!((MapType::from_u32(number), value_len(number, 8).expect("a length")), (None, 0));
        let params = MapParams::new("later", MapType::PercpuArray, 4, 8, 4);
        let map = Map { raw_type: number, ..Map::create(&params).expect("a map") };
        let (key, value) = ([0; 4], vec![0; map.value_len()]);
        let mut room = value.clone();
        let errors = [
            map.lookup(&key).map(drop),
            map.lookup_into(&key, &mut room).map(drop),
            map.lookup_and_delete(&key).map(drop),
            map.update(&key, &value, Update::Any),
            map.delete(&key).map(drop),
            map.next_key(None).map(drop),
            map.lookup_batch(None, 1).map(drop),
            map.lookup_and_delete_batch(None, 1).map(drop),
            map.update_batch(&key, &value, Update::Any),
            map.delete_batch(&key).map(drop),
            map.push(&value, false),
            map.spread(&[0; 8]).map(drop),
            map.entries().map(drop),
        ];
        for (index, result) in errors.into_iter().enumerate() {
            let error = result.expect_err("refused").to_string();
            assert!(error.contains("its type 16962 is newer than this skep"), "{index}: {error}");
        }
        assert!(!map.is_readable());
        assert_eq!(map.info().expect("what the kernel tells").value_size, 8);
    }
}
