//! What the kernel tells about its objects: the fixed fields of `bpf_map_info`, `bpf_prog_info`, `bpf_btf_info` and
//! `bpf_link_info`, decoded. Fields that an older kernel does not fill are 0.
//!
//! Source: `include/uapi/linux/bpf.h`. Links are decoded in [`crate::inspect`].

use crate::error::{Error, Result};
use crate::sys::obj;
use skep_abi::{MapType, ProgramType};
use std::os::fd::BorrowedFd;

/// Reads integers at fixed places of a struct; what lies outside reads as 0.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn u32(&self, at: usize) -> u32 {
        self.0.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        self.0.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
    }

    pub(crate) fn text(&self, at: usize, len: usize) -> String {
        text(self.0.get(at..at + len).unwrap_or(&[]))
    }
}

/// A C string in a buffer, as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(&[])).into_owned()
}

/// What the kernel tells about a map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapInfo {
    /// Id.
    pub id: u32,
    /// Number of the type.
    pub raw_type: u32,
    /// The type, `None` for one newer than this program.
    pub map_type: Option<MapType>,
    /// Up to 15 bytes.
    pub name: String,
    /// Bytes.
    pub key_size: u32,
    /// Bytes, of one CPU's for per-CPU maps.
    pub value_size: u32,
    /// Elements, or bytes for ring buffers.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// Interface it is offloaded to, else 0.
    pub ifindex: u32,
    /// BTF object with the types of key and value, 0 for none.
    pub btf_id: u32,
    /// In that BTF.
    pub btf_key_type_id: u32,
    /// In that BTF.
    pub btf_value_type_id: u32,
    /// For struct_ops.
    pub btf_vmlinux_value_type_id: u32,
    /// Meaning depends on the type.
    pub map_extra: u64,
}

/// Bytes of `struct bpf_map_info` that are read.
const MAP_INFO: usize = 88;

pub(crate) fn map_info(fd: BorrowedFd<'_>) -> Result<MapInfo> {
    let bytes: [u8; MAP_INFO] = obj::plain_info(fd).map_err(|e| Error::kernel("ask about", "a map", e))?;
    let f = Fields(&bytes);
    Ok(MapInfo {
        raw_type: f.u32(0),
        map_type: MapType::from_u32(f.u32(0)),
        id: f.u32(4),
        key_size: f.u32(8),
        value_size: f.u32(12),
        max_entries: f.u32(16),
        flags: f.u32(20),
        name: f.text(24, 16),
        ifindex: f.u32(40),
        btf_vmlinux_value_type_id: f.u32(44),
        btf_id: f.u32(64),
        btf_key_type_id: f.u32(68),
        btf_value_type_id: f.u32(72),
        map_extra: f.u64(80),
    })
}

/// What the kernel tells about a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramInfo {
    /// Id.
    pub id: u32,
    /// Number of the type.
    pub raw_type: u32,
    /// The type, `None` for one newer than this program.
    pub prog_type: Option<ProgramType>,
    /// Up to 15 bytes; see [`crate::Program::full_name`].
    pub name: String,
    /// Hash over its instructions.
    pub tag: [u8; 8],
    /// Bytes of machine code, 0 when interpreted or not permitted to know.
    pub jited_len: u32,
    /// Bytes of the instructions as the verifier left them.
    pub xlated_len: u32,
    /// When it was loaded, nanoseconds since boot.
    pub load_time_ns: u64,
    /// User that loaded it.
    pub uid: u32,
    /// Maps it uses, by id.
    pub map_ids: Vec<u32>,
    /// Whether its licence is compatible with the GPL.
    pub gpl_compatible: bool,
    /// Interface it is offloaded to, else 0.
    pub ifindex: u32,
    /// Its own BTF object, 0 for none.
    pub btf_id: u32,
    /// Functions (the entry and its subprograms) it has records for.
    pub func_count: u32,
    /// Source lines it has records for.
    pub line_count: u32,
    /// Time spent in it while statistics were on, see [`crate::stats`].
    pub run_time_ns: u64,
    /// Runs while statistics were on.
    pub run_count: u64,
    /// Runs that did not happen because the program was already running on that CPU.
    pub recursion_misses: u64,
    /// Instructions the verifier walked over (5.16).
    pub verified_insns: u32,
    /// BTF object that `attach_btf_id` is an id in; a program's own for freplace.
    pub attach_btf_obj_id: u32,
    /// What it was made for: kernel function, tracepoint typedef, ...
    pub attach_btf_id: u32,
}

/// Bytes of `struct bpf_prog_info` (6.0; later ones added nothing), and where its fields are.
pub(crate) const PROG_INFO: usize = 232;
pub(crate) mod prog_at {
    pub(crate) const XLATED_LEN: usize = 20;
    pub(crate) const XLATED: usize = 32;
    pub(crate) const JITED_LEN: usize = 16;
    pub(crate) const JITED: usize = 24;
    pub(crate) const NR_MAP_IDS: usize = 52;
    pub(crate) const MAP_IDS: usize = 56;
    pub(crate) const FUNC_INFO_REC: usize = 132;
    pub(crate) const FUNC_INFO: usize = 136;
    pub(crate) const NR_FUNC_INFO: usize = 144;
    pub(crate) const NR_LINE_INFO: usize = 148;
    pub(crate) const LINE_INFO: usize = 152;
    pub(crate) const LINE_INFO_REC: usize = 172;
}

pub(crate) fn program_info(fd: BorrowedFd<'_>) -> Result<ProgramInfo> {
    let fail = |e| Error::kernel("ask about", "a program", e);
    let bytes: [u8; PROG_INFO] = obj::plain_info(fd).map_err(fail)?;
    let f = Fields(&bytes);
    let map_count = f.u32(prog_at::NR_MAP_IDS) as usize;
    let mut map_ids = Vec::new();
    if map_count > 0 {
        let (_, buffers) = obj::program_parts(
            fd,
            &[obj::Part {
                address_at: prog_at::MAP_IDS,
                count_at: prog_at::NR_MAP_IDS,
                element: 4,
                count: map_count,
                record_at: None,
            }],
        )
        .map_err(fail)?;
        map_ids = buffers.first().map(|b| b.chunks_exact(4).map(|c| Fields(c).u32(0)).collect()).unwrap_or_default();
    }
    let mut tag = [0; 8];
    tag.copy_from_slice(&bytes[8..16]);
    Ok(ProgramInfo {
        raw_type: f.u32(0),
        prog_type: ProgramType::from_u32(f.u32(0)),
        id: f.u32(4),
        tag,
        jited_len: f.u32(prog_at::JITED_LEN),
        xlated_len: f.u32(prog_at::XLATED_LEN),
        load_time_ns: f.u64(40),
        uid: f.u32(48),
        map_ids,
        name: f.text(64, 16),
        ifindex: f.u32(80),
        gpl_compatible: f.u32(84) & 1 == 1,
        btf_id: f.u32(128),
        func_count: f.u32(prog_at::NR_FUNC_INFO),
        line_count: f.u32(prog_at::NR_LINE_INFO),
        run_time_ns: f.u64(192),
        run_count: f.u64(200),
        recursion_misses: f.u64(208),
        verified_insns: f.u32(216),
        attach_btf_obj_id: f.u32(220),
        attach_btf_id: f.u32(224),
    })
}

/// What the kernel tells about a BTF object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BtfInfo {
    /// Id.
    pub id: u32,
    /// Bytes.
    pub size: u32,
    /// `vmlinux`, a module's name, or empty.
    pub name: String,
    /// Whether it is the kernel's or a module's.
    pub kernel: bool,
}

/// Bytes of `struct bpf_btf_info`.
pub(crate) const BTF_INFO: usize = 32;

pub(crate) fn btf_info(fd: BorrowedFd<'_>) -> Result<BtfInfo> {
    let (bytes, name) = obj::btf_name(fd).map_err(|e| Error::kernel("ask about", "a BTF object", e))?;
    let f = Fields(&bytes);
    Ok(BtfInfo { size: f.u32(8), id: f.u32(12), name: text(&name), kernel: f.u32(28) != 0 })
}
