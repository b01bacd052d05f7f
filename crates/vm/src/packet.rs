//! A packet in memory below 4 GB, with room before and behind it, so that the 32-bit fields of the kernel's context structs
//! can hold its true address.
#![expect(unsafe_code, reason = "memory below 4 GB comes from mmap")]

use crate::env::Env;
use crate::fault::RegionView;
use crate::memory::RegionName;
use skep_isa::NarrowSize;
use std::io;

/// Bytes in front of a packet that `bpf_xdp_adjust_head` can take. Source: `XDP_PACKET_HEADROOM`.
pub const HEADROOM: usize = 256;

/// A packet.
#[derive(Debug)]
pub struct Packet {
    /// Start of the mapping, below 4 GB.
    base: u32,
    /// Bytes mapped.
    capacity: u32,
    /// Start of the metadata, from `base`; at most `data`.
    meta: u32,
    /// Start of the packet, from `base`.
    data: u32,
    /// One past its last byte, from `base`.
    end: u32,
    /// Whether programs may write it.
    pub(crate) writable: bool,
}

impl Packet {
    /// Room for packets of up to `capacity` bytes, with [`HEADROOM`] before them.
    pub fn with_capacity(capacity: usize) -> io::Result<Packet> {
        let bytes = capacity.saturating_add(HEADROOM).next_multiple_of(4096);
        let size = u32::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        #[cfg(target_arch = "x86_64")]
        const LOW: libc::c_int = libc::MAP_32BIT;
        #[cfg(not(target_arch = "x86_64"))]
        const LOW: libc::c_int = 0;
        // SAFETY: a fresh private mapping, at no address of ours.
        let at = unsafe {
            libc::mmap(
                std::ptr::with_exposed_provenance_mut(if LOW == 0 { 0x1000_0000 } else { 0 }),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | LOW,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(base) = u32::try_from(at.expose_provenance()).ok().filter(|base| base.checked_add(size).is_some())
        else {
            // SAFETY: the mapping made above, which nothing refers to.
            unsafe { libc::munmap(at, bytes) };
            return Err(io::Error::other("no memory below 4 GB is left for packets"));
        };
        let start = HEADROOM as u32;
        Ok(Packet { base, capacity: size, meta: start, data: start, end: start, writable: true })
    }

    /// Puts a packet in.
    pub fn set(&mut self, bytes: &[u8]) -> io::Result<()> {
        let start = HEADROOM as u32;
        let end =
            u32::try_from(bytes.len()).ok().and_then(|len| len.checked_add(start)).filter(|end| *end <= self.capacity);
        let Some(end) = end else {
            return Err(io::Error::other(format!(
                "a packet of {} bytes, room for {}",
                bytes.len(),
                self.capacity - start
            )));
        };
        (self.meta, self.data, self.end) = (start, start, end);
        // SAFETY: `data..end` lies within the mapping, which is this packet's alone.
        unsafe { self.pointer(start).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: as in `set`; `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.pointer(self.data), (self.end - self.data) as usize) }
    }

    /// The address of `data`.
    pub fn data(&self) -> u32 {
        self.base + self.data
    }

    /// The address of `data_end`.
    pub fn data_end(&self) -> u32 {
        self.base + self.end
    }

    /// The address of `data_meta`.
    pub fn data_meta(&self) -> u32 {
        self.base + self.meta
    }

    fn pointer(&self, at: u32) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut((self.base + at) as usize)
    }

    /// The part (packet or metadata) that holds the whole access: its start and length.
    pub(crate) fn holds(&self, addr: u64, size: u64) -> Option<(u64, u64)> {
        let part = |from: u32, to: u32| {
            let (start, len) = (u64::from(self.base + from), u64::from(to - from));
            let at = addr.checked_sub(start)?;
            (at.checked_add(size)? <= len).then_some((start, len))
        };
        part(self.data, self.end).or_else(|| part(self.meta, self.data))
    }

    /// For the message of a fault.
    pub(crate) fn view(&self) -> Vec<RegionView> {
        let view =
            |name, from: u32, to: u32| RegionView { name, start: (self.base + from).into(), len: (to - from).into() };
        let mut parts = vec![view(RegionName::Packet, self.data, self.end)];
        if self.meta < self.data {
            parts.push(view(RegionName::Metadata, self.meta, self.data));
        }
        parts
    }
}

/// The packet load of classic BPF: a number in network byte order, `None` outside the packet.
pub(crate) fn load(env: &Env, off: i32, size: NarrowSize) -> Option<u32> {
    let packet = env.packet.as_ref()?.bytes();
    let bytes = packet.get(usize::try_from(off).ok()?..)?;
    match size {
        NarrowSize::B => bytes.first().map(|&byte| byte.into()),
        NarrowSize::H => bytes.first_chunk().map(|&bytes| u16::from_be_bytes(bytes).into()),
        NarrowSize::W => bytes.first_chunk().map(|&bytes| u32::from_be_bytes(bytes)),
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `with_capacity`, which nothing refers to any more.
        unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(self.base as usize), self.capacity as usize) };
    }
}
